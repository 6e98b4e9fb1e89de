import { defineConfig } from "vitest/config"

/** Files that run the built command line: each has a working directory and processes of its own. */
const processes = [
  "test/cli/{config,dispatch,enqueue,listen,operate,secrets,serve,worker}.test.ts",
  "test/readme.test.ts"
]

export default defineConfig({
  test: {
    testTimeout: 30_000,
    globalSetup: ["test/support/globalSetup.ts"],
    // Threads start faster than processes. By default a machine of two processors gets one worker, and the command line's tests mostly wait for its processes.
    pool: "threads",
    minWorkers: 1,
    maxWorkers: 3,
    // A test that waits for ever on a socket must not hold the run.
    teardownTimeout: 5000,
    projects: [
      { extends: true, test: { name: "processes", include: processes } },
      { extends: true, test: { name: "modules", include: ["test/**/*.test.ts"], exclude: processes } }
    ]
  }
})
