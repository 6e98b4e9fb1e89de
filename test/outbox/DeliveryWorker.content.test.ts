/** What goes over the wire and into the rows at each attempt, and by whose clock. */
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import type * as Tracer from "effect/Tracer"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import * as testing from "../../src/webhooks/testing.js"
import { dump, type EndpointFields, enqueue } from "../support/outboxing.js"
import { quiet, spans } from "../support/recording.js"
import { calls, pass, prepared, start, times, working } from "../support/working.js"

const second = 1000
const minute = 60 * second
const hour = 60 * minute

const requests = Effect.flatMap(testing.FakeHttpClient, (fake) => fake.requests)

it.effect("every attempt has the same id and bytes, and a time and signatures of its own", () => {
  let format: Endpoint.Format = "event"
  const make = (fields: EndpointFields = {}) =>
    Effect.orDie(Endpoint.make({
      id: "a",
      url: "https://hooks.example.com/a",
      events: ["*"],
      secrets: ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
      format,
      ...fields
    }))
  const directory = Layer.succeed(Endpoints.Endpoints, {
    matching: () => Effect.map(make(), (endpoint) => [endpoint]),
    get: () => Effect.asSome(make()),
    list: Effect.map(make(), (endpoint) => [endpoint])
  })
  return Effect.gen(function*() {
    const { messageId } = yield* enqueue()
    yield* pass(0)
    // The operator wants another format from now on: for messages from now on.
    format = "cloudevents"
    yield* pass("10 minutes")
    const seen = yield* requests
    expect(seen.map(({ at }) => at)).toEqual([0, 5 * second, 305 * second])
    expect(seen.map(({ attempt }) => attempt)).toEqual([1, 2, 3])
    expect(new Set(seen.map(({ headers }) => headers["webhook-id"]))).toEqual(new Set([messageId]))
    expect(new Set(seen.map(({ text }) => text)).size).toBe(1)
    expect(seen[0]?.text).toContain("\"event_type\": \"order.created\"")
    expect(new Set(seen.map(({ headers }) => headers["content-type"])).size).toBe(1)
    expect(seen.map(({ headers }) => headers["webhook-timestamp"])).toEqual(["0", "5", "305"])
    expect(new Set(seen.map(({ headers }) => headers["webhook-signature"])).size).toBe(3)
    expect(new Set(seen.map(({ headers }) => headers["x-correlation-id"])).size).toBe(1)
    yield* enqueue()
    yield* pass(0)
    expect((yield* requests)[3]?.headers["content-type"]).toContain("cloudevents")
  }).pipe(Effect.provide(working({ directory, steps: { a: [500, 500, 200] } })), quiet)
})

it.effect("the span of each attempt is a trace of its own that links to the one of the event", () => {
  const { layer, recorded } = spans()
  return Effect.gen(function*() {
    yield* Effect.withSpan(enqueue(), "host.request")
    yield* pass("10 seconds")
    const host = recorded.find(({ name }) => name === "host.request")!.span
    const enqueued = recorded.find(({ name }) => name === "Outbox.enqueue")!.span
    const attempts = recorded.filter(({ name }) => name === "DeliveryWorker.attempt")
    expect(attempts.map(({ attributes }) => [attributes.get("attempt"), attributes.get("endpointId")]))
      .toEqual([[1, "a"], [2, "a"]])
    for (const { span } of attempts) {
      expect(span.parent).toEqual(Option.none())
      expect(span.links.map(({ span }: Tracer.SpanLink) => [span.traceId, span.spanId]))
        .toEqual([[host.traceId, enqueued.spanId]])
    }
    // What the request itself says is part of the attempt's trace.
    const trace = attempts[0]!.span.traceId
    expect(trace).not.toBe(host.traceId)
    expect((yield* requests)[0]?.headers["traceparent"]?.split("-")[1]).toBe(trace)
  }).pipe(Effect.provide(Layer.provideMerge(working({ steps: { a: [500, 200] } }), layer)), quiet)
})

