/** When a delivery is attempted, and what becomes of it; on the endpoint as a whole see the other files of the worker. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import { enqueue } from "../support/outboxing.js"
import { quiet } from "../support/recording.js"
import { calls, deliveries, operatorEvents, pass, play, states, times, working } from "../support/working.js"

const second = 1000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

/** Since the attempt before. */
const delays = [0, 5 * second, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour]
const sums = (delays: ReadonlyArray<number>) => delays.map((_, n) => delays.slice(0, n + 1).reduce((a, b) => a + b))

it.effect("delivers at once what is enqueued", () =>
  Effect.gen(function*() {
    const { messageId } = yield* enqueue()
    yield* pass(0)
    expect(yield* times("a")).toEqual([0])
    const { attempts, message } = yield* Deliveries.Deliveries
    const [delivery] = (yield* message(messageId)).deliveries
    expect(delivery).toMatchObject({ state: "delivered", attempts: 1, lastStatus: 200, dueAt: undefined, endedAt: 0 })
    expect(yield* attempts(delivery!.id)).toMatchObject([{
      number: 1,
      startedAt: 0,
      outcome: "delivered",
      status: 200
    }])
  }).pipe(Effect.provide(working()), quiet))

describe("the schedule", () => {
  it.effect("has ten attempts, then the delivery is exhausted and an operator told", () =>
    Effect.gen(function*() {
      const events = yield* operatorEvents
      const { messageId } = yield* enqueue()
      yield* pass("30 days")
      expect(yield* times("a")).toEqual(sums(delays))
      expect((yield* calls("a")).map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
      expect(yield* states).toEqual(["exhausted:attempts"])
      expect(events.seen.filter(({ type }) => type === "delivery.exhausted")).toEqual([{
        type: "delivery.exhausted",
        endpointId: "a",
        deliveryId: "dlv_1",
        messageId,
        at: sums(delays)[9],
        reason: "attempts"
      }])
      const { attempts } = yield* Deliveries.Deliveries
      expect((yield* attempts("dlv_1")).map(({ number, startedAt, status }) => [number, startedAt, status]))
        .toEqual(sums(delays).map((at, n) => [n + 1, at, 500]))
    }).pipe(Effect.provide(working({ steps: { a: [500] } })), quiet))

  it.effect.each([0.5, 1])(
    "is only ever lengthened by chance, by a tenth at most (%d)",
    (chance) =>
      Effect.gen(function*() {
        yield* enqueue()
        yield* pass("30 days")
        expect(yield* times("a")).toEqual(sums(delays.map((delay) => delay * (1 + chance / 10))))
      }).pipe(Effect.provide(working({ chance, steps: { a: [500] } })), quiet)
  )

  it.effect("is kept where the worker hardly looks by itself: behind one that is due there may be one that will be", () =>
    Effect.gen(function*() {
      yield* enqueue()
      yield* pass("4 seconds")
      yield* enqueue()
      yield* pass("1 minute")
      expect(yield* times("a")).toEqual([0, 4, 10, 14].map((at) => at * second))
    }).pipe(
      Effect.provide(
        working({ steps: { a: [500] }, worker: { poll: "1 hour", schedule: ["0 seconds", "10 seconds"] } })
      ),
      quiet
    ))

  it.effect("puts the first attempt off, too, if it says so: each delivery's from when it was stored", () =>
    Effect.gen(function*() {
      yield* enqueue()
      yield* pass("4 seconds")
      yield* enqueue()
      yield* pass("1 minute")
      expect(yield* times("a")).toEqual([10, 14, 15, 19].map((at) => at * second))
      expect(yield* states).toEqual(["exhausted:attempts", "exhausted:attempts"])
    }).pipe(
      Effect.provide(working({ steps: { a: [500] }, worker: { schedule: ["10 seconds", "5 seconds"] } })),
      quiet
    ))
})

describe("Retry-After", () => {
  const later = (status: number) => ({ status, headers: { "retry-after": "3600" } })

  it.effect.each([[0, 429], [1, 429], [0, 503], [1, 503]] as const)(
    "is never undercut, whatever chance says (%d, status %d)",
    ([chance, status]) =>
      Effect.gen(function*() {
        yield* enqueue()
        yield* pass(hour - 1)
        expect(yield* times("a")).toEqual([0])
        yield* pass(1)
        expect(yield* times("a")).toEqual([0, hour])
      }).pipe(Effect.provide(working({ chance, steps: { a: [later(status), 200] } })), quiet)
  )

  it.effect("doesn't shorten a wait of our own that is longer", () =>
    Effect.gen(function*() {
      yield* enqueue()
      yield* pass("1 day")
      expect(yield* times("a")).toEqual([0, 5 * second, 305 * second])
    }).pipe(
      Effect.provide(
        working({ steps: { a: [500, { status: 503, headers: { "retry-after": "10" } }, 200] } })
      ),
      quiet
    ))

  it.effect("of another status delays the delivery and not the endpoint", () =>
    Effect.gen(function*() {
      yield* enqueue()
      yield* pass(0)
      yield* enqueue()
      yield* pass(hour)
      expect(yield* times("a")).toEqual([0, 0, hour])
    }).pipe(Effect.provide(working({ steps: { a: [later(400), 200] } })), quiet))

  it.effect.each([429, 503])(
    "of %d pauses the whole endpoint, and then one probe goes before the others",
    (status) =>
      Effect.gen(function*() {
        yield* enqueue()
        yield* pass(0)
        for (let n = 0; n < 4; n++) yield* enqueue()
        yield* pass(hour - 1)
        expect(yield* times("a")).toEqual([0])
        // What waited has used no attempt.
        expect((yield* deliveries).map(({ attempts }) => attempts)).toEqual([1, 0, 0, 0, 0])
        yield* pass(1)
        yield* pass(6 * second)
        expect(yield* times("a")).toEqual([0, hour])
        yield* pass(1 * second)
        expect(yield* times("a")).toEqual([0, hour, ...Array.from({ length: 4 }, () => hour + 7 * second)])
        expect(yield* states).toEqual(["delivered", "delivered", "delivered", "delivered", "delivered"])
      }).pipe(
        Effect.provide(working({ steps: { a: [later(status), { status: 200, delay: "7 seconds" }, 200] } })),
        quiet
      )
  )
})

it.effect("two endpoints of a message don't touch each other's schedule", () =>
  Effect.gen(function*() {
    yield* enqueue()
    yield* pass("2 days")
    const waits = [0, 5, 305, 2105].map((at) => at * second)
    expect(yield* times("a")).toEqual(waits)
    expect(yield* times("b")).toEqual([0])
    expect(yield* times("c")).toEqual([0, day])
    expect(yield* states).toEqual(["delivered", "delivered", "delivered"])
  }).pipe(
    Effect.provide(working({
      endpoints: { a: {}, b: {}, c: {} },
      steps: { a: [500, "refused", 404, 200], b: [200], c: [{ status: 503, headers: { "retry-after": "86400" } }, 200] }
    })),
    quiet
  ))

describe("what a receiver may ask for", () => {
  const directive = (value: string, status = 400) => ({ status, headers: { "webhook-delivery": value } })

  it.effect("`abort-message` discards that delivery and no other", () =>
    Effect.gen(function*() {
      yield* enqueue()
      yield* pass(0)
      yield* enqueue()
      yield* pass("1 day")
      expect(yield* states).toEqual(["discarded:aborted", "delivered", "delivered", "delivered"])
      expect(yield* times("a")).toEqual([0, 0])
    }).pipe(
      Effect.provide(working({ endpoints: { a: {}, b: {} }, steps: { a: [directive("abort-message"), 200] } })),
      quiet
    ))

  it.effect.each([["410", 410, "gone"], ["`disable`", directive("disable"), "disabled"]] as const)(
    "%s disables the endpoint: what is pending and what comes is discarded, until it is enabled and recovered",
    ([, answer, reason]) =>
      Effect.gen(function*() {
        const events = yield* operatorEvents
        const { recover, replay, stats } = yield* Deliveries.Deliveries
        const health = yield* EndpointHealth.EndpointHealth
        // One that waits for its retry, and of one aggregate one in flight and two that are held.
        yield* enqueue({ aggregateId: "o-1" })
        yield* pass(0)
        yield* play({ a: [{ ...(typeof answer === "number" ? { status: answer } : answer), delay: "2 seconds" }] })
        for (let n = 0; n < 3; n++) yield* enqueue({ aggregateId: "o-2" })
        yield* pass(0)
        expect((yield* deliveries).map(({ held }) => held)).toEqual([false, false, true, true])
        yield* pass("2 seconds")
        expect(yield* states).toEqual([
          "discarded:disabled",
          `discarded:${reason}`,
          "discarded:disabled",
          "discarded:disabled"
        ])
        expect(events.seen.filter(({ type }) => type === "endpoint.disabled")).toMatchObject([{
          endpointId: "a",
          at: 2000
        }])
        expect((yield* health.get("a")).disabled).toMatchObject({ at: 2000 })

        yield* play({ a: [200] })
        yield* pass("1 day")
        yield* enqueue({ aggregateId: "o-3" })
        yield* pass("1 day")
        expect(yield* times("a")).toEqual([0, 0])
        expect((yield* states)[4]).toBe("discarded:disabled")
        expect(yield* stats).toMatchObject({ states: { pending: 0, discarded: 5 }, orphaned: 0 })
        expect(yield* Effect.flip(replay("dlv_1"))).toMatchObject({ _tag: "EndpointDisabled" })
        expect(yield* Effect.flip(recover({ endpointId: "a", since: 0 }))).toMatchObject({ _tag: "EndpointDisabled" })

        yield* health.enable("a")
        expect(yield* recover({ endpointId: "a", since: 0 })).toEqual({ recovered: 5 })
        yield* pass("1 second")
        expect(yield* states).toEqual(["delivered", "delivered", "delivered", "delivered", "delivered"])
        const seen = yield* calls("a")
        expect(seen).toHaveLength(7)
        // The same ids as before: a receiver knows them again.
        expect(new Set(seen.map(({ id }) => id)).size).toBe(5)
      }).pipe(
        Effect.provide(working({ endpoints: { a: { ordered: true } }, steps: { a: [500] } })),
        quiet
      )
  )
})

/** As a host may have it that holds its endpoints to no rules. */
const unsafeEndpoint = (id: string, url: string) =>
  new Endpoint.Endpoint({
    id,
    url,
    events: ["*"],
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

it.effect("what can't be sent as it is configured is exhausted without a second attempt; a sibling is delivered", () =>
  Effect.gen(function*() {
    yield* enqueue()
    yield* pass("1 day")
    expect(yield* states).toEqual(["exhausted:rejected", "delivered"])
  }).pipe(
    Effect.provide(working({
      directory: Endpoints.layerOf([
        unsafeEndpoint("a", "https://hooks.example.com:99999/a"),
        unsafeEndpoint("b", "https://hooks.example.com/b")
      ])
    })),
    quiet
  ))
