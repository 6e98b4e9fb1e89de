import { rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it } from "vitest"
import { folder, json, run } from "./cli.js"

const config = JSON.stringify({
  OrderCreated: [
    { id: "shop", url: "https://hooks.example.com/a?token=HUSHHUSH", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" },
    { id: "old", url: "https://hooks.example.com/b", enabled: false, secret: "short" }
  ],
  "*": [{ id: "all", url: "https://hooks.example.com/c" }]
})

it("lists the endpoints", async () => {
  const ended = await run(["config", "check"], { env: { WEBHOOKS_CONFIG: config } })
  expect(ended).toMatchObject({ code: 0, err: "" })
  expect(ended.out.split("\n")).toEqual([
    "shop  enabled   signed    https://hooks.example.com/a  OrderCreated",
    "old   disabled  weak      https://hooks.example.com/b  OrderCreated",
    "all   enabled   unsigned  https://hooks.example.com/c  *",
    ""
  ])
})

it("lists them as JSON, from a file", async () => {
  writeFileSync(join(folder, "webhooks.json"), config)
  const ended = await run(["config", "check", "--json"], { env: { WEBHOOKS_CONFIG_FILE: "webhooks.json" } })
  expect(ended).toMatchObject({ code: 0, err: "" })
  expect(json(ended.out)).toEqual([
    { id: "shop", url: "https://hooks.example.com/a", events: ["OrderCreated"], enabled: true, signed: "signed" },
    { id: "old", url: "https://hooks.example.com/b", events: ["OrderCreated"], enabled: false, signed: "weak" },
    { id: "all", url: "https://hooks.example.com/c", events: ["*"], enabled: true, signed: "unsigned" }
  ])
})

it("refuses endpoints that could never sign, and times that are none", async () => {
  const expired = { value: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", expiresAt: "2020-01-01T00:00:00Z" }
  const env = {
    WEBHOOKS_CONFIG: JSON.stringify({ A: [{ url: "https://x.example", secrets: [expired] }] }),
    WEBHOOKS_TIMEOUT: "0s",
    WEBHOOKS_DEADLINE: "0s",
    WEBHOOKS_BASE_DELAY: "0s",
    WEBHOOKS_CORRELATION_HEADER: "Authorization"
  }
  const ended = await run(["config", "check", "--json"], { env })
  expect(ended.code).toBe(2)
  expect(json(ended.out)[0].errors.map(({ path }: { path: string }) => path).toSorted())
    .toEqual(["A[0].secrets", "WEBHOOKS_CORRELATION_HEADER", "WEBHOOKS_DEADLINE", "WEBHOOKS_TIMEOUT"])
})

it("says that there are none", async () => {
  const ended = await run(["config", "check", "--json"])
  expect(ended).toMatchObject({ code: 0, out: "" })
  expect(ended.err).toMatch(/^no endpoints are configured/)
})

it.each(["config check", "dispatch"])("%s tells every error at once, and no secret", async (command) => {
  const env = {
    WEBHOOKS_CONFIG: JSON.stringify({
      A: [{ url: "ftp://user:HUSHHUSH@x.example/" }, { url: "https://x.example", secret: "whsec_HUSHHUSH" }],
      "bad \u001b[31m": []
    }),
    WEBHOOKS_MAX_RETRIES: "many",
    WEBHOOKS_TIMEOUT: "HUSHHUSH",
    WEBHOOKS_LOG_LEVEL: "HUSHHUSH"
  }
  const people = await run([...command.split(" ")], { env, input: "{\"type\":\"A\",\"data\":1}" })
  expect(people).toMatchObject({ code: 2, out: "" })
  const machine = await run([...command.split(" "), "--json"], { env })
  expect(machine).toMatchObject({ code: 2, err: people.err })
  const { errors } = json(machine.out)[0]
  const lines = people.err.trimEnd().split("\n")
  expect(lines).toHaveLength(errors.length)
  for (const path of ["A[0].url", "A[1].secret", "WEBHOOKS_MAX_RETRIES", "WEBHOOKS_TIMEOUT", "WEBHOOKS_LOG_LEVEL"]) {
    expect(errors).toContainEqual({ path, message: expect.any(String) })
    expect(lines.some((line) => line.startsWith("effect-webhooks: ") && line.includes(`${path}: `))).toBe(true)
  }
  expect(people.err + machine.out).not.toContain("HUSH")
  expect(people.err + machine.out).not.toContain("\u001b")
})

it("takes neither name of the configuration from .env when the environment has one of them", async () => {
  writeFileSync(join(folder, ".env"), "WEBHOOKS_CONFIG='{\"A\":[]}'\n")
  writeFileSync(join(folder, "webhooks.json"), config)
  const ended = await run(["config", "check", "--json"], { env: { WEBHOOKS_CONFIG_FILE: "webhooks.json" } })
  rmSync(join(folder, ".env"))
  expect(ended).toMatchObject({ code: 0, err: "" })
  expect(json(ended.out)).toHaveLength(3)
})

it("a usage error is JSON, too, where JSON is asked for", async () => {
  expect(await run(["dispatch", "--json", "a", "b"])).toMatchObject({
    code: 2,
    out: "{\"errors\":[{\"message\":\"too many arguments for 'dispatch'. Expected 1 argument but got 2.\"}]}\n"
  })
})
