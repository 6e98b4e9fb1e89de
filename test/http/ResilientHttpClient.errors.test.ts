import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { inspect } from "node:util"
import * as CorrelationId from "../../src/CorrelationId.js"
import { CircuitBreakers } from "../../src/http/CircuitBreakers.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import type * as testing from "../../src/webhooks/testing.js"
import { client, failure, key, over } from "../support/driving.js"
import { logs, quiet, spans } from "../support/recording.js"

const target = "https://canary-user:canary-pass@example.com/hook?token=canary-query#canary-fragment"
const safe = "https://example.com/hook"

const request = HttpClientRequest.post(target, {
  headers: {
    "webhook-id": "canary-id",
    "webhook-signature": "canary-signature",
    authorization: "Bearer canary-token",
    "x-api-key": "canary-key",
    cookie: "canary-cookie"
  }
}).pipe(HttpClientRequest.bodyText("canary-body"))

const service = ResilientHttpClient.ResilientHttpClient
const byExecute = Effect.flatMap(service, (client) => client.execute(request))
const byHead = Effect.flatMap(service, (client) => client.executeHead(Effect.succeed(request), { url: target }))

type Failing = Effect.Effect<ResilientHttpClient.ResilientHttpClientError>

const isolated = Effect.scoped(Effect.gen(function*() {
  const breakers = yield* CircuitBreakers
  yield* breakers.isolate(key)
  return yield* failure(byHead)
}))

/** A client that fails in words that quote what it was given. */
const talkative = (error: () => HttpClientError.HttpClientError) =>
  Layer.provideMerge(
    ResilientHttpClient.layer({ retry: { jitter: 0 } }),
    Layer.succeed(HttpClient.HttpClient, HttpClient.make(() => Effect.fail(error())))
  )

const scripted = (script: testing.Script, options?: ResilientHttpClient.Options) => client(script, options)

const cases: ReadonlyArray<readonly [string, string, number, Failing]> = [
  [
    "AttemptTimeout",
    `${safe} gave no answer within 10s`,
    4,
    failure(byHead, "1 minute").pipe(Effect.provide(scripted(["timeout"])))
  ],
  [
    "DeadlineExceeded",
    `the deadline of 5s for ${safe} passed`,
    1,
    failure(byExecute, "1 minute").pipe(Effect.provide(scripted(["timeout"], { deadline: "5 seconds" })))
  ],
  [
    "CircuitOpen",
    `the circuit of ${key} (${safe}) is open: isolated by hand`,
    0,
    isolated.pipe(Effect.provide(scripted([200])))
  ],
  [
    "RetryBudgetExhausted",
    `the retry budget of ${key} is used up, not retrying ${safe} (status 503)`,
    1,
    failure(byHead).pipe(Effect.provide(scripted([503], { budget: { ratio: 0, perSecond: 0 } })))
  ],
  [
    "ResponseTooLarge",
    `${safe} answered with a body of more than 1048576 bytes`,
    1,
    failure(byExecute).pipe(Effect.provide(scripted([{ status: 200, body: "canary".repeat(200_000) }])))
  ],
  ["RequestError", safe, 4, failure(byHead, "1 minute").pipe(Effect.provide(scripted(["reset"])))],
  ["RequestError", safe, 4, failure(byExecute, "1 minute").pipe(Effect.provide(scripted(["refused"])))],
  [
    "RequestError",
    safe,
    4,
    failure(byExecute, "1 minute").pipe(Effect.provide(talkative(() =>
      new HttpClientError.RequestError({
        request,
        reason: "Transport",
        description: "canary-description",
        cause: Object.assign(new Error(`canary-cause ${target}`), { code: "canary code", data: request })
      })
    )))
  ],
  [
    "RequestError",
    safe,
    1,
    failure(byExecute, "1 minute").pipe(
      Effect.provide(talkative(() =>
        new HttpClientError.RequestError({
          request,
          reason: "Encode",
          description: "canary-description",
          cause: request
        })
      ))
    )
  ],
  ["ResponseError", safe, 1, failure(byExecute).pipe(Effect.provide(scripted([{ status: 404, body: "canary" }])))],
  ["ResponseError", safe, 4, failure(byExecute, "1 minute").pipe(Effect.provide(scripted([503])))],
  [
    "ResponseError",
    safe,
    1,
    failure(Effect.flatMap(service, (client) => client.postJson(target, "canary-body", request.headers))).pipe(
      Effect.provide(scripted([{ status: 200, body: "canary" }]))
    )
  ],
  [
    "RequestError",
    safe,
    0,
    failure(Effect.flatMap(service, (client) => client.postJson(target, { canary: 1n }, request.headers))).pipe(
      Effect.provide(scripted([200]))
    )
  ],
  [
    "RequestError",
    "(invalid URL)",
    1,
    failure(Effect.flatMap(service, (client) => client.get("canary://:::?canary"))).pipe(
      Effect.provide(scripted([200]))
    )
  ]
]

/** All the ways in which an error gets into a log. */
const renderings = (error: ResilientHttpClient.ResilientHttpClientError): Record<string, string> => ({
  message: error.message,
  string: String(error),
  json: JSON.stringify(error),
  inspect: inspect(error, { depth: 20, showHidden: false }),
  cause: Cause.pretty(Cause.fail(error), { renderErrorCause: true }),
  causeInspect: inspect(Cause.fail(error), { depth: 20 }),
  causeJson: JSON.stringify(Cause.fail(error)),
  stack: error.stack ?? "",
  entries: inspect(Object.entries(error), { depth: 20 })
})

