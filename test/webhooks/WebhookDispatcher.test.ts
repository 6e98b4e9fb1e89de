import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { inspect } from "node:util"
import * as CorrelationId from "../../src/CorrelationId.js"
import * as CircuitBreakers from "../../src/http/CircuitBreakers.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as Metrics from "../../src/Metrics.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import * as Subscription from "../../src/webhooks/internal/subscription.js"
import * as Message from "../../src/webhooks/Message.js"
import * as testing from "../../src/webhooks/testing.js"
import * as WebhookConfig from "../../src/webhooks/WebhookConfig.js"
import * as WebhookDispatcher from "../../src/webhooks/WebhookDispatcher.js"
import * as WebhookEvent from "../../src/webhooks/WebhookEvent.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import * as WebhookSignature from "../../src/webhooks/WebhookSignature.js"
import { logs, spans } from "../support/recording.js"

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
const a = "https://a.example.com/in"
const b = "https://b.example.com/in"

const dispatcher = (
  script: testing.Script,
  document: WebhookConfig.Document = { OrderPlaced: [{ id: "a", url: a, secret }] },
  options: WebhookDispatcher.Options & { readonly client?: ResilientHttpClient.Options } = {}
) =>
  WebhookDispatcher.layer(options).pipe(
    Layer.provide(ResilientHttpClient.layer({ ...options.client, retry: { jitter: 0, ...options.client?.retry } })),
    Layer.provide(WebhookConfig.layer(document)),
    Layer.provideMerge(testing.scriptedClient(script))
  )

const event = (input: Partial<WebhookEvent.Input> = {}) =>
  WebhookEvent.make({ type: "OrderPlaced", aggregateId: "order-1", data: { total: 1 }, ...input })

const dispatch = (input: Partial<WebhookEvent.Input> = {}) =>
  Effect.flatMap(WebhookDispatcher.WebhookDispatcher, ({ dispatch }) => Effect.flatMap(event(input), dispatch))

/** Dispatches while time passes. */
const dispatched = (input: Partial<WebhookEvent.Input> = {}) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(dispatch(input))
    yield* TestClock.adjust("10 minutes")
    return yield* Fiber.join(fiber)
  })

const requests = Effect.flatMap(testing.FakeHttpClient, (fake) => fake.requests)

/** Lets what is ready run. */
const settle = TestClock.adjust(0)

const verified = (request: testing.RecordedRequest, secrets = [secret]) =>
  WebhookSignature.verify({
    headers: request.headers,
    body: request.body,
    keys: secrets.map((text) => Either.getOrThrow(WebhookSignature.parseVerifyingSecret(Redacted.make(text)))),
    now: request.at
  })

