import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 20_000,
    globalSetup: ["test/support/globalSetup.ts"],
    // Threads start faster than processes. By default a machine of two processors gets one worker, and the command line's tests mostly wait for its processes.
    pool: "threads",
    minWorkers: 1,
    maxWorkers: 3,
    // A test that waits for ever on a socket must not hold the run.
    teardownTimeout: 5000
  }
})
