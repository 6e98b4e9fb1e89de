import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Circuit from "../../src/http/Circuit.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as EndpointRows from "../../src/outbox/internal/endpointRows.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as testing from "../../src/webhooks/testing.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import { type Backend, backends } from "../support/backends.js"
import { endpoints } from "../support/outboxing.js"
import { logs } from "../support/recording.js"

const layer = (backend: Backend) =>
  EndpointHealth.layer.pipe(
    Layer.provideMerge(WebhookSender.layer()),
    Layer.provideMerge(ResilientHttpClient.layer()),
    Layer.provideMerge(Layer.mergeAll(
      Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), backend.layer),
      endpoints({ a: { format: "standard" }, b: {}, c: { enabled: false } }),
      testing.scriptedClient([503])
    )),
    Layer.orDie
  )

const writeRow = (row: EndpointRows.EndpointRow) =>
  Effect.flatMap(OutboxSchema.OutboxSchema, (store) => store.transaction(EndpointRows.write(store, [row], 0)))

const broken: EndpointRows.EndpointRow = {
  ...EndpointRows.blank("a"),
  circuit: Circuit.Circuit.Open({ generation: 4, until: 90_000, failedProbes: 2 }),
  pausedUntil: 80_000,
  consecutiveFailures: 9,
  firstFailureAt: 1,
  lastFailureAt: 2,
  lastSuccessAt: 3,
  nextSlotAt: 4
}

describe.each(backends)("EndpointHealth on $name", (backend) => {
  it.effect("shows every endpoint that is configured or known, at this moment", () =>
    Effect.gen(function*() {
      const health = yield* EndpointHealth.EndpointHealth
      yield* writeRow(broken)
      yield* writeRow({
        ...EndpointRows.blank("removed"),
        circuit: Circuit.Circuit.HalfOpen({ generation: 1, since: 0, inFlight: 1, succeeded: 0, failedProbes: 0 })
      })
      const list = yield* health.list
      expect(list.map(({ circuit, configured, id }) => [id, circuit, configured])).toEqual([
        ["a", "Open", true],
        ["b", "Closed", true],
        ["c", "Closed", true],
        ["removed", "HalfOpen", false]
      ])
      expect(yield* health.get("a")).toEqual({
        id: "a",
        circuit: "Open",
        opensAgainAt: 90_000,
        pausedUntil: 80_000,
        disabled: undefined,
        consecutiveFailures: 9,
        firstFailureAt: 1,
        lastFailureAt: 2,
        lastSuccessAt: 3,
        configured: true
      })
      yield* TestClock.adjust(80_000)
      expect((yield* health.get("a")).pausedUntil).toBeUndefined()
      // Its probe never came back.
      expect((yield* health.get("removed")).circuit).toBe("Open")
      for (const effect of [health.get("x"), health.disable("x", "?"), health.enable("x")]) {
        expect((yield* Effect.flip(effect))._tag).toBe("EndpointNotFound")
      }
      for (const id of ["x", "removed"]) expect((yield* Effect.flip(health.test(id)))._tag).toBe("EndpointNotFound")
      expect((yield* health.list).length).toBe(4)
    }).pipe(Effect.provide(layer(backend))))

  it.effect("disables once and enables with a clean sheet; each is told", () => {
    const { layer: recording, lines } = logs()
    return Effect.gen(function*() {
      const health = yield* EndpointHealth.EndpointHealth
      const store = yield* OutboxSchema.OutboxSchema
      yield* writeRow(broken)
      const events = yield* Effect.fork(Stream.runCollect(Stream.take(health.events, 2)))
      yield* Effect.yieldNow()
      yield* TestClock.adjust(10)
      const disabled = { at: 10, by: "operator", reason: "moving" }
      expect((yield* health.disable("a", "moving")).disabled).toEqual(disabled)
      yield* TestClock.adjust(10)
      expect((yield* health.disable("a", "again")).disabled).toEqual(disabled)
      const woken = yield* Effect.fork(store.awaitWake())
      yield* Effect.yieldNow()
      expect(yield* health.enable("a")).toEqual({
        id: "a",
        circuit: "Closed",
        opensAgainAt: undefined,
        pausedUntil: undefined,
        disabled: undefined,
        consecutiveFailures: 0,
        firstFailureAt: undefined,
        lastFailureAt: undefined,
        lastSuccessAt: 3,
        configured: true
      })
      yield* Fiber.join(woken)
      const row = (yield* EndpointRows.read(store, ["a"])).get("a")
      // What is under way was admitted by an earlier generation; and the pace stays.
      expect([row?.circuit.generation, row?.nextSlotAt]).toEqual([5, 4])
      yield* health.enable("a")
      expect(Chunk.toReadonlyArray(yield* Fiber.join(events))).toEqual([
        { type: "endpoint.disabled", endpointId: "a", at: 10, reason: "moving" },
        { type: "endpoint.enabled", endpointId: "a", at: 20 }
      ])
      expect(lines).toEqual([
        { message: "endpoint.disabled", level: "INFO", annotations: { endpointId: "a", reason: "moving" } },
        { message: "endpoint.enabled", level: "INFO", annotations: { endpointId: "a" } }
      ])
    }).pipe(Effect.provide(layer(backend)), Effect.provide(recording))
  })
})

describe("EndpointHealth", () => {
  const sqlite = layer(backends[0]!)

  it.effect("a test is one request, whatever the state of the endpoint, and leaves no trace", () =>
    Effect.gen(function*() {
      const health = yield* EndpointHealth.EndpointHealth
      yield* writeRow({ ...broken, disabled: { at: 1, by: "gone", reason: "answered 410 Gone" } })
      const before = yield* health.get("a")
      const report = yield* health.test("a")
      expect(report).toMatchObject({
        endpointId: "a",
        eventType: "webhook.test",
        outcome: "failed",
        status: 503,
        attempts: 1
      })
      const { requests } = yield* testing.FakeHttpClient
      const [request, ...others] = yield* requests
      expect(others).toEqual([])
      expect(JSON.parse(request!.text)).toMatchObject({ type: "webhook.test", data: { endpoint_id: "a" } })
      expect(request!.headers["webhook-id"]).toBe(report.messageId)
      expect(yield* health.get("a")).toEqual(before)
      // Neither retries nor the process's breaker stand in the way of asking again.
      for (let n = 0; n < 10; n++) expect((yield* health.test("b")).attempts).toBe(1)
    }).pipe(Effect.provide(sqlite)))

  it.effect("a slow subscriber loses the oldest events", () =>
    Effect.gen(function*() {
      const health = yield* EndpointHealth.EndpointHealth
      yield* Effect.scoped(Effect.gen(function*() {
        const pull = yield* Stream.toPull(Stream.rechunk(health.events, 1))
        const first = yield* Effect.fork(pull)
        yield* Effect.yieldNow()
        for (let at = 0; at < 1500; at++) {
          yield* health.publish({ type: "endpoint.recovered", endpointId: "a", at })
        }
        yield* Fiber.join(first)
        const next = Chunk.toReadonlyArray(yield* pull)
        expect(next[0]!.at).toBeGreaterThanOrEqual(499)
      }))
    }).pipe(Effect.provide(sqlite), Effect.provide(logs().layer)))
})
