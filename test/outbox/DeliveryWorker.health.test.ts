/** What the fleet knows of an endpoint, and what that means for its deliveries: the breaker, five days of failures, endpoints that are not configured. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import { postgres } from "../support/backends.js"
import { enqueue } from "../support/outboxing.js"
import { quiet } from "../support/recording.js"
import {
  calls,
  deliveries,
  eventually,
  fleet,
  leave,
  operatorEvents,
  pass,
  play,
  receiver,
  states,
  times,
  wake,
  working
} from "../support/working.js"

const second = 1000
const hour = 3600 * second
const day = 24 * hour

describe("an open breaker", () => {
  it.effect("lets deliveries wait without an attempt, then one probe at a time goes, in longer and longer breaks", () =>
    Effect.gen(function*() {
      const events = yield* operatorEvents
      for (let n = 0; n < 5; n++) yield* enqueue()
      yield* pass(0)
      expect(yield* times("a")).toEqual([0, 0, 0, 0, 0])
      for (let n = 0; n < 20; n++) yield* enqueue()
      yield* pass(29_999)
      expect(yield* calls("a")).toHaveLength(5)
      expect((yield* deliveries).slice(5).map(({ attempts, dueAt }) => [attempts, dueAt]))
        .toEqual(Array.from({ length: 20 }, () => [0, 0]))
      // 30 seconds, then 1, 2, 4 and 5 minutes.
      yield* pass("13 minutes")
      expect((yield* times("a")).slice(5)).toEqual([30, 90, 210, 450, 750].map((at) => at * second))
      expect(events.types()).toEqual(["endpoint.failing"])
      // A success lets all the others go.
      yield* play({ a: [200] })
      yield* pass("5 minutes")
      expect((yield* calls("a")).filter(({ at }) => at >= 1050 * second)).toHaveLength(25)
      expect(new Set(yield* states)).toEqual(new Set(["delivered"]))
      expect(events.types()).toEqual(["endpoint.failing", "endpoint.recovered"])
    }).pipe(Effect.provide(working({ steps: { a: [500] } })), quiet))

  it.effect("is the endpoint's own", () =>
    Effect.gen(function*() {
      for (let n = 0; n < 6; n++) yield* enqueue()
      yield* pass("1 second")
      yield* enqueue()
      yield* pass(0)
      expect(yield* times("b")).toEqual([0, 0, 0, 0, 0, 0, second])
    }).pipe(Effect.provide(working({ endpoints: { a: {}, b: {} }, steps: { a: [500] } })), quiet))

  it.live("is the fleet's: two workers send one probe a break between them", () =>
    Effect.gen(function*() {
      const pause = 150
      const [one, two] = yield* fleet(2, yield* postgres.database, {
        worker: {
          poll: "20 millis",
          schedule: Array.from({ length: 100 }, () => "1 millis"),
          breaker: { consecutiveFailures: 1, breakDuration: () => pause }
        }
      })
      yield* Effect.provide(enqueue(), one!)
      // What is claimed before the failure is settled still finds the circuit closed.
      const failing = Effect.flatMap(EndpointHealth.EndpointHealth, (health) => health.get("a"))
      yield* eventually(Effect.map(Effect.provide(failing, one!), ({ consecutiveFailures }) => consecutiveFailures > 0))
      yield* Effect.forEach([one!, two!, one!, two!, one!, two!], (context) =>
        Effect.provide(Effect.replicateEffect(enqueue(), 3), context))
      yield* eventually(Effect.map(calls(), ({ length }) =>
        length >= 5))
      yield* play({ a: [{ status: 200, delay: 50 }] })
      yield* eventually(Effect.map(Effect.provide(states, one!), (all) => all.every((state) => state === "delivered")))

      const seen = yield* calls()
      const probes = seen.slice(0, seen.length - 18)
      for (const [index, { at }] of probes.entries()) {
        if (index > 0) expect(at - probes[index - 1]!.endedAt!).toBeGreaterThanOrEqual(pause)
      }
      const last = probes.at(-1)!
      expect(seen.slice(probes.length).every(({ at, beside }) => at >= last.endedAt! && !beside.includes(last))).toBe(
        true
      )
    }).pipe(Effect.scoped, Effect.provide(receiver({ a: [500] })), quiet))
})

describe("an endpoint that only fails", () => {
  /** One delivery with one attempt. */
  const failure = enqueue()

  it.effect("is disabled after five days of it, and an operator told; what waits goes when it is enabled", () =>
    Effect.gen(function*() {
      const events = yield* operatorEvents
      const health = yield* EndpointHealth.EndpointHealth
      for (let n = 0; n < 5; n++) {
        yield* failure
        yield* pass("1 day")
      }
      expect((yield* health.get("a")).disabled).toBeUndefined()
      yield* failure
      yield* pass(0)
      expect((yield* health.get("a")).disabled).toMatchObject({ at: 5 * day, by: "failing" })
      expect(events.seen.filter(({ type }) => type === "endpoint.disabled"))
        .toMatchObject([{ endpointId: "a", at: 5 * day }])

      yield* play({ a: [200] })
      for (let n = 0; n < 3; n++) yield* enqueue()
      yield* pass("10 days")
      expect(yield* calls("a")).toHaveLength(6)
      expect((yield* states).slice(6)).toEqual(["pending", "pending", "pending"])

      yield* health.enable("a")
      yield* pass(0)
      expect((yield* states).slice(6)).toEqual(["delivered", "delivered", "delivered"])
      expect(events.types()).toContain("endpoint.enabled")
    }).pipe(Effect.provide(working({ steps: { a: [404] }, worker: { schedule: [0] } })), quiet))

  it.effect("goes on after five days if one success came between", () =>
    Effect.gen(function*() {
      const health = yield* EndpointHealth.EndpointHealth
      for (let n = 0; n < 9; n++) {
        yield* failure
        yield* pass("1 day")
      }
      expect(yield* calls("a")).toHaveLength(9)
      expect(yield* health.get("a")).toMatchObject({
        disabled: undefined,
        firstFailureAt: 5 * day,
        lastSuccessAt: 4 * day
      })
    }).pipe(
      Effect.provide(working({ steps: { a: [404, 404, 404, 404, 200, 404] }, worker: { schedule: [0] } })),
      quiet
    ))

  it.effect("goes on if its failures lie within twelve hours: it was merely quiet since", () =>
    Effect.gen(function*() {
      const health = yield* EndpointHealth.EndpointHealth
      for (const wait of [11 * hour, 6 * day, 0]) {
        yield* failure
        yield* pass(wait)
      }
      expect(yield* calls("a")).toHaveLength(3)
      expect((yield* health.get("a")).disabled).toBeUndefined()
    }).pipe(Effect.provide(working({ steps: { a: [404] }, worker: { schedule: [0] } })), quiet))
})

