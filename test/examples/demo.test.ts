import { expect, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"

it("the demo shows the main job", () => {
  const { status, stdout } = spawnSync(process.execPath, ["--import", "tsx", "test/examples/demo.ts"], {
    encoding: "utf8"
  })
  expect(status).toBe(0)
  const lines = stdout.split("\n")
  expect(lines.filter((line) => line.includes("signature valid"))).toHaveLength(3)
  expect(lines.filter((line) => line.includes("X-Correlation-ID: demo-order-1"))).toHaveLength(3)
  expect(stdout).toMatch(/attempt 1: failed \(503\)[^]*attempt 2: failed \(503\)[^]*attempt 3: delivered \(204\)/)
  expect(stdout).toContain("delivered to \"demo\" after 3 attempts, correlation id demo-order-1")
})
