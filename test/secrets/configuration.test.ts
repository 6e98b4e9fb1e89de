/** The canary test of everything that is configured or handed in: whatever is wrong with it, no part of a secret is in what is said of it. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { describe, expect, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as DatabaseUrl from "../../src/cli/DatabaseUrl.js"
import * as OutboxSettings from "../../src/cli/OutboxSettings.js"
import * as EgressDispatcher from "../../src/http/EgressDispatcher.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as WebhookConfig from "../../src/webhooks/WebhookConfig.js"
import * as WebhookEvent from "../../src/webhooks/WebhookEvent.js"
import * as WebhookSignature from "../../src/webhooks/WebhookSignature.js"
import * as WebhookVerifier from "../../src/webhooks/WebhookVerifier.js"
import { canaries, find, word } from "./canaries.js"
import { isForeign } from "./messages.js"
import { headers } from "./sending.js"
import { forms, seeExit, watch } from "./watching.js"

/** Secrets where they belong. */
const good = {
  id: "shop",
  url: `https://hooks.example.com/in?key=${canaries["query value"]}`,
  secrets: [canaries["whsec_ secret"], canaries["raw secret"], {
    value: canaries["ed25519 secret"],
    expiresAt: "2030-01-01T00:00:00Z"
  }],
  headers
}
const login = `${canaries["user of a URL"]}:${canaries["password of a URL"]}`
const bearer = canaries["bearer token"]

/** Endpoints with something wrong, mostly a secret where something else belongs. */
const wrong: ReadonlyArray<Record<string, unknown>> = [
  { url: `https://${login}@hooks.example.com/in` },
  { url: `https://hooks.example.com/in#${bearer}` },
  { url: `https://hooks.example.com:${bearer}/in` },
  { url: `https://hooks.example.com/ ${bearer}` },
  { url: `https://hooks.example.com/{{${bearer}}}` },
  { url: `https://hooks.example.com/\u202e${bearer}` },
  { url: `https://10.1.2.3/?key=${canaries["query value"]}` },
  { url: `http://hooks.example.com/?key=${canaries["query value"]}` },
  { url: `ftp://${login}@hooks.example.com` },
  { url: bearer },
  { url: `https://${"x".repeat(3000)}.example.com/?key=${bearer}` },
  { url: [bearer] },
  { id: `${bearer} ` },
  { id: canaries["whsec_ secret"] },
  { secret: `${canaries["whsec_ secret"]}!` },
  { secret: canaries["whsec_ secret"].slice(0, 20) },
  { secret: `whpk_${canaries["secret in base64"]}` },
  { secret: `${canaries["ed25519 secret"].slice(0, 40)}==` },
  { secret: `${bearer}\n${bearer}` },
  { secret: { env: canaries["raw secret"] } },
  { secret: { file: `/nowhere/${canaries["raw secret"]}` } },
  { secret: { file: canaries["whsec_ secret"] } },
  { secret: { file: "/dev/zero" } },
  { secret: { env: "BAD", file: canaries["raw secret"] } },
  { secret: { value: canaries["raw secret"] } },
  { secret: [canaries["raw secret"]] },
  { secret: 7, secrets: [canaries["raw secret"]] },
  { secrets: canaries["raw secret"] },
  { secrets: [canaries["raw secret"], canaries["raw secret"]] },
  { secrets: [{ value: canaries["raw secret"], expiresAt: bearer }] },
  { secrets: [{ value: canaries["raw secret"], expiresAt: "2020-01-01T00:00:00Z" }] },
  { secrets: [{ valeu: canaries["raw secret"] }] },
  { secret: canaries["raw secret"], secrets: [canaries["raw secret"]] },
  { headers: { Authorization: `Bearer ${bearer}\r\nX-Injected: ${bearer}` } },
  { headers: { "X-Key": `\u0000${bearer}` } },
  { headers: { "X-Key": `ключ ${bearer}` } },
  { headers: { "X-Key": [bearer] } },
  { headers: { [bearer]: `${bearer}\n` } },
  { headers: { [`Authorization: Bearer ${bearer}`]: "x" } },
  { headers: { "webhook-id": bearer, Host: bearer, "Content-Length": bearer } },
  { headers: `Authorization: Bearer ${bearer}` },
  { headers: { "X-Key": "a".repeat(10_000) + bearer } },
  { timeout: bearer },
  { maxConcurrency: bearer },
  { rateLimit: bearer },
  { ordered: bearer },
  { format: bearer },
  { enabled: bearer },
  { tenant: `${bearer}\u0007` },
  { description: `${bearer}${"x".repeat(2000)}` },
  { [canaries["whsec_ secret"]]: 1 },
  { [`Bearer ${bearer}`]: 1 },
  { [canaries["raw secret"]]: 1 },
  { __proto__: { url: bearer } }
]