describe("dispatch", () => {
  it.effect("one id, new timestamps and signatures, the same bytes and correlation id on every attempt", () =>
    Effect.gen(function*() {
      const report = yield* dispatched({ correlationId: "cause-1" })
      const sent = yield* requests
      expect(sent.map(({ at }) => at)).toEqual([0, 1000, 3000])
      expect(sent.map(({ headers }) => headers["webhook-id"])).toEqual(Array(3).fill(report.messageId))
      expect(sent.map(({ headers }) => headers["webhook-timestamp"])).toEqual(["0", "1", "3"])
      expect(new Set(sent.map(({ headers }) => headers["webhook-signature"])).size).toBe(3)
      expect(new Set(sent.map(({ body }) => Buffer.from(body).toString("hex"))).size).toBe(1)
      expect(sent.map(({ headers }) => headers["x-correlation-id"])).toEqual(Array(3).fill("cause-1"))
      expect(sent.map((request) => Either.isRight(verified(request)))).toEqual([true, true, true])
      expect(sent[0]!.headers["user-agent"]).toMatch(/^effect-webhooks\/\d/)
      expect(sent[0]!.headers["content-type"]).toBe("application/json")
      expect(report.deliveries).toMatchObject([
        {
          endpointId: "a",
          outcome: "delivered",
          status: 200,
          attempts: 3,
          duration: 3000,
          url: a,
          correlationId: "cause-1"
        }
      ])
    }).pipe(Effect.provide(dispatcher([503, "reset", 200]))))

  it.effect("one endpoint's failure never touches another nor the error channel", () =>
    Effect.gen(function*() {
      const report = yield* dispatched()
      expect(report.deliveries).toMatchObject([
        { endpointId: "a", outcome: "failed", class: "http-status", status: 500, attempts: 4 },
        { endpointId: "b", outcome: "delivered", attempts: 1, duration: 0 }
      ])
      expect(report.deliveries[0]!.error).toMatchObject({ _tag: "UnexpectedStatus", status: 500, attempts: 4 })
    }).pipe(Effect.provide(dispatcher({ [a]: [500], [b]: [200] }, {
      OrderPlaced: [{ id: "a", url: a }, { id: "b", url: b }]
    }))))

  it.effect.each(
    [
      [404, { outcome: "failed", class: "http-status", status: 404, attempts: 1 }],
      [410, { outcome: "failed", class: "gone", status: 410, attempts: 1 }],
      [302, { outcome: "failed", class: "redirect", status: 302, attempts: 1 }],
      ["reset", { outcome: "failed", class: "connection", attempts: 4 }],
      ["refused", { outcome: "failed", class: "connect", attempts: 4 }],
      ["timeout", { outcome: "failed", class: "timeout", attempts: 4 }]
    ] as const
  )("%s", ([step, expected]) =>
    Effect.gen(function*() {
      const report = yield* dispatched()
      expect(report.deliveries).toMatchObject([expected])
    }).pipe(Effect.provide(dispatcher([step]))))

  it.effect("an open breaker is circuit-open, and says so", () =>
    Effect.gen(function*() {
      for (let n = 0; n < 2; n++) yield* dispatched()
      const fiber = yield* Effect.fork(dispatch())
      yield* settle
      const { deliveries: [delivery] } = yield* Fiber.join(fiber)
      expect(delivery).toMatchObject({ outcome: "failed", class: "circuit-open", attempts: 0 })
      expect(delivery!.error).toMatchObject({ _tag: "CircuitOpen", key: "a" })
    }).pipe(Effect.provide(dispatcher([503], undefined, {
      client: { deadline: "10 seconds", breaker: { consecutiveFailures: 2, breakDuration: () => "1 hour" } }
    }))))

  it.effect("an event that nobody wants has no deliveries", () =>
    Effect.gen(function*() {
      const report = yield* dispatch({ type: "Other" })
      expect(report.deliveries).toEqual([])
      expect(report.messageId).toMatch(/^msg_[A-Za-z0-9]{24}$/)
    }).pipe(Effect.provide(dispatcher([200]))))

  it.effect("each endpoint gets its own format, headers and secrets", () =>
    Effect.gen(function*() {
      yield* dispatched({ occurredAt: "2026-01-27T12:00:00+00:00" })
      const sent = yield* requests
      const byUrl = new Map(sent.map((request) => [request.url, request]))
      expect(byUrl.get(a)!.text).toBe(
        `{"aggregate_id": "order-1", "data": {"total": 1}, "event_type": "OrderPlaced", "occurred_at": "2026-01-27T12:00:00+00:00"}`
      )
      expect(byUrl.get(a)!.headers["x-extra"]).toBe("yes")
      expect(byUrl.get(a)!.headers["webhook-signature"]).toBeUndefined()
      expect(JSON.parse(byUrl.get(b)!.text)).toMatchObject({ type: "OrderPlaced", data: { total: 1 } })
      expect(Either.isRight(verified(byUrl.get(b)!))).toBe(true)
    }).pipe(Effect.provide(dispatcher([200], {
      OrderPlaced: [{ url: a, headers: { "X-Extra": "yes" } }, { url: b, format: "standard", secret }]
    }))))

  it.effect("all secrets that have not expired sign; when all have, nothing is sent unsigned", () =>
    Effect.gen(function*() {
      const old = "old-secret-of-sixteen-bytes"
      yield* dispatched()
      const [both] = yield* requests
      expect(both!.headers["webhook-signature"]!.split(" ")).toHaveLength(2)
      expect(Either.isRight(verified(both!, [old]))).toBe(true)
      yield* TestClock.setTime(Date.parse("2030-01-01T00:00:00Z"))
      const report = yield* dispatched()
      expect(report.deliveries).toMatchObject([
        { outcome: "delivered" },
        { outcome: "rejected", attempts: 0, error: { _tag: "Unsendable" } }
      ])
      const last = (yield* requests).at(-1)!
      expect(last.headers["webhook-signature"]!.split(" ")).toHaveLength(1)
      expect(Either.isRight(verified(last, [old]))).toBe(false)
    }).pipe(Effect.provide(dispatcher([200], {
      OrderPlaced: [
        { url: a, secrets: [secret, { value: "old-secret-of-sixteen-bytes", expiresAt: "2029-01-01T00:00:00Z" }] },
        { url: b, secrets: [{ value: "old-secret-of-sixteen-bytes", expiresAt: "2029-01-01T00:00:00Z" }] }
      ]
    }))))

  it.effect("an endpoint's timeout and concurrency are its own", () =>
    Effect.gen(function*() {
      const report = yield* dispatched()
      expect(report.deliveries).toMatchObject([{ class: "timeout", duration: 2000, attempts: 1 }])
    }).pipe(Effect.provide(dispatcher(["timeout"], { OrderPlaced: [{ url: a, timeout: "2s" }] }, {
      client: { retry: { maxRetries: 0 } }
    }))))

  it.effect("what JSON can't hold, or is too large, is a typed error and nothing is sent", () =>
    Effect.gen(function*() {
      const unserializable = yield* Effect.flip(dispatch({ data: { amount: 1n } }))
      expect(unserializable).toMatchObject({ _tag: "UnserializableEvent", path: "data.amount" })
      const large = yield* Effect.flip(dispatch({ data: "x".repeat(300_000) }))
      expect(large._tag).toBe("PayloadTooLarge")
      expect(yield* requests).toEqual([])
    }).pipe(Effect.provide(dispatcher([200]))))

  it.effect("the correlation id of the fiber, else one generated for all endpoints", () =>
    Effect.gen(function*() {
      yield* dispatch().pipe(CorrelationId.withCorrelationId("from-the-fiber"))
      const report = yield* dispatch()
      const ids = (yield* requests).map(({ headers }) => headers["x-correlation-id"])
      expect(ids).toEqual(["from-the-fiber", "from-the-fiber", report.correlationId, report.correlationId])
      expect(report.correlationId).toMatch(/^cid_[A-Za-z0-9]{24}$/)
    }).pipe(Effect.provide(dispatcher([200], { OrderPlaced: [{ url: a }, { url: b }] }))))

  it.effect("onAttempt is told of each request; metrics count them", () => {
    const told: Array<unknown> = []
    const failed = Metrics.attempts.pipe(Metric.tagged("outcome", "failed"), Metric.tagged("class", "http-status"))
    return Effect.gen(function*() {
      const before = yield* Metric.value(failed)
      yield* dispatched()
      expect(told).toMatchObject([
        { endpointId: "a", attempt: 1, outcome: "failed", class: "http-status", status: 503, duration: 0 },
        { endpointId: "a", attempt: 2, outcome: "delivered", class: undefined, status: 200 }
      ])
      expect((yield* Metric.value(failed)).count - before.count).toBe(1)
    }).pipe(Effect.provide(dispatcher([503, 200], undefined, {
      onAttempt: (attempt) => Effect.sync(() => told.push(attempt))
    })))
  })

  it.effect("logs and spans tell of each delivery, without secrets", () => {
    const log = logs()
    const trace = spans()
    const canary = "CANARY-query-and-header"
    return Effect.gen(function*() {
      const report = yield* dispatched({ correlationId: "cause-1" })
      const failure = log.lines.find(({ message }) => message === "webhook_failed")
      expect(failure?.annotations).toMatchObject({
        messageId: report.messageId,
        eventType: "OrderPlaced",
        endpointId: "a",
        correlationId: "cause-1",
        url: a,
        status: 404
      })
      const sent = log.lines.find(({ message }) => message === "webhook_sent")
      expect(sent?.annotations).toMatchObject({ endpointId: "b", correlationId: "cause-1" })
      expect(trace.recorded.map(({ name }) => name).sort()).toEqual([
        "ResilientHttpClient.attempt",
        "ResilientHttpClient.attempt",
        "WebhookDispatcher.dispatch"
      ])
      for (const { attributes } of trace.recorded) expect(attributes.get("correlationId")).toBe("cause-1")
      const everything = inspect([
        log.lines,
        trace.recorded.map(({ attributes, events, name, span }) => [name, attributes, events, span.status]),
        report
      ], { depth: 12 }) + JSON.stringify(report)
      expect(everything).not.toContain(canary)
      expect(everything).not.toContain(secret.slice(6, 14))
    }).pipe(
      Effect.provide(dispatcher({ [a]: [404], [b]: [200] }, {
        OrderPlaced: [
          { id: "a", url: `${a}?token=${canary}`, secret, headers: { "X-Key": canary } },
          { id: "b", url: b }
        ]
      })),
      Effect.provide(log.layer),
      Effect.provide(trace.layer)
    )
  })
})

