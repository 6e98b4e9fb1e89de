import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 20_000,
    // A test that waits for ever on a socket must not hold the run.
    teardownTimeout: 5000
  }
})
