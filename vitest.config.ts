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
    // As many at least as at most: Vitest would end idle ones that aren't isolated, and take that for a failure.
    pool: "threads",
    minWorkers: 3,
    maxWorkers: 3,
    // A test that waits for ever on a socket must not hold the run.
    teardownTimeout: 5000,
    projects: [
      { extends: true, test: { name: "processes", include: processes } },
      {
        extends: true,
        test: {
          name: "modules",
          include: ["test/**/*.test.ts"],
          exclude: processes,
          // Loading the modules anew for each file took half of the run: 77 s against 47 s.
          poolOptions: { threads: { isolate: false } }
        }
      }
    ]
  }
})