describe("an endpoint that is not configured, or not enabled", () => {
  it.effect("gets nothing, and its deliveries wait; the others' go on", () =>
    Effect.gen(function*() {
      yield* leave([{ endpoint: "gone", lane: "first" }, { endpoint: "off", lane: "leased", fence: "dead" }])
      yield* wake
      yield* pass("3 days")
      yield* enqueue()
      yield* pass("3 days")
      expect((yield* calls()).map(({ endpoint }) => endpoint)).toEqual(["a"])
      expect(yield* states).toEqual(["pending", "pending", "delivered"])
      const { stats } = yield* Deliveries.Deliveries
      expect(yield* stats).toMatchObject({
        orphaned: 1,
        endpoints: [{ id: "gone", pending: 1, leased: 0, orphaned: true }, { id: "off", pending: 1, orphaned: false }]
      })
    }).pipe(Effect.provide(working({ endpoints: { a: {}, off: { enabled: false } } })), quiet))

  it.effect("is left alone as long as an operator says so; attempts under way end", () =>
    Effect.gen(function*() {
      const { disable, enable } = yield* EndpointHealth.EndpointHealth
      yield* enqueue()
      yield* pass("1 second")
      yield* disable("a", "maintenance")
      yield* enqueue()
      yield* pass("3 days")
      expect(yield* states).toEqual(["delivered", "pending"])
      expect(yield* calls("a")).toHaveLength(1)
      yield* enable("a")
      yield* pass("5 seconds")
      expect(yield* states).toEqual(["delivered", "delivered"])
    }).pipe(Effect.provide(working({ steps: { a: [{ status: 200, delay: "5 seconds" }] } })), quiet))
})
