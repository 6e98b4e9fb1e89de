import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as TestClock from "effect/TestClock"
import { CircuitBreakers } from "../../src/http/CircuitBreakers.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as Metrics from "../../src/Metrics.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as Message from "../../src/webhooks/Message.js"
import * as testing from "../../src/webhooks/testing.js"
import * as WebhookEvent from "../../src/webhooks/WebhookEvent.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import { logs, quiet } from "../support/recording.js"

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

const document: Endpoint.EndpointDocument = {
  id: "a",
  url: "https://a.example.com/in?token=query-canary",
  secret,
  headers: { "X-Api-Key": "header-canary" }
}

const sender = (script: testing.Script, options: WebhookSender.Options = {}) =>
  WebhookSender.layer(options).pipe(
    Layer.provideMerge(ResilientHttpClient.layer({ retry: { jitter: 0 } })),
    Layer.provideMerge(testing.scriptedClient(script))
  )

/** Sends one message while time passes. */
const send = (
  given: Endpoint.EndpointDocument = document,
  around: (effect: Effect.Effect<WebhookSender.DeliveryReport>) => Effect.Effect<WebhookSender.DeliveryReport> = (e) =>
    e
) =>
  Effect.gen(function*() {
    const { send } = yield* WebhookSender.WebhookSender
    const endpoint = yield* Endpoint.make(given)
    const event = yield* WebhookEvent.make({ type: "a", data: 1, id: "evt_1" })
    const message = yield* Message.toMessage(event, ["event"])
    const fiber = yield* Effect.fork(around(send(message, endpoint)))
    yield* TestClock.adjust("1 minute")
    return yield* Fiber.join(fiber)
  })

it.effect("counts a delivery as under way until it has ended, or was stopped", () =>
  Effect.gen(function*() {
    const underWay = Effect.map(Metric.value(Metrics.inFlight), ({ value }) => value)
    const before = yield* underWay
    expect((yield* send()).outcome).toBe("delivered")
    expect(yield* underWay).toBe(before)
    const sender = yield* WebhookSender.WebhookSender
    const event = yield* WebhookEvent.make({ type: "a", data: 1 })
    const message = yield* Message.toMessage(event, ["event"])
    const hanging = yield* Effect.fork(sender.send(message, yield* Endpoint.make(document)))
    yield* TestClock.adjust("1 second")
    expect(yield* underWay).toBe(before + 1)
    yield* Fiber.interrupt(hanging)
    expect(yield* underWay).toBe(before)
  }).pipe(Effect.provide(sender([200, "timeout"])), quiet))

describe("excerpt", () => {
  it.effect("of the last answer's body, delivered or not", () =>
    Effect.gen(function*() {
      const failed = yield* send()
      expect(failed).toMatchObject({ outcome: "failed", status: 400, attempts: 2, excerpt: "second answer" })
      expect(yield* send()).toMatchObject({ outcome: "delivered", excerpt: "thanks" })
    }).pipe(
      Effect.provide(sender([
        { status: 503, body: "first answer" },
        { status: 400, body: "second\nanswer" },
        { status: 200, body: "\u001bthanks" }
      ])),
      quiet
    ))

  it.effect("none without a body, without an answer, or without a request", () =>
    Effect.gen(function*() {
      expect((yield* send()).excerpt).toBeUndefined()
      const reset = yield* send(document, ResilientHttpClient.withSingleAttempt(1))
      expect([reset.class, reset.excerpt]).toEqual(["connection", undefined])
      expect(yield* send({ ...document, format: "standard" })).toMatchObject({ attempts: 0, excerpt: undefined })
    }).pipe(Effect.provide(sender([200, "reset"])), quiet))

  it.effect("an answer that echoes the whole request leaks nothing of it, and no log line has any of it", () => {
    const log = logs()
    const echo = HttpClient.make((request) => {
      const body = JSON.stringify({ url: request.url, headers: request.headers, secret, note: "echo-canary" })
      return Effect.succeed(HttpClientResponse.fromWeb(request, new Response(body, { status: 422 })))
    })
    const layer = WebhookSender.layer().pipe(
      Layer.provide(ResilientHttpClient.layer()),
      Layer.provide(Layer.succeed(HttpClient.HttpClient, echo))
    )
    return Effect.gen(function*() {
      const { excerpt } = yield* send()
      expect(excerpt).toContain("\"webhook-id\":\"evt_1\"")
      expect(excerpt).toContain("\"note\":\"echo-canary\"")
      for (const part of ["query-canary", "header-canary", "MfKQ9r8G"]) expect(excerpt).not.toContain(part)
      expect(excerpt).toMatch(/"webhook-signature":"(?:v1,)?\[redacted\]","x-webhook-signature":"\[redacted\]"/)
      expect(log.lines.length).toBeGreaterThan(0)
      expect(JSON.stringify(log.lines)).not.toContain("echo-canary")
    }).pipe(Effect.provide(layer), Effect.provide(log.layer))
  })
})

describe("a single attempt", () => {
  it.effect("one request, one report with its number; the report counts this call's requests", () => {
    const attempts: Array<WebhookSender.AttemptReport> = []
    const layer = sender([503, 200], { onAttempt: (attempt) => Effect.sync(() => attempts.push(attempt)) })
    return Effect.gen(function*() {
      const report = yield* send(document, ResilientHttpClient.withSingleAttempt(7))
      expect(report).toMatchObject({ outcome: "failed", class: "http-status", status: 503, attempts: 1 })
      expect(attempts.map(({ attempt, status }) => [attempt, status])).toEqual([[7, 503]])
      const breakers = yield* CircuitBreakers
      expect(yield* breakers.size).toBe(0)
    }).pipe(Effect.provide(layer), quiet)
  })

  it.effect("no request, none counted", () =>
    Effect.gen(function*() {
      const report = yield* send({ ...document, format: "standard" }, ResilientHttpClient.withSingleAttempt(2))
      expect(report).toMatchObject({ outcome: "rejected", attempts: 0, error: { _tag: "Unsendable" } })
    }).pipe(Effect.provide(sender([200])), quiet))

  it.effect("what onDelivery sends is an ordinary call", () => {
    const layer = Layer.unwrapEffect(
      Effect.map(ResilientHttpClient.ResilientHttpClient, (client) =>
        WebhookSender.layer({
          onDelivery: () => Effect.ignore(client.get("https://audit.example.com/"))
        }))
    ).pipe(
      Layer.provideMerge(ResilientHttpClient.layer({ retry: { jitter: 0 } })),
      Layer.provideMerge(testing.scriptedClient({ "https://audit.example.com/": [503, 200], "*": [200] }))
    )
    return Effect.gen(function*() {
      yield* send(document, ResilientHttpClient.withSingleAttempt(3))
      const requests = yield* Effect.flatMap(testing.FakeHttpClient, (fake) => fake.requests)
      expect(requests.map(({ attempt }) => attempt)).toEqual([3, 1, 2])
    }).pipe(Effect.provide(layer), quiet)
  })
})
