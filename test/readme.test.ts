import { describe, expect, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { defaults } from "../src/Defaults.js"

const readme = readFileSync("README.md", "utf8")
const blocks = (language: string): ReadonlyArray<string> =>
  Array.from(readme.matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, "gs")), ([, text]) => text!)

describe("README", () => {
  it("is short", () => {
    expect(readme.split("\n").length).toBeLessThan(200)
  })

  it("shows the examples that are compiled and run here", () => {
    const [naive, program, outbox, retries, ...others] = blocks("ts")
    const file = (name: string) => readFileSync(`test/examples/${name}`, "utf8")
    for (const line of naive!.trim().split("\n")) expect(file("naive.ts")).toContain(line)
    expect(program).toBe(file("program.ts"))
    expect(outbox).toBe(file("outbox.ts"))
    expect(retries).toBe(file("retries.test.ts"))
    expect(others).toEqual([])
  })

  it("names scripts and files that exist", () => {
    const scripts = (JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> }).scripts
    for (const [, name] of readme.matchAll(/npm run (\w+)/g)) expect(scripts).toHaveProperty(name!)
    for (const [, path] of readme.matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
      expect(() => readFileSync(path!)).not.toThrow()
    }
  })

  it("gives the defaults of the code", () => {
    expect(readme).toContain(`| \`WEBHOOKS_MAX_RETRIES\` | \`${defaults.maxRetries}\` |`)
    expect(readme).toContain(`| \`WEBHOOKS_CORRELATION_HEADER\` | \`${defaults.correlationHeader}\` |`)
    expect([defaults.baseDelay, defaults.maxDelay, defaults.attemptTimeout, defaults.deadline]).toEqual([
      "1 second",
      "30 seconds",
      "10 seconds",
      "60 seconds"
    ])
  })

  it("its commands work as they stand there", () => {
    const commands = blocks("sh").find((text) => text.includes("npx effect-webhooks"))!
    const directory = mkdtempSync(join(tmpdir(), "readme-"))
    const script = [
      "set -eu -o pipefail",
      "trap 'kill $(jobs -p) 2>/dev/null' EXIT",
      commands.replaceAll("npx effect-webhooks", `'${process.execPath}' '${resolve("dist/cli/main.js")}'`)
    ].join("\n")
    const { status, stderr, stdout } = spawnSync("bash", ["-c", script], {
      cwd: directory,
      encoding: "utf8",
      env: { PATH: process.env.PATH, HOME: directory }
    })
    rmSync(directory, { recursive: true })
    expect(status, stderr).toBe(0)
    expect(stdout).toContain("\"outcome\":\"delivered\"")
    expect(stdout).toContain("\"attempts\":3")
  })
})
