import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { readFileSync } from "node:fs"
import * as WebhookConfig from "../../src/webhooks/WebhookConfig.js"
import { errorsOf, good, one, printed, run, url } from "../support/webhookConfig.js"

interface Row {
  readonly id: string
  readonly name: string
  readonly raw?: string
  readonly raw_base64?: string
  readonly generate?: {
    readonly prefix: string
    readonly repeat: string
    readonly times: number
    readonly middle: string
    readonly repeatEnd: string
    readonly suffix: string
  }
  readonly expect: "accept" | "reject"
  readonly error?: { readonly path: ReadonlyArray<string | number>; readonly code: string; readonly pathText?: string }
  readonly mustNotPrint?: ReadonlyArray<string>
}

const rows = JSON.parse(readFileSync("../shared/corpora/bad-config.json", "utf8")) as ReadonlyArray<Row>

const textOf = ({ generate, raw, raw_base64 }: Row): string => {
  if (raw !== undefined) return raw
  if (raw_base64 !== undefined) return Buffer.from(raw_base64, "base64").toString("utf8")
  const { middle, prefix, repeat, repeatEnd, suffix, times } = generate!
  return prefix + repeat.repeat(times) + middle + repeatEnd.repeat(times) + suffix
}

describe("WebhookConfig: the document", () => {
  describe("the corpus", () => {
    it.effect.each(rows)("$id $name", (row) =>
      Effect.gen(function*() {
        const result = yield* run(textOf(row))
        expect(Either.isRight(result) ? "accept" : "reject").toBe(row.expect)
        if (Either.isRight(result) || row.error === undefined) return
        const error = result.left
        const { code, path, pathText } = row.error
        const at = (pathText ?? "").replace(/^WEBHOOKS_CONFIG\.?/, "").replace("\u202e", "\\u202e") ||
          (path.length === 0 ? "WEBHOOKS_CONFIG" : `${path[0]}[${path[1]}].${path[2]}`)
        expect(error.errors.map((item) => [item.path, item.code])).toContainEqual([at, code])
        expect(error.message).toContain(at)
        const text = printed(error)
        for (const secret of row.mustNotPrint ?? []) {
          for (let index = 0; index + 8 <= secret.length; index++) {
            expect(text).not.toContain(secret.slice(index, index + 8))
          }
        }
      }))
  })

  describe("the document", () => {
    it.effect("blank is no endpoints", () =>
      Effect.gen(function*() {
        for (const text of ["", " ", "\n\t \r\n", "{}"]) {
          expect((yield* WebhookConfig.parse(text)).endpoints).toEqual([])
        }
      }))

    it.effect("syntax errors say line and column and never quote", () =>
      Effect.gen(function*() {
        const rejected: ReadonlyArray<readonly [text: string, place: string]> = [
          ["{\n  \"E\": [SECRETSECRET]\n}", "line 2, column 9"],
          ["{\"E\":[]", "line 1, column 8"],
          ["{\"E\":[],}", "line 1, column 9"],
          ["{'E':[]}", "line 1, column 2"],
          ["{\"E\":[]}\r\n\r\n}", "line 3, column 1"],
          ["{\"E\":[01]}", "line 1, column 8"],
          ["{\"E\":[1.]}", "line 1, column 7"],
          ["{\"E\" []}", "line 1, column 6"],
          ["{\"E\":[1 2]}", "line 1, column 9"],
          ["{\"E\":[1}}", "line 1, column 8"],
          ["[}", "line 1, column 2"],
          ["{]", "line 1, column 2"],
          ["{,}", "line 1, column 2"],
          ["{\"a\":}", "line 1, column 6"],
          ["{1:2}", "line 1, column 2"],
          ["{\"E\":\"a\tb\"}", "line 1, column 6"],
          ["{\"E\":\"\\x41\"}", "line 1, column 6"],
          ["{\"E\":\"\\u12\"}", "line 1, column 6"],
          ["{\"E\":\"open}", "line 1, column 6"],
          ["{\"E\":[]/* c */}", "line 1, column 8"],
          ["\u00a0{}", "line 1, column 1"],
          ["undefined", "line 1, column 1"],
          ["{} {}", "line 1, column 4"]
        ]
        for (const [text, place] of rejected) {
          expect([text, yield* errorsOf(text)]).toEqual([
            text,
            [{ path: "WEBHOOKS_CONFIG", code: "json_syntax", message: `is not valid JSON at ${place}` }]
          ])
        }
      }))

    it.effect("depth is bounded without a stack: brackets by the million", () =>
      Effect.gen(function*() {
        const bomb = (open: string, close: string, times: number) => open.repeat(times) + close.repeat(times)
        const found = (text: string) =>
          Effect.map(errorsOf(text), (errors) => errors.map((error) => `${error.path} ${error.code}`))
        expect(yield* found(`{"E":${bomb("[", "]", 500_000)}}`)).toEqual(["WEBHOOKS_CONFIG json_depth", "E[0] type"])
        expect(yield* found("[".repeat(1_000_000))).toEqual([
          "WEBHOOKS_CONFIG json_syntax",
          "WEBHOOKS_CONFIG json_depth"
        ])
        expect(yield* found("{\"a\":".repeat(200_000))).toEqual([
          "WEBHOOKS_CONFIG json_syntax",
          "WEBHOOKS_CONFIG json_depth"
        ])
        expect(yield* found(bomb("[", "]", 17))).toEqual(["WEBHOOKS_CONFIG json_depth", "WEBHOOKS_CONFIG type"])
        expect(yield* found(bomb("[", "]", 16))).toEqual(["WEBHOOKS_CONFIG type"])
        expect(yield* found(`{"E":${"[{\"a\":".repeat(20)}}]`)).toEqual([
          "WEBHOOKS_CONFIG json_syntax",
          "WEBHOOKS_CONFIG json_depth"
        ])
      }))

    it.effect("size is counted in bytes, a byte order mark is named", () =>
      Effect.gen(function*() {
        const padded = (size: number, filler: string) => {
          const head = "{\"E\":[{\"url\":\"https://hooks.example.com/in\",\"description\":\""
          return `${head}${filler.repeat(3)}"}]}${
            " ".repeat(size - Buffer.byteLength(head) - Buffer.byteLength(filler) * 3 - 4)
          }`
        }
        expect(Either.isRight(yield* run(padded(1_048_576, "a")))).toBe(true)
        expect(yield* errorsOf(padded(1_048_577, "a"))).toMatchObject([{
          path: "WEBHOOKS_CONFIG",
          code: "document_too_large"
        }])
        expect(yield* errorsOf(padded(1_048_577, "é"))).toMatchObject([{ code: "document_too_large" }])
        expect(yield* errorsOf("\uFEFF")).toMatchObject([{ path: "WEBHOOKS_CONFIG", code: "json_bom" }])
      }))

    it.effect("duplicates, __proto__ and broken text, at any depth, with their paths", () =>
      Effect.gen(function*() {
        const text =
          `{"E":[{"url":"${url}","headers":{"X-A":"1","X-A":"2","__proto__":"3"},"__proto__":{"polluted":true}},` +
          `{"url":"https://b.example.com/","secret":"a\uFFFDb","description":"\\ud800","secrets\\uFFFD":[]}],"\\u0045":[]}`
        const errors = yield* errorsOf(text)
        expect(errors.map((error) => `${error.path} ${error.code}`)).toEqual([
          "E[0].headers.X-A duplicate_key",
          "E[0].headers.__proto__ forbidden_key",
          "E[0].__proto__ forbidden_key",
          "E[1].secret replacement_character",
          "E[1].description replacement_character",
          "E[1].\"secrets\\ufffd\" replacement_character",
          "E duplicate_key",
          "E[1].\"secrets\\ufffd\" unknown_key"
        ])
        expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined()
      }))

    it.effect("unknown settings name the nearest known one", () =>
      Effect.gen(function*() {
        const errors = yield* errorsOf(
          JSON.stringify(one({ Secret: good, timeuot: "10s", maxConcurency: 1, retries: 3 }))
        )
        expect(errors.map((error) => error.code)).toEqual(Array(4).fill("unknown_key"))
        expect(errors[0]!.message).toContain("did you mean \"secret\"?")
        expect(errors[1]!.message).toContain("did you mean \"timeout\"?")
        expect(errors[2]!.message).toContain("did you mean \"maxConcurrency\"?")
        expect(errors[3]!.message).not.toContain("did you mean")
        expect(errors[3]!.message).toContain("known: url, id, secret")
      }))

    it.effect("all errors at once, one line each", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(WebhookConfig.parse(
          JSON.stringify({
            "Order Created": "x",
            A: [{ url: "ftp://a", secret: null, enabled: "yes", timeout: 10 }, null],
            B: [{ url, headers: { Host: "h", "X A": "v", "X-C": "a\r\nb" } }, { secret: "whsec_" }]
          }),
          { allow: "10.0.0.0/99,localhost,,", correlationHeader: "bad header" }
        ))
        expect(error.errors.map((item) => `${item.path} ${item.code}`)).toEqual([
          "WEBHOOKS_EGRESS_ALLOW egress_rule",
          "WEBHOOKS_EGRESS_ALLOW egress_rule",
          "WEBHOOKS_EGRESS_ALLOW egress_rule",
          "WEBHOOKS_CORRELATION_HEADER header_name",
          "\"Order Created\" event_name",
          "\"Order Created\" type",
          "A[0].url url_scheme",
          "A[0].enabled type",
          "A[0].timeout type",
          "A[0].secret type",
          "A[1] type",
          "B[0].headers.Host header_reserved",
          "B[0].headers.\"X A\" header_name",
          "B[0].headers.X-C header_value",
          "B[1].url missing",
          "B[1].secret secret_empty"
        ])
        const lines = error.message.split("\n")
        expect(lines[0]).toMatch(/^WEBHOOKS_EGRESS_ALLOW: entry 1 /)
        expect(lines[7]).toBe("WEBHOOKS_CONFIG.A[0].enabled: must be true or false, not a string")
        expect(lines).toHaveLength(16)
      }))

    it.effect("the message stops at 100 lines, the errors don't", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(WebhookConfig.parse(JSON.stringify({ E: Array(5000).fill(0) })))
        expect(error.errors).toHaveLength(5000)
        expect(error.message.split("\n")).toHaveLength(101)
        expect(error.message).toContain("... and 4900 more errors")
      }))

    it.effect("a secret or URL where a name belongs isn't shown", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(WebhookConfig.parse(JSON.stringify({
          [good]: [],
          [`https://u:hunter2hunter2@h/?k=${good}`]: [],
          E: [{ url, [good]: 1, headers: { [`X-${good}/`]: "v" }, secret: { env: good, [good]: 1 } }]
        })))
        expect(printed(error)).not.toMatch(/MfKQ|hunter2/)
      }))
  })
})