describe("errors", () => {
  for (const [i, [tag, text, attempts, failing]] of cases.entries()) {
    it.effect(`${i + 1}. ${tag}: says the URL and the attempts, and no secret, however it is shown`, () =>
      Effect.gen(function*() {
        const error = yield* failing
        expect(error._tag).toBe(tag)
        expect(error.message).toContain(text)
        expect(error.message).toContain(`attempts made: ${attempts}`)
        for (const [way, rendering] of Object.entries(renderings(error))) {
          expect(rendering.toLowerCase().includes("canary") ? `${way}: ${rendering}` : "").toBe("")
        }
      }).pipe(quiet))
  }

  it.effect("are one closed union, told apart by tag", () =>
    Effect.gen(function*() {
      const tags = new Set<string>()
      for (const [, , , failing] of cases) tags.add((yield* failing)._tag)
      expect([...tags].sort()).toEqual([
        "AttemptTimeout",
        "CircuitOpen",
        "DeadlineExceeded",
        "RequestError",
        "ResponseError",
        "ResponseTooLarge",
        "RetryBudgetExhausted"
      ])
    }).pipe(quiet))

  it("safeUrl and originOf keep neither userinfo, query nor fragment", () => {
    expect(ResilientHttpClient.safeUrl(target)).toBe(safe)
    expect(ResilientHttpClient.originOf(target)).toBe(key)
    expect(ResilientHttpClient.safeUrl("canary")).toBe("(invalid URL)")
    expect(ResilientHttpClient.originOf("canary")).toBe("(invalid URL)")
    expect(ResilientHttpClient.safeUrl("HTTPS://Example.COM:443/a/../b?c")).toBe("https://example.com/b")
  })

  it.each([
    ["postgres:canary:canary@db/canary", "(not an http URL)"],
    ["canary:canary@db/canary", "(not an http URL)"],
    ["blob:https://canary:canary@example.com/canary", "(not an http URL)"],
    ["mailto:canary@example.com", "(not an http URL)"],
    ["data:text/plain,canary", "(not an http URL)"],
    ["javascript:canary", "(not an http URL)"],
    ["postgres://canary:canary@canary/canary", "postgres:"],
    [" FTP://canary:canary@canary/canary", "ftp:"],
    ["file:///canary", "file:"],
    ["x:////canary:canary@canary", "x:"]
  ])("safeUrl and originOf show nothing of what another scheme carries: %s", (url, shown) => {
    expect([ResilientHttpClient.safeUrl(url), ResilientHttpClient.originOf(url)]).toEqual([shown, shown])
  })
})

describe("spans", () => {
  it.effect("one an attempt, with the correlation id, the URL without secrets, and nothing else of the request", () => {
    const recording = spans()
    return Effect.gen(function*() {
      yield* over(CorrelationId.withCorrelationId(Effect.withSpan(byHead, "dispatch"), "order-42"), "1 minute")
      const [outer, ...attempts] = recording.recorded
      expect(outer!.name).toBe("dispatch")
      expect(attempts.map(({ attributes, kind, name, span }) => ({
        name,
        kind,
        parent: span.parent._tag === "Some" ? span.parent.value.spanId : undefined,
        ended: span.status._tag,
        attributes: Object.fromEntries(attributes)
      }))).toEqual([503, undefined, 200].map((status, i) => ({
        name: "ResilientHttpClient.attempt",
        kind: "client",
        parent: outer!.span.spanId,
        ended: "Ended",
        attributes: {
          correlationId: "order-42",
          "http.request.method": "POST",
          "http.request.resend_count": i,
          "server.address": key,
          "url.full": safe,
          ...(status === undefined ? {} : { "http.response.status_code": status })
        }
      })))
      const shown = inspect(
        recording.recorded.map(({ attributes, events, name, span }) => [name, attributes, events, span.status]),
        {
          depth: 20
        }
      )
      expect(shown).not.toContain("canary")
    }).pipe(Effect.provide(client([503, "reset", 200])), Effect.provide(recording.layer), quiet)
  })

  it.effect("their trace goes out as traceparent", () => {
    const recording = spans()
    return Effect.gen(function*() {
      const seen: Array<string | undefined> = []
      const inner = HttpClient.make((request) =>
        Effect.suspend(() => {
          seen.push(request.headers["traceparent"])
          return Effect.fail(new HttpClientError.RequestError({ request, reason: "Transport" }))
        })
      )
      yield* over(Effect.exit(byExecute), "1 minute").pipe(
        Effect.provide(ResilientHttpClient.layer({ retry: { jitter: 0, maxRetries: 1 } })),
        Effect.provideService(HttpClient.HttpClient, inner)
      )
      expect(seen).toEqual(recording.recorded.map(({ span }) => `00-${span.traceId}-${span.spanId}-01`))
      expect(seen.length).toBe(2)
    }).pipe(Effect.provide(recording.layer), quiet)
  })
})

describe("logs", () => {
  it.effect("carry no secret, whatever happens", () => {
    const log = logs()
    return Effect.gen(function*() {
      for (const [, , , failing] of cases) yield* failing
      expect(log.lines.length).toBeGreaterThan(5)
      expect(inspect(log.lines, { depth: 20 })).not.toContain("canary")
    }).pipe(Effect.provide(log.layer))
  })
})
