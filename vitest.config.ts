import { defineConfig } from "vitest/config"

/**
 * Files that run whole programs: the built command line, the HTTP API over real sockets, databases that go away, and everything in search of secrets. Each has
 * a working directory and processes of its own.
 */
const processes = [
  "test/cli/{canary,config,dispatch,egress,enqueue,listen,operate,secrets,serve,worker}.test.ts",
  "test/examples/demo.test.ts",
  "test/outbox/{DeliveryWorker.database,Outbox.unavailable}.test.ts",
  "test/secrets/*.test.ts",
  "test/server/ApiServer.{access,errors,routes,slow,sockets}.test.ts",
  "test/readme.test.ts"
]

export default defineConfig({
  test: {
    testTimeout: 60_000,
    globalSetup: ["test/support/globalSetup.ts"],
    // Threads start faster than processes. By default a machine of two processors gets one worker, and the command line's tests mostly wait for its processes.
    // The modules' tests share what they have loaded (`--no-isolate`): 47 s instead of 77 s. Hence as many threads at least as at most: Vitest would end idle
    // ones, and take that for a failure.
    pool: "threads",
    minWorkers: 3,
    maxWorkers: 3,
    // A test that waits for ever on a socket must not hold the run.
    teardownTimeout: 5000,
    projects: [
      { extends: true, test: { name: "processes", include: processes } },
      { extends: true, test: { name: "modules", include: ["test/**/*.test.ts"], exclude: processes } }
    ]
  }
})