it.effect("nothing secret gets into a row, however the receiver echoes it", () => {
  const secret = "whsec_cGxhbnRlZC1zZWNyZXQtcGxhbnRlZC1zZWNyZXQ="
  const directory = Layer.unwrapEffect(Effect.map(
    Effect.orDie(Endpoint.make({
      id: "a",
      url: "https://hooks.example.com/a?token=planted-query",
      events: ["*"],
      secrets: [secret],
      headers: { authorization: "Bearer planted-header" }
    })),
    (endpoint) => Endpoints.layerOf([endpoint])
  ))
  const echo = `no: planted-query / Bearer planted-header / ${secret} / planted-secret-planted-secret\u001b[31m\u202e ${
    "x".repeat(5000)
  }`
  return Effect.gen(function*() {
    yield* enqueue()
    yield* pass("1 hour")
    const sql = yield* SqlClient.SqlClient
    const attempts = yield* sql<{ readonly excerpt: string }>`SELECT excerpt FROM webhook_attempts`
    expect(attempts).toHaveLength(4)
    for (const { excerpt } of attempts.slice(0, 2)) {
      expect(excerpt).toMatch(/^no: ?\[redacted\]/)
      expect(excerpt.length).toBeLessThanOrEqual(1000)
      expect(excerpt).not.toMatch(/[\u0000-\u001f\u202e]/)
    }
    const stored = yield* dump
    for (
      const planted of ["planted-query", "planted-header", "cGxhbnRlZC1zZWNyZXQ", "planted-secret", "hooks.example.com"]
    ) {
      expect(stored).not.toContain(planted)
    }
    for (const { headers } of yield* requests) {
      expect(stored).not.toContain(headers["webhook-signature"]!.slice(3))
    }
  }).pipe(
    Effect.provide(working({
      directory,
      steps: { a: [{ status: 500, body: echo }, { status: 404, body: echo }, "reset", "refused"] }
    })),
    quiet
  )
})

const since = (began: number, endpoint: string) =>
  Effect.map(times(endpoint), (times) => times.map((at) => Math.round(at - began)))

describe("the wall clock jumps under a running worker", () => {
  it.effect.each([2 * hour, -2 * hour])(
    "by %d ms: no burst, no stall, no early Retry-After",
    (jump) =>
      Effect.gen(function*() {
        const began = Date.UTC(2026, 0, 27)
        yield* TestClock.setTime(began)
        // The worker's wall; what tells durations goes on as it is.
        let offset = 0
        const clock = yield* Clock.clockWith(Effect.succeed)
        const jumping: Clock.Clock = {
          [Clock.ClockTypeId]: Clock.ClockTypeId,
          unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + offset,
          currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + offset),
          unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos(),
          currentTimeNanos: clock.currentTimeNanos,
          sleep: (duration) => clock.sleep(duration)
        }
        const scope = yield* Scope.make()
        yield* Scope.extend(start(), scope).pipe(Effect.withClock(jumping))
        const enqueueJumped = Effect.withClock(enqueue(), jumping)
        yield* enqueueJumped
        yield* pass("10 seconds")
        expect(yield* since(began, "a")).toEqual([0, 5 * second])
        expect(yield* since(began, "b")).toEqual([0])
        offset = jump
        yield* enqueueJumped
        yield* pass("1 minute")
        // What comes goes at once; what waits goes on waiting: 5 minutes, and an hour of Retry-After.
        expect(yield* since(began, "a")).toEqual([0, 5 * second, 10 * second])
        yield* pass("2 hours")
        expect(yield* since(began, "a")).toEqual([0, 5 * second, 10 * second, 305 * second])
        const paused = yield* since(began, "b")
        expect(paused[1]).toBe(hour)
        expect(paused).toHaveLength(3)
        expect((yield* calls()).map(({ attempt }) => attempt).sort()).toEqual([1, 1, 1, 1, 2, 2, 3])
        yield* Scope.close(scope, Exit.void)
      }).pipe(
        Effect.provide(prepared({
          endpoints: { a: {}, b: {} },
          steps: { a: [500, 500, 200], b: [{ status: 503, headers: { "retry-after": "3600" } }, 200] }
        })),
        quiet
      )
  )
})