const environments: ReadonlyArray<Record<string, string>> = [
  { WEBHOOKS_CONFIG: `{"A": [{"url": "${canaries["query value"]}` },
  { WEBHOOKS_CONFIG: canaries["raw secret"] },
  { WEBHOOKS_CONFIG: `\uFEFF{"A":"${bearer}"}` },
  { WEBHOOKS_CONFIG: JSON.stringify({ [canaries["raw secret"]]: 1 }) },
  { WEBHOOKS_CONFIG: JSON.stringify({ A: [good] }).slice(0, -1) },
  { WEBHOOKS_CONFIG: JSON.stringify({ A: [good, { ...good, secrets: [canaries["secret in base64"]] }] }) },
  { WEBHOOKS_CONFIG: `{"A":[],"A":["${bearer}"]}` },
  { WEBHOOKS_CONFIG: "[".repeat(5000) + bearer },
  { WEBHOOKS_CONFIG: `{"A":[{"url":"${bearer}","secret":"${"x".repeat(1_100_000)}"}]}` },
  { WEBHOOKS_CONFIG_FILE: canaries["whsec_ secret"] },
  { WEBHOOKS_CONFIG_FILE: `/nowhere/${canaries["raw secret"]}.json` },
  { WEBHOOKS_CONFIG_FILE: `\u0000${canaries["raw secret"]}` },
  { WEBHOOKS_CONFIG: JSON.stringify({ A: [good] }), WEBHOOKS_CONFIG_FILE: bearer },
  { WEBHOOKS_EGRESS_ALLOW: `${bearer}!,10.0.0.0/99,${login}@host` },
  { WEBHOOKS_EGRESS_DENY: `${bearer}!,https://${login}@host` },
  { WEBHOOKS_CORRELATION_HEADER: `X: ${bearer}` },
  { WEBHOOKS_MAX_RETRIES: bearer },
  { WEBHOOKS_TIMEOUT: bearer, WEBHOOKS_DEADLINE: bearer, WEBHOOKS_BASE_DELAY: bearer, WEBHOOKS_MAX_DELAY: bearer },
  { WEBHOOKS_PROXY: `ftp://${canaries["proxy user"]}:${canaries["proxy password"]}@proxy:3128` },
  { WEBHOOKS_PROXY: `${canaries["proxy user"]}:${canaries["proxy password"]}@proxy` },
  { WEBHOOKS_PROXY: `http://${canaries["proxy user"]}:${canaries["proxy password"]}@proxy:99999/` },
  { WEBHOOKS_CA_FILE: `/nowhere/${canaries["raw secret"]}` },
  { WEBHOOKS_CA_FILE: canaries["whsec_ secret"] },
  { WEBHOOKS_CA_FILE: "/dev/zero" },
  { WEBHOOKS_API_TOKEN: canaries["API token"].slice(0, 12) },
  { WEBHOOKS_API_TOKEN: `${canaries["API token"]} ü${canaries["API token"]}` },
  { WEBHOOKS_DATABASE_URL: `postgres://${canaries["database user"]}:${canaries["database password"]}/@host/db` },
  { WEBHOOKS_DATABASE_URL: `postgres://${canaries["database user"]}:%zz${canaries["database password"]}@host/db` },
  { WEBHOOKS_DATABASE_URL: `mysql://${canaries["database user"]}:${canaries["database password"]}@host/db` },
  { WEBHOOKS_DATABASE_URL: `postgres://host:port${canaries["database password"]}/db` },
  { WEBHOOKS_DATABASE_URL: `${canaries["database user"]}:${canaries["database password"]}@host/db` },
  {
    WEBHOOKS_CONCURRENCY: bearer,
    WEBHOOKS_ENDPOINT_CONCURRENCY: bearer,
    WEBHOOKS_LEASE: bearer,
    WEBHOOKS_POLL: bearer
  },
  { WEBHOOKS_GRACE: bearer, WEBHOOKS_SCHEDULE: `0s,${bearer}`, WEBHOOKS_RETENTION: `7d,${bearer}` },
  { WEBHOOKS_PROXY: `http://${login}@proxy/${bearer}` }
]