describe("dispatchInBackground", () => {
  const inBackground = (
    input: Partial<WebhookEvent.Input> = {},
    options?: { readonly whenFull?: "refuse" | "wait" | undefined }
  ) =>
    Effect.flatMap(
      WebhookDispatcher.WebhookDispatcher,
      ({ dispatchInBackground }) => Effect.flatMap(event(input), (event) => dispatchInBackground(event, options))
    )

  it.effect("does not wait, and is bounded: refuses or waits, as the caller chooses", () =>
    Effect.gen(function*() {
      yield* inBackground()
      yield* inBackground()
      const refusal = yield* Effect.flip(inBackground({}, { whenFull: "refuse" }))
      expect(refusal).toMatchObject({ _tag: "BackgroundQueueFull", limit: 2 })
      const waiting = yield* Effect.fork(inBackground())
      yield* settle
      expect(waiting.unsafePoll()).toBeNull()
      expect(yield* requests).toHaveLength(2)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(waiting)
      yield* settle
      expect(yield* requests).toHaveLength(3)
      yield* TestClock.adjust("1 second")
      yield* inBackground({}, { whenFull: "refuse" })
      yield* TestClock.adjust("1 second")
    }).pipe(Effect.provide(dispatcher([{ status: 200, delay: "1 second" }], undefined, { backgroundQueue: 2 }))))

  it.effect("is drained on shutdown within the grace time; what was not delivered is logged, one line each", () => {
    const log = logs()
    return Effect.gen(function*() {
      const scope = yield* Scope.make()
      const services = yield* Layer.buildWithScope(
        dispatcher({ [a]: [{ status: 200, delay: "5 seconds" }], [b]: ["timeout"] }, {
          OrderPlaced: [{ id: "a", url: a }, { id: "b", url: b }]
        }, { client: { attemptTimeout: "1 hour", deadline: "2 hours" } }),
        scope
      )
      const { dispatchInBackground } = Context.get(services, WebhookDispatcher.WebhookDispatcher)
      for (let n = 0; n < 3; n++) yield* Effect.flatMap(event(), (event) => dispatchInBackground(event))
      yield* settle
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* settle
      const late = yield* Effect.flip(Effect.flatMap(event(), (event) => dispatchInBackground(event)))
      expect(late._tag).toBe("DispatcherClosed")
      yield* TestClock.adjust("9 seconds")
      expect(closing.unsafePoll()).toBeNull()
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      const lines = log.lines.filter(({ message }) => message === "webhook_sent" || message === "webhook_failed")
      expect(lines.map(({ annotations, message }) => [message, annotations.endpointId, annotations.class])).toEqual([
        ...Array(3).fill(["webhook_sent", "a", undefined]),
        ...Array(3).fill(["webhook_failed", "b", "interrupted"])
      ])
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("is over as soon as the work is, not when the grace time is", () =>
    Effect.gen(function*() {
      yield* Effect.fork(Effect.provide(inBackground(), dispatcher([{ status: 200, delay: "5 seconds" }]))).pipe(
        Effect.flatMap((fiber) => Effect.zipRight(TestClock.adjust("5 seconds"), Fiber.join(fiber)))
      )
    }))
})

class OrderPlaced extends Schema.TaggedClass<OrderPlaced>()("OrderPlaced", {
  aggregateId: Schema.String,
  occurredAt: Schema.Date,
  total: Schema.Number
}) {}

const order = (total: number) => new OrderPlaced({ aggregateId: "order-1", occurredAt: new Date(0), total })

const totals = Effect.map(requests, (all) => all.map(({ text }) => (JSON.parse(text) as { data: unknown }).data))

describe("an event bus", () => {
  it.effect("handler takes events and domain events, and never fails", () => {
    const log = logs()
    return Effect.gen(function*() {
      const { handler } = yield* WebhookDispatcher.WebhookDispatcher
      yield* handler(order(1))
      yield* handler(yield* event({ data: { total: 2 } }))
      yield* handler({ nothing: "usable" })
      yield* settle
      expect(yield* totals).toEqual([{ total: 1 }, { total: 2 }])
      expect(log.lines.filter(({ message }) => message === "webhook_failed")).toHaveLength(1)
    }).pipe(Effect.provide(dispatcher([200])), Effect.provide(log.layer))
  })

  it.effect("subscribe takes all that a PubSub publishes from then on, the rest at the end included", () =>
    Effect.gen(function*() {
      const bus = yield* PubSub.unbounded<OrderPlaced>()
      const scope = yield* Scope.make()
      const services = yield* Layer.buildWithScope(
        Layer.provideMerge(WebhookDispatcher.subscribe(bus), dispatcher([200])),
        scope
      )
      yield* PubSub.publishAll(bus, [order(1), order(2)])
      yield* settle
      yield* PubSub.publishAll(bus, [order(3), order(4)])
      yield* Scope.close(scope, Exit.void)
      const sent = yield* Effect.provideService(
        totals,
        testing.FakeHttpClient,
        Context.get(services, testing.FakeHttpClient)
      )
      expect(new Set(sent.map((data) => JSON.stringify(data)))).toEqual(
        new Set([1, 2, 3, 4].map((total) => JSON.stringify({ total })))
      )
    }))

  it.effect("subscribe takes the elements of a stream", () =>
    Effect.gen(function*() {
      yield* settle
      expect(yield* totals).toEqual([{ total: 1 }, { total: 2 }])
    }).pipe(
      Effect.provide(Layer.provideMerge(
        WebhookDispatcher.subscribe(Stream.fromChunk(Chunk.make(order(1), order(2)))),
        dispatcher([200])
      ))
    ))

  it.effect("layerTest records events and sends nothing", () =>
    Effect.gen(function*() {
      const { dispatch, dispatchInBackground, handler } = yield* WebhookDispatcher.WebhookDispatcher
      yield* dispatch(yield* event())
      yield* dispatchInBackground(yield* event({ type: "Second" }))
      yield* handler(order(3))
      const { events } = yield* WebhookDispatcher.DispatchedEvents
      expect((yield* events).map(({ type }) => type)).toEqual(["OrderPlaced", "Second", "OrderPlaced"])
    }).pipe(Effect.provide(WebhookDispatcher.layerTest)))
})

describe("a complete 2xx head is success, whatever comes after it", () => {
  /** Answers with a head at once and a body that never ends. */
  const dripping = HttpClient.make((request) =>
    Effect.succeed(
      HttpClientResponse.fromWeb(request, new Response(new ReadableStream({ pull: () => new Promise(() => {}) })))
    )
  )
  const over = (options: WebhookDispatcher.Options & { readonly client?: ResilientHttpClient.Options } = {}) =>
    WebhookDispatcher.layer(options).pipe(
      Layer.provide(ResilientHttpClient.layer(options.client)),
      Layer.provide(WebhookConfig.layer({ OrderPlaced: [{ id: "a", url: a }] })),
      Layer.provide(Layer.succeed(HttpClient.HttpClient, dripping))
    )

  it.effect("the deadline", () =>
    Effect.gen(function*() {
      const { deliveries } = yield* dispatched()
      expect(deliveries).toMatchObject([{ outcome: "delivered", status: 200, duration: 1000 }])
    }).pipe(Effect.provide(over({ client: { deadline: "1 second" } }))))

  it.effect("the end of the program", () => {
    const log = logs()
    const told: Array<unknown> = []
    return Effect.gen(function*() {
      const scope = yield* Scope.make()
      const services = yield* Layer.buildWithScope(
        over({ grace: "1 second", onDelivery: (report) => Effect.sync(() => told.push(report)) }),
        scope
      )
      const { dispatchInBackground } = Context.get(services, WebhookDispatcher.WebhookDispatcher)
      yield* Effect.flatMap(event(), (event) => dispatchInBackground(event))
      yield* settle
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      expect(log.lines.map(({ annotations, message }) => [message, annotations.status])).toEqual([[
        "webhook_sent",
        200
      ]])
      expect(told).toMatchObject([{ outcome: "delivered", status: 200, attempts: 1 }])
    }).pipe(Effect.provide(log.layer))
  })
})

describe("a host's hooks", () => {
  it.effect("onAttempt that never ends holds up its own delivery only, for ten seconds", () =>
    Effect.gen(function*() {
      const report = yield* dispatched()
      expect(report.deliveries).toMatchObject([{ outcome: "delivered", attempts: 1, duration: 10_000 }])
      expect((yield* requests).length).toBe(1)
    }).pipe(Effect.provide(dispatcher([200], undefined, { onAttempt: () => Effect.never }))))

  const faults: ReadonlyArray<readonly [string, () => Effect.Effect<void>]> = [
    ["dies", () => Effect.die("boom")],
    ["throws", () => {
      throw new Error("boom")
    }],
    ["interrupts", () => Effect.interrupt]
  ]
  for (const [fault, hook] of faults) {
    it.effect(`one that ${fault} is logged and changes nothing`, () => {
      const log = logs()
      return Effect.gen(function*() {
        const report = yield* dispatched()
        expect(report.deliveries).toMatchObject([{ outcome: "delivered", status: 200, attempts: 2 }])
        expect(
          log.lines.filter(({ message }) => String(message).includes("webhook_hook_failed"))
            .map(({ annotations }) => annotations.hook)
        ).toEqual(["onAttempt", "onAttempt", "onDelivery"])
      }).pipe(
        Effect.provide(dispatcher([503, 200], undefined, { onAttempt: hook, onDelivery: hook })),
        Effect.provide(log.layer)
      )
    })
  }

  it.effect("onDelivery that never ends holds up the end of the program for ten seconds at most", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const services = yield* Layer.buildWithScope(
        dispatcher([200], undefined, { onDelivery: () => Effect.never, grace: "100 millis" }),
        scope
      )
      yield* Effect.flatMap(event(), Context.get(services, WebhookDispatcher.WebhookDispatcher).dispatchInBackground)
      yield* settle
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("11 seconds")
      yield* Fiber.join(closing)
    }))

  it.effect("onAttempt may use the same client: it holds no slot and goes by its own key", () => {
    const client = Layer.provideMerge(
      ResilientHttpClient.layer({ breaker: { consecutiveFailures: 1 }, retry: { maxRetries: 0 } }),
      testing.scriptedClient({ [a]: [200], "*": [503] })
    )
    return Effect.gen(function*() {
      const http = yield* ResilientHttpClient.ResilientHttpClient
      const report = yield* dispatched().pipe(
        Effect.provide(WebhookDispatcher.layer({
          onAttempt: () => Effect.ignore(http.postJson("https://audit.example.com/", {}))
        })),
        Effect.provide(WebhookConfig.layer({ OrderPlaced: [{ id: "a", url: a, maxConcurrency: 1 }] }))
      )
      expect(report.deliveries).toMatchObject([{ outcome: "delivered", duration: 0 }])
      expect((yield* requests).map(({ url }) => url)).toEqual([a, "https://audit.example.com/"])
      const breakers = yield* CircuitBreakers.CircuitBreakers
      expect((yield* breakers.state("a")).name).toBe("Closed")
      expect((yield* breakers.state("https://audit.example.com")).name).toBe("Open")
    }).pipe(Effect.provide(client))
  })
})

describe("nothing disappears without a line", () => {
  const lines = (log: ReturnType<typeof logs>) =>
    log.lines.filter(({ message }) => message === "webhook_failed").map(({ annotations }) => [
      annotations.eventType,
      annotations.endpointId,
      annotations.class
    ])

  /** Builds a layer, lets it work, stops it and lets the grace time pass. */
  const stopped = <A, E>(
    layer: Layer.Layer<A, E>,
    work: (services: Context.Context<A>) => Effect.Effect<unknown, unknown>
  ) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const services = yield* Layer.buildWithScope(layer, scope)
      yield* work(services)
      yield* settle
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(closing)
    })

  it.effect("deliveries that had not begun", () => {
    const log = logs()
    const three = { OrderPlaced: [{ id: "a", url: a }, { id: "b", url: b }, { id: "c", url: "https://c.example.com" }] }
    return stopped(
      dispatcher(["timeout"], three, { concurrency: 1, client: { attemptTimeout: "1 hour", deadline: "2 hours" } }),
      (services) =>
        Effect.flatMap(event(), Context.get(services, WebhookDispatcher.WebhookDispatcher).dispatchInBackground)
    ).pipe(
      Effect.zipRight(
        Effect.sync(() =>
          expect(lines(log).sort()).toEqual(["a", "b", "c"].map((id) => ["OrderPlaced", id, "interrupted"]))
        )
      ),
      Effect.provide(log.layer)
    )
  })

  const slow = dispatcher(["timeout"], undefined, {
    backgroundQueue: 1,
    client: { attemptTimeout: "1 hour", deadline: "2 hours" }
  })
  const three = [order(1), order(2), order(3)]
  const expected = [["OrderPlaced", undefined, "interrupted"], ["OrderPlaced", undefined, "interrupted"], [
    "OrderPlaced",
    "a",
    "interrupted"
  ]]

  it.effect("what a subscription took from a PubSub", () => {
    const log = logs()
    return Effect.gen(function*() {
      const bus = yield* PubSub.unbounded<OrderPlaced>()
      yield* stopped(
        Layer.provideMerge(WebhookDispatcher.subscribe(bus), slow),
        () => PubSub.publishAll(bus, three)
      )
      expect(lines(log)).toEqual(expected)
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("what publishers of a bounded PubSub waited with", () => {
    const log = logs()
    return Effect.gen(function*() {
      const bus = yield* PubSub.bounded<OrderPlaced>(2)
      yield* stopped(
        Layer.provideMerge(WebhookDispatcher.subscribe(bus), slow),
        () => Effect.forEach([1, 2, 3, 4, 5, 6, 7], (n) => Effect.forkDaemon(PubSub.publish(bus, order(n))))
      )
      expect(lines(log)).toHaveLength(7)
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("a chunk of any size", () =>
    Effect.gen(function*() {
      // More than a call takes as arguments, whatever the stack.
      const chunk = Chunk.fromIterable(Array.from({ length: 500_000 }, (_, n) => ({ n })))
      let last = -1
      yield* Effect.scoped(Effect.zipRight(
        Subscription.ofStream(Stream.fromChunk(chunk), ({ n }) =>
          Effect.sync(() => {
            if (n !== last + 1) throw new Error(`${n} after ${last}`)
            last = n
          })),
        Effect.iterate(0, {
          while: (n) => last < 499_999 && n < 2_000_000,
          body: (n) => Effect.as(Effect.yieldNow(), n + 1)
        })
      ))
      expect(last).toBe(499_999)
    }))

  it.effect("what a subscription took from a stream", () => {
    const log = logs()
    return Effect.gen(function*() {
      const queue = yield* Queue.unbounded<OrderPlaced>()
      yield* stopped(
        Layer.provideMerge(WebhookDispatcher.subscribe(Stream.fromQueue(queue)), slow),
        () => Queue.offerAll(queue, three)
      )
      expect(lines(log)).toEqual(expected)
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("an event whose endpoints could not be looked up; the subscription goes on", () => {
    const log = logs()
    let lookups = 0
    const endpoints = Layer.succeed(Endpoints.Endpoints, {
      matching: () =>
        ++lookups === 1 ? Effect.dieMessage("the database is gone") : Effect.succeed([
          new Endpoint.Endpoint({
            id: "a",
            url: a,
            events: [],
            enabled: true,
            secrets: [],
            headers: {},
            timeout: undefined,
            maxConcurrency: undefined,
            rateLimit: undefined,
            ordered: false,
            format: "event",
            tenant: undefined,
            description: undefined
          })
        ]),
      get: () => Effect.succeed(Option.none()),
      list: Effect.succeed([])
    })
    return Effect.gen(function*() {
      const bus = yield* PubSub.unbounded<OrderPlaced>()
      const layer = WebhookDispatcher.subscribe(bus).pipe(
        Layer.provide(WebhookDispatcher.layerWithoutEndpoints()),
        Layer.provide(endpoints),
        Layer.provide(ResilientHttpClient.layer()),
        Layer.provideMerge(testing.scriptedClient([200]))
      )
      yield* Effect.gen(function*() {
        yield* PubSub.publishAll(bus, three)
        yield* settle
        expect(yield* totals).toEqual([{ total: 2 }, { total: 3 }])
        expect(lines(log)).toEqual([["OrderPlaced", undefined, undefined]])
      }).pipe(Effect.provide(layer))
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("what an untyped bus may carry", () => {
    const log = logs()
    const throwing = Object.defineProperty({}, "_tag", {
      get: () => {
        throw new Error("boom")
      }
    })
    return Effect.gen(function*() {
      const { handler } = yield* WebhookDispatcher.WebhookDispatcher
      yield* handler(throwing as object)
      yield* handler(JSON.parse("null") as object)
      expect(log.lines.filter(({ message }) => String(message).includes("webhook_failed"))).toHaveLength(2)
    }).pipe(Effect.provide(dispatcher([200])), Effect.provide(log.layer))
  })

  it.effect("an event by hand is one", () =>
    Effect.gen(function*() {
      const { handler } = yield* WebhookDispatcher.WebhookDispatcher
      const made = yield* event({ data: { total: 2 } })
      yield* handler({ type: "OrderPlaced", aggregateId: null, occurredAt: "2026-01-27T12:00:00Z", data: { total: 1 } })
      yield* handler({ ...made })
      yield* settle
      expect(yield* totals).toEqual([{ total: 1 }, { total: 2 }])
    }).pipe(Effect.provide(dispatcher([200]))))
})

describe("WebhookSender", () => {
  it.effect("sends the message's correlation id whatever the fiber's", () =>
    Effect.gen(function*() {
      const { send } = yield* WebhookSender.WebhookSender
      const message = yield* Effect.flatMap(event({ correlationId: "mine" }), (event) =>
        Message.toMessage(event, ["event"]))
      const { endpoints } = yield* WebhookConfig.WebhookConfig
      const report = yield* send(message, endpoints[0]!)
      expect(report.correlationId).toBe("mine")
      expect((yield* requests)[0]!.headers["x-correlation-id"]).toBe("mine")
    }).pipe(Effect.provide(
      WebhookSender.layer().pipe(
        Layer.provide(ResilientHttpClient.layer()),
        Layer.provideMerge(WebhookConfig.layer({ OrderPlaced: [{ url: a }] })),
        Layer.provideMerge(testing.scriptedClient([200]))
      )
    )))
})

/** Compile-time: a report's error is one of a closed union. */
export const tags = (report: WebhookSender.DeliveryReport): string => report.error?._tag ?? "none"
