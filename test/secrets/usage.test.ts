/** The canary test of wrong usage: secrets in the wrong place of the command line, within this process. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { CliError } from "../../src/cli/CliError.js"
import { program } from "../../src/cli/Program.js"
import { canaries } from "./canaries.js"
import { watch } from "./watching.js"

const whsec = canaries["whsec_ secret"]
const token = canaries["bearer token"]
const login = `${canaries["database user"]}:${canaries["database password"]}`

const lines: ReadonlyArray<ReadonlyArray<string>> = [
  [whsec],
  [token],
  [`--${token}`],
  [`-${token}`],
  ["help", token],
  ["help", "config", whsec],
  ["dispatch", whsec],
  ["dispatch", `/nowhere/${whsec}`],
  ["dispatch", "a", token],
  ["dispatch", `--token=${token}`],
  ["enqueue", `--database=postgres://${login}/@h/x`],
  ["migrate", "--database", `postgres://${login}/@h/x`],
  ["migrate", "--database", login],
  ["stats", "--database", `file:/nowhere/at/all.db`],
  ["sign", "--id", whsec, "--timestamp", "1", "/dev/null"],
  ["sign", "--id", "m", "--timestamp", token],
  ["sign", "--id", "m", "--timestamp", "1", "--secret", `${whsec}!`, "/dev/null"],
  ["sign", "--id", "m", "--timestamp", "1", "--secret", whsec, `--secrets=${token}`],
  ["sign", "--id", "m", "--timestamp", "1", "--secret", canaries["ed25519 secret"].slice(0, 60), "/dev/null"],
  ["sign", "--id", "m", "--timestamp", "1", "--secret", whsec, whsec],
  ["verify", "--secret", `whpk_${token}`, "/dev/null"],
  ["verify", "--secret", whsec, "-H", `Authorization ${token}`, "/dev/null"],
  ["verify", "--secret", whsec, "-H", `Bad Name: ${token}`, "/dev/null"],
  ["verify", "--secret", whsec, "-H", `webhook-id: a\r\n${token}`, "/dev/null"],
  ["verify", "--tolerance", token],
  ["verify", "--now", token],
  ["listen", "--port", token],
  ["listen", "--respond", token],
  ["listen", "--delay", token],
  ["listen", "--port", "0", "--secret", `${whsec}!`],
  ["deliveries", "list", "--state", token],
  ["deliveries", "list", "--limit", token],
  ["deliveries", "list", "--type", `${token} `],
  ["deliveries", "show", whsec],
  ["deliveries", "replay", token],
  ["deliveries", "cancel", token],
  ["messages", "show", whsec],
  ["endpoints", "test", whsec],
  ["endpoints", "enable", whsec],
  ["endpoints", "disable", whsec, "--reason", "x"],
  ["endpoints", "recover", "a", "--since", token],
  ["purge", "--older-than", token],
  ["worker", token],
  ["serve", "--port", token],
  ["secret", "generate", "--kind", token],
  ["secret", token],
  ["config", "check", token],
  ["egress", "check"],
  ["egress", "check", whsec, token]
]

describe("no secret shows of", () => {
  it.effect.each(
    lines.flatMap((line) => [line, [...line, "--json"]]).map((line) => ({ line, what: line.slice(0, 2).join(" ") }))
  )(
    "wrong usage of $what",
    ({ line }) => {
      const to = watch()
      return Effect.gen(function*() {
        const exit = yield* Effect.exit(program(line))
        to.see("failure", exit)
        const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        expect(error).toBeInstanceOf(CliError)
        if (!(error instanceof CliError)) return
        expect([1, 2]).toContain(error.exitCode)
        for (const one of error.lines) expect(one).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u)
        to.see("lines", error.lines.join("\n"))
        to.see("json", error.json)
        to.expectClean()
      }).pipe(Effect.provide(to.layer), Effect.withConfigProvider(ConfigProvider.fromMap(new Map())))
    }
  )
})