describe("no secret shows of", () => {
  it.effect("an endpoint with something wrong, from code or a document", () => {
    const to = watch()
    return Effect.gen(function*() {
      let refused = 0
      for (const fields of wrong) {
        const made = { ...good, ...fields }
        if ("secret" in fields && !("secrets" in fields)) Reflect.deleteProperty(made, "secrets")
        const where = JSON.stringify(fields).slice(0, 60)
        const errors = [
          yield* seeExit(to, `Endpoint.make ${where}`, Endpoint.make(made as never)),
          yield* seeExit(to, `WebhookConfig.make ${where}`, WebhookConfig.make({ "*": [made as never] })),
          yield* seeExit(to, `WebhookConfig.parse ${where}`, WebhookConfig.parse(JSON.stringify({ "*": [made] })))
        ]
        refused += errors.filter((error) => error !== undefined).length
      }
      // All but the last, of which `JSON.stringify` and a spread leave nothing.
      expect(refused).toBeGreaterThanOrEqual(3 * (wrong.length - 4))
      to.expectClean()
    }).pipe(Effect.provide(NodeFileSystem.layer), Effect.provide(to.layer))
  })

  it.effect("an environment with something wrong", () =>
    Effect.gen(function*() {
      const to = watch()
      for (const environment of environments) {
        const where = Object.entries(environment)[0]!.join("=").slice(0, 60)
        const errors = yield* Effect.all([
          seeExit(to, `WebhookConfig ${where}`, Layer.build(WebhookConfig.layerFromEnv())),
          seeExit(to, `EgressDispatcher ${where}`, Layer.build(EgressDispatcher.layerHttpClientFromEnv)),
          seeExit(
            to,
            `ResilientHttpClient ${where}`,
            Effect.flatMap(Config.unwrap(ResilientHttpClient.optionsFromEnv), Effect.succeed)
          ),
          seeExit(
            to,
            `OutboxSettings ${where}`,
            Effect.asVoid(Effect.flatMap(OutboxSettings.config(undefined), Effect.succeed))
          )
        ]).pipe(
          Effect.scoped,
          Effect.provide(NodeFileSystem.layer),
          Effect.provide(to.layer),
          Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment))))
        )
        expect(errors.filter((error) => error !== undefined), where).not.toEqual([])
      }
      to.expectClean()
    }))

  it("a document that is broken anywhere", () => {
    const text = JSON.stringify({
      "Order.*": [good],
      OrderPaid: [{ ...good, id: "other", url: "https://other.example.com/" }]
    })
    const broken = FastCheck.tuple(
      FastCheck.nat(text.length),
      FastCheck.nat(40),
      FastCheck.oneof(
        FastCheck.string({ unit: "binary", maxLength: 4 }),
        FastCheck.constantFrom("\"", "{", "}", "]", ",", "\\", "\\u12", "\n", "\u202e", "'")
      )
    ).map(([at, cut, instead]) => text.slice(0, at) + instead + text.slice(at + cut))
    FastCheck.assert(
      FastCheck.property(broken, (document) => {
        const result = Effect.runSync(Effect.either(WebhookConfig.parse(document)))
        if (Either.isRight(result)) return
        const said = forms(result.left)
        // A secret that was cut in two may have become a name of something, at most its beginning is told then.
        expect(find(said.map((each) => ["", each]))).toEqual([])
        expect(said.filter(isForeign)).toEqual([])
        expect(result.left.message).not.toMatch(/[^\n -~]/)
      }),
      { numRuns: 300 }
    )
  })

  it.effect("what is handed in as secret, signature, header, event or database", () => {
    const to = watch()
    return Effect.gen(function*() {
      const raw = canaries["raw secret"]
      for (const [name, value] of Object.entries(canaries)) {
        for (
          const text of [
            value,
            `${value}\n`,
            ` ${value}`,
            value.slice(0, 15),
            `whsec_${value}`,
            `whsk_${value}`,
            `whpk_${value}`,
            `${value}ü`
          ]
        ) {
          to.see(`parseSecret ${name}`, WebhookSignature.parseSecret(Redacted.make(text)))
          to.see(`parseVerifyingSecret ${name}`, WebhookSignature.parseVerifyingSecret(Redacted.make(text)))
          const place = DatabaseUrl.parse(`postgres://${word("database user")}:${text}@host/db`)
          to.see(`database ${name}`, place)
          if (Either.isRight(place)) to.see(`database ${name}`, DatabaseUrl.shown(place.right))
        }
      }
      const inputs: ReadonlyArray<unknown> = [
        raw,
        [raw],
        { [raw]: raw },
        { type: `${raw}!`, data: 1 },
        { type: "a", data: 1, id: `${raw}.${raw}` },
        { type: "a", data: 1, occurred_at: raw },
        { type: "a", data: 1, tenant: `${raw}\u0000` },
        { type: "a", data: 1, aggregate_id: { raw } },
        { type: "a", [canaries["whsec_ secret"]]: 1 }
      ]
      for (const input of inputs) {
        expect(yield* seeExit(to, "decodeInput", WebhookEvent.decodeInput(input)), JSON.stringify(input)).toBeDefined()
      }
      const verifier = yield* WebhookVerifier.make({
        secrets: [Redacted.make(raw), Redacted.make(canaries["whsec_ secret"])]
      }).pipe(
        Effect.orDie
      )
      const times = String(Math.floor(Date.now() / 1000))
      for (
        const signature of [
          "",
          raw,
          `v1,${canaries["secret in base64"]}`,
          `v1,${raw} v1a,${raw}`,
          "x".repeat(5000) + raw
        ]
      ) {
        const request = {
          headers: {
            "webhook-id": "msg_1",
            "webhook-timestamp": times,
            "webhook-signature": signature,
            authorization: `Bearer ${bearer}`
          },
          body: Buffer.from("{}")
        }
        expect(yield* seeExit(to, "verify", verifier.verify(request)), signature).toBeDefined()
      }
      to.see("verifier", verifier)
      to.expectClean()
    }).pipe(Effect.scoped, Effect.provide(to.layer))
  })
})
