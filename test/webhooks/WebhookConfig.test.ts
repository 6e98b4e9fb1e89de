import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as FileSystem from "@effect/platform/FileSystem"
import { describe, expect, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { createHash } from "node:crypto"
import { inspect } from "node:util"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as WebhookConfig from "../../src/webhooks/WebhookConfig.js"
import { codes, errorsOf, fromEnv, good, one, printed, provide, url } from "../support/webhookConfig.js"

describe("WebhookConfig", () => {
  it.effect("a whole endpoint, with every setting", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* WebhookConfig.parse(JSON.stringify({
        "invoice.*": [{
          url: "HTTPS://Hooks.Example.com:443/a/../in?x=1",
          id: "billing-1",
          secrets: [good, { value: "another-secret-of-some-length", expiresAt: "2026-01-01T01:00:00.5+01:00" }],
          enabled: false,
          headers: { "X-A": "1", Authorization: "Bearer abc" },
          timeout: "2.5s",
          maxConcurrency: 3,
          rateLimit: 0.5,
          ordered: true,
          format: "standard",
          tenant: "acme",
          description: "billing"
        }]
      }))
      expect(endpoints).toHaveLength(1)
      const endpoint = endpoints[0]!
      expect(endpoint).toBeInstanceOf(Endpoint.Endpoint)
      expect({ ...endpoint, secrets: [], headers: {} }).toEqual({
        id: "billing-1",
        url: "https://hooks.example.com/in?x=1",
        events: ["invoice.*"],
        enabled: false,
        secrets: [],
        headers: {},
        timeout: Duration.millis(2500),
        maxConcurrency: 3,
        rateLimit: 0.5,
        ordered: true,
        format: "standard",
        tenant: "acme",
        description: "billing"
      })
      expect(endpoint.secrets.map((secret) => [Redacted.value(secret.value), secret.expiresAt])).toEqual([
        [good, undefined],
        ["another-secret-of-some-length", Date.UTC(2026, 0, 1, 0, 0, 0, 500)]
      ])
      expect(Object.entries(endpoint.headers).map(([name, value]) => [name, Redacted.value(value)])).toEqual([
        ["X-A", "1"],
        ["Authorization", "Bearer abc"]
      ])
      const shown = [inspect(endpoint, { depth: 10 }), JSON.stringify(endpoint), String(endpoint), `${endpoint}`].join(
        "\n"
      )
      for (const secret of [good, "MfKQ9r8G", "another-", "Bearer", "x=1"]) expect(shown).not.toContain(secret)
      expect(Endpoint.summary(endpoint)).toEqual({
        id: "billing-1",
        url: "https://hooks.example.com/in",
        events: ["invoice.*"],
        enabled: false,
        signed: "signed"
      })
    }))

  it.effect("defaults: id from the WHATWG href, enabled, format, unsigned", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* WebhookConfig.parse(
        JSON.stringify({ E: [{ url: "https://HOOKS.example.com", secret: "" }] })
      )
      const hash = createHash("sha256").update("https://hooks.example.com/").digest("hex").slice(0, 16)
      expect(endpoints.map((endpoint) => [endpoint.id, endpoint.enabled, endpoint.format, Endpoint.signing(endpoint)]))
        .toEqual([[`ep_${hash}`, true, "event", "unsigned"]])
      const weak = yield* WebhookConfig.parse(JSON.stringify(one({ secret: "short" })))
      expect(Endpoint.signing(weak.endpoints[0]!)).toBe("weak")
      const list = yield* WebhookConfig.parse(JSON.stringify(one({ secrets: [good, "short"] })))
      expect(Endpoint.signing(list.endpoints[0]!)).toBe("weak")
      const none = yield* WebhookConfig.parse(JSON.stringify(one({ secrets: [] })))
      expect(Endpoint.signing(none.endpoints[0]!)).toBe("unsigned")
    }))

  it.effect("a secret that has expired says nothing of how an endpoint signs", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* WebhookConfig.parse(
        JSON.stringify(one({ secrets: [good, { value: "short", expiresAt: "2020-01-01T00:00:00Z" }] }))
      )
      const end = Date.UTC(2020, 0, 1)
      expect(Endpoint.signing(endpoints[0]!, end - 1)).toBe("weak")
      expect(Endpoint.signing(endpoints[0]!, end)).toBe("signed")
    }))

  it.effect.each([
    "Host",
    "authorization",
    "Cookie",
    "webhook-id",
    "x-webhook-signature",
    "Content-Type",
    "User-Agent"
  ])(
    "%s can't be the correlation header",
    (correlationHeader) =>
      Effect.map(errorsOf("", { correlationHeader }), ([error]) => {
        expect(error).toMatchObject({ path: "WEBHOOKS_CORRELATION_HEADER", code: "header_name" })
        expect(error!.message).toMatch(/choose another, such as X-Correlation-ID/)
      })
  )

  const keys: ReadonlyArray<readonly [key: string, shown: string]> = [
    ["sk_live_SUPERSECRET123", "\"sk_live_...\""],
    ["whsec_MfKQ9r8GKYqr", "\"whsec_...\""],
    ["TOKEN=hunter2", "\"TOKEN=...\""],
    ["https://user:pw@a.example", "\"https:...\""],
    ["f81d4fae7dec11d0a76500a0c91e6bf6", "\"f81d...\""],
    ["HistoricalDataSynced2024_v2", "HistoricalDataSynced2024_v2"]
  ]
  it.effect.each(keys)("of the key %s only what is no credential is shown", ([key, shown]) =>
    Effect.gen(function*() {
      const [error] = yield* errorsOf(JSON.stringify({ [key]: 1 }))
      expect(error!.path).toBe(shown)
      const [header] = yield* errorsOf(JSON.stringify(one({ headers: { [`${key}: Bearer sk_live_1`]: "x" } })))
      expect(printed(new WebhookConfig.InvalidWebhookConfig({ source: "x", errors: [header!] }))).not.toContain(
        "sk_live_1"
      )
    }))

  describe("several endpoints", () => {
    it.effect("one URL with one set of settings is one endpoint with several events", () =>
      Effect.gen(function*() {
        const { endpoints } = yield* WebhookConfig.parse(JSON.stringify({
          A: [{ url, secret: good }, { url: "https://b.example.com/" }],
          B: [{ url: "https://HOOKS.example.com:443/in", secrets: [good], enabled: true, format: "event" }, {
            url,
            secret: good
          }],
          "*": [{ url: "https://b.example.com" }]
        }))
        expect(endpoints.map((endpoint) => [endpoint.url, endpoint.events])).toEqual([
          [url, ["A", "B"]],
          ["https://b.example.com/", ["A", "*"]]
        ])
      }))

    it.effect("one URL with two sets of settings, one id for two URLs", () =>
      Effect.gen(function*() {
        const conflict = (fields: Record<string, unknown>) =>
          Effect.map(errorsOf(JSON.stringify({ A: [{ url }], B: [{ url, ...fields }] })), (errors) => errors)
        for (
          const [fields, named] of [
            [{ secret: good }, "secret"],
            [{ enabled: false }, "enabled"],
            [{ id: "x" }, "id"],
            [{ headers: { "X-A": "1" } }, "headers"],
            [{ timeout: "1s" }, "timeout"],
            [{ maxConcurrency: 1 }, "maxConcurrency"],
            [{ rateLimit: 1 }, "rateLimit"],
            [{ ordered: true }, "ordered"],
            [{ format: "standard" }, "format"],
            [{ tenant: "t" }, "tenant"],
            [{ description: "d" }, "description"]
          ] as const
        ) {
          const errors = yield* conflict(fields)
          expect(errors).toMatchObject([{ path: "B[0].url", code: "url_conflict" }])
          expect(errors[0]!.message).toContain(`(${named})`)
        }
        expect(yield* codes({ A: [{ url, id: "x" }], B: [{ url: "https://b.example.com/", id: "x" }] })).toEqual([
          "B[0].id duplicate_id"
        ])
        const hash = createHash("sha256").update(url).digest("hex").slice(0, 16)
        expect(yield* codes({ A: [{ url }, { url: "https://b.example.com/", id: `ep_${hash}` }] })).toEqual([
          "A[1].id duplicate_id"
        ])
      }))
  })

  describe("references", () => {
    it.effect("env and file, in secrets and headers; one line break at the end of a file doesn't count", () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const dir = yield* fs.makeTempDirectoryScoped()
        yield* fs.writeFileString(`${dir}/secret`, `${good}\n`)
        yield* fs.writeFileString(`${dir}/token`, "Bearer abc\r\n")
        const endpoints = yield* fromEnv({
          OLD_SECRET: "the-old-secret-of-some-length",
          TEAM: "a,b",
          WEBHOOKS_CONFIG: JSON.stringify(one({
            secrets: [{ file: `${dir}/secret` }, { value: { env: "OLD_SECRET" }, expiresAt: "2027-01-01T00:00:00Z" }],
            headers: { Authorization: { file: `${dir}/token` }, "X-Team": { env: "TEAM" } }
          }))
        })
        expect(endpoints[0]!.secrets.map((secret) => Redacted.value(secret.value))).toEqual([
          good,
          "the-old-secret-of-some-length"
        ])
        expect(Object.values(endpoints[0]!.headers).map(Redacted.value)).toEqual(["Bearer abc", "a,b"])
      }).pipe(Effect.scoped, Effect.provide(NodeFileSystem.layer)))

    it.effect("what isn't there or isn't right is named by its path, never by its content", () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const dir = yield* fs.makeTempDirectoryScoped()
        yield* fs.writeFileString(`${dir}/two-lines`, `${good}\n\n`)
        yield* fs.writeFile(`${dir}/bytes`, new Uint8Array([0x61, 0xff, 0xfe]))
        yield* fs.writeFileString(`${dir}/bom`, `\uFEFF${good}`)
        yield* fs.writeFileString(`${dir}/large`, "a".repeat(65_537))
        const error = yield* Effect.flip(fromEnv({
          EMPTY: "",
          INNER_LINE: "CANARY-a\nb",
          WEBHOOKS_CONFIG: JSON.stringify(one({
            secrets: [
              { env: "CANARY_NAME" },
              { env: "EMPTY" },
              { file: `${dir}/CANARY` },
              { file: dir },
              { file: `${dir}/two-lines` },
              { value: { file: `${dir}/bytes` } },
              { file: `${dir}/bom` },
              { file: `${dir}/large` }
            ],
            headers: { "X-A": { env: "INNER_LINE" }, "X-B": { file: "/dev/zero" } }
          }))
        }))
        expect(error.errors.map((item) => `${item.path} ${item.code}`)).toEqual([
          "E[0].secrets[0] env_missing",
          "E[0].secrets[1] secret_empty",
          "E[0].secrets[2] file_unreadable",
          "E[0].secrets[3] file_unreadable",
          "E[0].secrets[4] secret_whitespace",
          "E[0].secrets[5].value replacement_character",
          "E[0].secrets[6] secret_whitespace",
          "E[0].secrets[7] file_too_large",
          "E[0].headers.X-A header_value",
          "E[0].headers.X-B file_too_large"
        ])
        expect(error.errors[2]!.message).toContain("not found")
        expect(printed(error)).not.toMatch(/CANARY|MfKQ/)
      }).pipe(Effect.scoped, Effect.provide(NodeFileSystem.layer)))

    it.effect("a file without a FileSystem is an error that says so", () =>
      Effect.gen(function*() {
        const errors = yield* errorsOf(JSON.stringify(one({ secret: { file: "/x" } })))
        expect(errors).toMatchObject([{ path: "E[0].secret", code: "file_unreadable" }])
        expect(errors[0]!.message).toContain("NodeFileSystem")
      }))
  })

  describe("layers", () => {
    it.effect("from the environment: text, file, neither, both", () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const file = yield* fs.makeTempFileScoped()
        const text = JSON.stringify(one({ secret: good }))
        yield* fs.writeFileString(file, text)
        expect(yield* fromEnv({})).toEqual([])
        expect(yield* fromEnv({ WEBHOOKS_CONFIG: " ", WEBHOOKS_CONFIG_FILE: "" })).toEqual([])
        expect(yield* fromEnv({ WEBHOOKS_CONFIG: text })).toHaveLength(1)
        expect(yield* fromEnv({ WEBHOOKS_CONFIG: "\n", WEBHOOKS_CONFIG_FILE: file })).toHaveLength(1)
        const both = yield* Effect.flip(fromEnv({ WEBHOOKS_CONFIG: text, WEBHOOKS_CONFIG_FILE: file }))
        expect(both.errors).toMatchObject([{ path: "WEBHOOKS_CONFIG", code: "conflict" }])
        const missing = yield* Effect.flip(fromEnv({ WEBHOOKS_CONFIG_FILE: `${file}.missing` }))
        expect(missing.message).toBe("WEBHOOKS_CONFIG_FILE: names a file that can't be read (not found)")
        const endless = yield* Effect.flip(fromEnv({ WEBHOOKS_CONFIG_FILE: "/dev/zero" }))
        expect(endless.errors).toMatchObject([{ path: "WEBHOOKS_CONFIG_FILE", code: "document_too_large" }])
        yield* fs.writeFileString(file, `\uFEFF${text}`)
        const marked = yield* Effect.flip(fromEnv({ WEBHOOKS_CONFIG_FILE: file }))
        expect(marked.errors).toMatchObject([{ path: "WEBHOOKS_CONFIG_FILE", code: "json_bom" }])
        yield* fs.writeFileString(file, JSON.stringify(one({ secret: 1 })))
        const bad = yield* Effect.flip(fromEnv({ WEBHOOKS_CONFIG_FILE: file }))
        expect(bad.message).toBe(
          "WEBHOOKS_CONFIG_FILE.E[0].secret: must be a string, { \"env\": \"NAME\" } or { \"file\": \"path\" }, not a number"
        )
      }).pipe(Effect.scoped, Effect.provide(NodeFileSystem.layer)))

    it.effect("a bad entry of the allow-list doesn't make URLs look bad that it may have been meant for", () =>
      Effect.gen(function*() {
        const urls = [
          "http://127.0.0.1:3000/",
          "https://hooks.example.com:25/",
          "http://169.254.169.254/",
          "https://a.b/"
        ]
        const error = yield* Effect.flip(fromEnv({
          WEBHOOKS_CONFIG: JSON.stringify({ E: urls.map((url) => ({ url })) }),
          WEBHOOKS_EGRESS_ALLOW: "127.0.0.1/x",
          WEBHOOKS_EGRESS_DENY: "a.b"
        }))
        expect(error.errors.map((item) => `${item.path} ${item.code}`)).toEqual([
          "WEBHOOKS_EGRESS_ALLOW egress_rule",
          "E[2].url url_private_address",
          "E[3].url url_denied"
        ])
      }))

    it.effect("the allow-list and the correlation header come from the environment, overrides win", () =>
      Effect.gen(function*() {
        const local = JSON.stringify({ E: [{ url: "http://localhost:3000/" }] })
        expect(yield* fromEnv({ WEBHOOKS_CONFIG: local, WEBHOOKS_EGRESS_ALLOW: " localhost , 10.0.0.0/8" }))
          .toHaveLength(1)
        expect(
          yield* Effect.flip(fromEnv({ WEBHOOKS_CONFIG: local, WEBHOOKS_EGRESS_ALLOW: "localhost" }, { allow: "" }))
        ).toBeDefined()
        const bad = yield* Effect.flip(
          fromEnv({ WEBHOOKS_CONFIG: local, WEBHOOKS_EGRESS_ALLOW: "localhost,10.0.0.0/99" })
        )
        expect(bad.errors.map((item) => `${item.path} ${item.code}`)).toEqual(["WEBHOOKS_EGRESS_ALLOW egress_rule"])
        expect(bad.message).toMatch(/^WEBHOOKS_EGRESS_ALLOW: entry 2 is not an address range/)
        const denied = yield* Effect.flip(fromEnv({ WEBHOOKS_EGRESS_DENY: "bad/x" }))
        expect(denied.message).toMatch(/^WEBHOOKS_EGRESS_DENY: entry 1 /)
        const header = yield* Effect.flip(fromEnv({
          WEBHOOKS_CORRELATION_HEADER: "X-Trace",
          WEBHOOKS_CONFIG: JSON.stringify(one({ headers: { "x-trace": "v" } }))
        }))
        expect(header.errors).toMatchObject([{ path: "E[0].headers.x-trace", code: "header_reserved" }])
      }))

    it.effect("from a document in code, with Redacted secrets", () =>
      Effect.gen(function*() {
        const secret = Redacted.make(good)
        const { endpoints } = yield* Effect.provide(
          WebhookConfig.WebhookConfig,
          WebhookConfig.layer({ E: [{ url, secret, headers: { "X-A": Redacted.make("1") }, timeout: undefined }] })
        )
        expect(endpoints[0]!.secrets[0]!.value).toBe(secret)
        const cyclic: Record<string, unknown> = { url }
        cyclic["headers"] = cyclic
        const document = JSON.parse(
          `{"__proto__":[],"E":[{"url":"${url}","secret":"a\uFFFD"}]}`
        ) as WebhookConfig.Document
        const error = yield* Effect.flip(
          WebhookConfig.make({ ...document, F: [cyclic as unknown as Endpoint.EndpointDocument] })
        )
        expect(error.errors.map((item) => `${item.path} ${item.code}`)).toContain("E[0].secret replacement_character")
        expect(error.errors.some((item) => item.code === "json_depth")).toBe(true)
        const proto = yield* Effect.flip(WebhookConfig.make(document))
        expect(proto.errors.map((item) => item.code)).toContain("forbidden_key")
      }))

    it.effect("from any configuration", () =>
      Effect.gen(function*() {
        const layer = WebhookConfig.layerConfig({
          text: Config.redacted("HOOKS"),
          allow: Config.withDefault(Config.string("ALLOW"), "localhost")
        }).pipe(Layer.provide(NodeFileSystem.layer))
        const { endpoints } = yield* Effect.provide(WebhookConfig.WebhookConfig, layer).pipe(
          provide({ HOOKS: JSON.stringify({ E: [{ url: "http://localhost:3000" }] }) })
        )
        expect(endpoints).toHaveLength(1)
      }))
  })

  describe("Endpoint.make", () => {
    it.effect("holds a host's own endpoints to the same rules", () =>
      Effect.gen(function*() {
        const endpoint = yield* Endpoint.make({ url, secret: Redacted.make(good), events: ["a.*", "b", "b"] })
        expect(endpoint.events).toEqual(["a.*", "b"])
        expect(endpoint.id).toMatch(/^ep_[0-9a-f]{16}$/)
        const error = yield* Effect.flip(
          Endpoint.make({
            url: `https://127.0.0.1/?${good}`,
            id: "a b",
            secret: "whsec_",
            events: ["a b"],
            headers: { Host: good }
          })
        )
        expect(error.errors.map((item) => `${item.path} ${item.code}`)).toEqual([
          "events[0] event_name",
          "url url_private_address",
          "id id",
          "secret secret_empty",
          "headers.Host header_reserved"
        ])
        expect(`${error.message}${inspect(error, { depth: 10 })}`).not.toContain("MfKQ")
      }))
  })
})
