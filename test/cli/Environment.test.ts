import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { describe, expect, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll } from "vitest"
import * as Environment from "../../src/cli/Environment.js"
import { secretVariables } from "../../src/cli/HelpText.js"
import * as OutboxSettings from "../../src/cli/OutboxSettings.js"
import * as EgressDispatcher from "../../src/http/EgressDispatcher.js"

const folder = mkdtempSync(join(tmpdir(), "effect-webhooks-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let files = 0
const file = (content: string | Uint8Array): string => {
  const path = join(folder, String(files++))
  writeFileSync(path, content)
  return path
}

/** Runs with variables set, and gone afterwards. */
const within = <A, E>(variables: Readonly<Record<string, string>>, effect: Effect.Effect<A, E>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => Object.assign(process.env, variables)),
    () => Environment.withEnvironment(effect),
    () =>
      Effect.sync(() => {
        for (const name of Object.keys(variables)) delete process.env[name]
      })
  )

/** The error of a variable, as a command tells it. */
const refusal = (name: string, variables: Readonly<Record<string, string>>) =>
  Effect.map(Effect.flip(within(variables, Environment.secret(name))), (error) => error)

/** Those that the command line reads itself. */
const read = secretVariables.filter((name) => name !== "WEBHOOKS_PROXY")

describe.each(read)("%s", (name) => {
  it.effect("may stand in a file, one line break at its end apart", () =>
    Effect.gen(function*() {
      for (
        const [content, value] of [["hush", "hush"], ["hush\n", "hush"], ["\uFEFFhush\r\n", "hush"], [
          "a\nb\n\n",
          "a\nb\n"
        ]] as const
      ) {
        const set = { [`${name}_FILE`]: file(content) }
        expect(yield* within(set, Environment.secret(name))).toBe(value)
        expect(yield* within(set, Config.string(name))).toBe(value)
        expect(Redacted.value(yield* within(set, Config.redacted(name)))).toBe(value)
      }
      // Blank is unset, either of them.
      expect(yield* within({ [name]: "", [`${name}_FILE`]: file("hush") }, Environment.secret(name))).toBe("hush")
      expect(yield* within({ [name]: "hush", [`${name}_FILE`]: " " }, Environment.secret(name))).toBe("hush")
      expect(yield* within({}, Environment.secret(name))).toBeUndefined()
    }))

  it.effect("is refused where the file is none, too large or empty, and where both are set", () =>
    Effect.gen(function*() {
      const socket = join(folder, `${name}.sock`)
      const server = createServer().listen(socket)
      const cases = [
        [join(folder, "hush-missing"), "names a file that can't be read: no such file"],
        [folder, "names a file that can't be read: it is a directory"],
        ["/dev/zero", "names a file that can't be read: it is not a regular file"],
        [socket, "names a file that can't be read: it is not a regular file"],
        [file("hush".repeat(16_385)), "names a file larger than 64 KiB"],
        [file(""), "names an empty file"],
        [file(" \n"), "names an empty file"],
        [file(new Uint8Array([0x68, 0xff])), "names a file that is not UTF-8 text"]
      ] as const
      for (const [path, problem] of cases) {
        const error = yield* refusal(name, { [`${name}_FILE`]: path })
        expect(error).toMatchObject({ _tag: "CliError", exitCode: 2, lines: [`${name}_FILE: ${problem}`] })
      }
      server.close()
      expect(yield* within({ [`${name}_FILE`]: file("h".repeat(65_536)) }, Environment.secret(name))).toHaveLength(
        65_536
      )
      expect(yield* refusal(name, { [name]: "hush", [`${name}_FILE`]: file("hush") })).toMatchObject({
        exitCode: 2,
        lines: [`${name}: is set together with ${name}_FILE; set one of the two`]
      })
    }))
})

it.effect("what reads a variable otherwise is told of a file that can't be read, not of a variable that isn't set", () =>
  Effect.gen(function*() {
    for (const name of read) {
      const set = { [`${name}_FILE`]: join(folder, "missing") }
      for (
        const config of [Config.string(name), Config.map(Config.redacted(name), Redacted.value)].map(Config.option)
      ) {
        const error = yield* Effect.flip(within(set, config))
        expect(error).toMatchObject({ _op: "InvalidData", path: [`${name}_FILE`] })
      }
    }
  }))

it.effect("no client is made where the proxy's file can't be read: it would send past the proxy", () =>
  Effect.gen(function*() {
    const client = (variables: Readonly<Record<string, string>>) =>
      within(
        variables,
        Effect.exit(
          Effect.scoped(Layer.build(Layer.provide(EgressDispatcher.layerHttpClientFromEnv, NodeFileSystem.layer)))
        )
      )
    expect(yield* client({ WEBHOOKS_PROXY_FILE: join(folder, "missing") })).toMatchObject({
      cause: { error: { path: "WEBHOOKS_PROXY_FILE" } }
    })
    expect(yield* client({ WEBHOOKS_PROXY_FILE: file("hush") })).toMatchObject({
      cause: { error: { path: "WEBHOOKS_PROXY_FILE" } }
    })
    expect((yield* client({ WEBHOOKS_PROXY_FILE: file("http://user:hush@127.0.0.1:3128\n") }))._tag).toBe("Success")
  }))

it.effect("the settings of the outbox name the variable that is wrong", () =>
  Effect.gen(function*() {
    const missing = join(folder, "missing")
    const read = within({
      WEBHOOKS_API_TOKEN_FILE: missing,
      WEBHOOKS_DATABASE_URL_FILE: file("hush\n"),
      WEBHOOKS_API_HOSTS: "a.example, https://hush"
    }, OutboxSettings.config(undefined))
    const text = String(yield* Effect.flip(read))
    expect(text).toContain("WEBHOOKS_API_TOKEN_FILE")
    expect(text).toContain("WEBHOOKS_DATABASE_URL")
    expect(text).toContain("name 2: must be a host name")
    expect(text).not.toContain("hush")
    const found = yield* within({
      WEBHOOKS_API_TOKEN_FILE: file("0123456789abcdef-one\n0123456789abcdef-two\n"),
      WEBHOOKS_DATABASE_URL_FILE: file("postgres://u:p@h/d\n"),
      WEBHOOKS_API_HOSTS: " a.example, 192.0.2.1 2001:db8::1 "
    }, OutboxSettings.config(undefined))
    expect(found.tokens.map(Redacted.value)).toEqual(["0123456789abcdef-one", "0123456789abcdef-two"])
    expect(found.hosts).toEqual(["a.example", "192.0.2.1", "2001:db8::1"])
    expect(found.database).toMatchObject({ _tag: "Postgres", place: "h:5432" })
  }))

it.effect("an error of a variable shows nothing of the others", () =>
  Effect.gen(function*() {
    const either = yield* Effect.either(
      within({ WEBHOOKS_SECRET: "hush", WEBHOOKS_SECRET_FILE: "hush" }, Environment.secret("WEBHOOKS_SECRET"))
    )
    expect(Either.isLeft(either)).toBe(true)
    expect(JSON.stringify(either)).not.toContain("hush")
  }))
