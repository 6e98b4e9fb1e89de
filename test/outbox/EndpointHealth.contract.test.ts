import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import type { Endpoints } from "../../src/webhooks/Endpoints.js"
import * as testing from "../../src/webhooks/testing.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import { type Backend, backends } from "../support/backends.js"
import * as driving from "../support/driving.js"
import { count, dump, type EndpointFields, enqueue, outbox } from "../support/outboxing.js"
import { logs, quiet } from "../support/recording.js"

const { disable, enable, get, publish, test } = Effect.serviceFunctions(EndpointHealth.EndpointHealth)
const { list } = Effect.serviceConstants(EndpointHealth.EndpointHealth)

const healthLayer: Layer.Layer<
  EndpointHealth.EndpointHealth | testing.FakeHttpClient,
  never,
  OutboxSchema.OutboxSchema | Endpoints
> = Layer.provideMerge(EndpointHealth.layer, Layer.provideMerge(WebhookSender.layer(), driving.client([200])))

const over = (backend: Pick<Backend, "layer">, all: Readonly<Record<string, EndpointFields>> = { a: {}, b: {} }) =>
  Layer.provideMerge(healthLayer, outbox(backend, all))

/** A row as workers write it. */
const put = (id: string, columns: Readonly<Record<string, number | string | null>>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`INSERT INTO webhook_endpoints ${sql.insert({ id, updated_at: 1, ...columns })}`
  )

/** Runs an effect and tells the operator events that it caused. */
const told = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(EndpointHealth.EndpointHealth, ({ events, publish }) =>
    Effect.gen(function*() {
      const collected = yield* events.pipe(
        Stream.takeUntil(({ endpointId }) => endpointId === "the-end"),
        Stream.runCollect,
        Effect.fork
      )
      yield* Effect.yieldNow()
      yield* Effect.yieldNow()
      yield* effect
      yield* publish({ type: "endpoint.enabled", endpointId: "the-end", at: 0 })
      return Chunk.toReadonlyArray(yield* Fiber.join(collected)).slice(0, -1)
    }))

const healthy = {
  circuit: "Closed",
  opensAgainAt: undefined,
  pausedUntil: undefined,
  disabled: undefined,
  consecutiveFailures: 0,
  firstFailureAt: undefined,
  lastFailureAt: undefined,
  lastSuccessAt: undefined
}

describe.each(backends)("EndpointHealth on $name", (backend) => {
  const layer = over(backend)

  describe("get and list", () => {
    it.effect("tell the configured endpoints, and those of which something is stored", () =>
      Effect.gen(function*() {
        yield* put("zzz", {})
        yield* put("b", { last_success_at: 1_769_515_200_000 })
        const expected = [
          { ...healthy, id: "a", configured: true },
          { ...healthy, id: "b", configured: true, lastSuccessAt: 1_769_515_200_000 },
          { ...healthy, id: "off", configured: true },
          { ...healthy, id: "zzz", configured: false }
        ]
        expect(yield* list).toEqual(expected)
        for (const one of expected) expect(yield* get(one.id)).toEqual(one)
        for (const id of ["c", "", "é' OR 1=1", "a\u0000", "x".repeat(5000)]) {
          const error = yield* Effect.flip(get(id))
          expect(error._tag).toBe("EndpointNotFound")
          expect(error.message.length).toBeLessThan(300)
        }
      }).pipe(Effect.provide(over(backend, { b: {}, a: {}, off: { enabled: false } }))))

    it.effect("tell what workers have written", () =>
      Effect.gen(function*() {
        yield* put("a", {
          circuit: JSON.stringify({ _tag: "Open", generation: 3, until: 8000, failedProbes: 1 }),
          paused_until: 7000,
          consecutive_failures: 12,
          first_failure_at: 100,
          last_failure_at: 4000,
          last_success_at: 50,
          disabled_at: 4500,
          disabled_by: "failing",
          disabled_reason: "five days"
        })
        yield* TestClock.setTime(5000)
        const expected = {
          id: "a",
          circuit: "Open",
          opensAgainAt: 8000,
          pausedUntil: 7000,
          disabled: { at: 4500, by: "failing", reason: "five days" },
          consecutiveFailures: 12,
          firstFailureAt: 100,
          lastFailureAt: 4000,
          lastSuccessAt: 50,
          configured: true
        }
        expect(yield* get("a")).toEqual(expected)
        yield* TestClock.setTime(7000)
        expect(yield* get("a")).toEqual({ ...expected, pausedUntil: undefined })
        yield* put("b", { circuit: "{\"_tag\":\"from the future\"}" })
        expect(yield* get("b")).toEqual({ ...healthy, id: "b", configured: true })
      }).pipe(Effect.provide(layer)))
  })

  describe("disable", () => {
    it.effect("says since when and why, once, and survives a restart", () =>
      Effect.gen(function*() {
        const database = yield* backend.database
        const host = over({ layer: database.client })
        const disabled = { at: 1000, by: "operator", reason: "on holiday" }
        yield* Effect.gen(function*() {
          yield* TestClock.setTime(1000)
          const events = yield* told(Effect.gen(function*() {
            expect(yield* disable("a", "on holiday")).toEqual({ ...healthy, id: "a", configured: true, disabled })
            yield* TestClock.setTime(2000)
            expect(yield* disable("a", "another reason")).toMatchObject({ disabled })
          }))
          expect(events).toEqual([{ type: "endpoint.disabled", endpointId: "a", at: 1000, reason: "on holiday" }])
        }).pipe(Effect.provide(host))
        const after = yield* Effect.provide(list, host)
        expect(after.map(({ disabled }) => disabled)).toEqual([disabled, undefined])
      }).pipe(Effect.scoped, quiet))

    it.effect("lets new deliveries wait", () =>
      Effect.gen(function*() {
        yield* disable("a", "on holiday")
        yield* enqueue()
        expect(yield* count("webhook_deliveries")).toBe(2)
        const sql = yield* SqlClient.SqlClient
        expect(yield* sql`SELECT DISTINCT state FROM webhook_deliveries`).toEqual([{ state: "pending" }])
      }).pipe(Effect.provide(layer), quiet))

    it.effect("keeps a reason within bounds", () =>
      Effect.gen(function*() {
        expect((yield* disable("a", "x".repeat(5000))).disabled?.reason).toHaveLength(1000)
        const odd = "quote ' \u0000 \ud800 😀"
        expect((yield* disable("b", odd)).disabled?.reason).toContain("quote ' ")
      }).pipe(Effect.provide(layer), quiet))

    it.effect("fails where there is no such endpoint, and makes none", () =>
      Effect.gen(function*() {
        expect((yield* Effect.flip(disable("c", "x")))._tag).toBe("EndpointNotFound")
        expect((yield* Effect.flip(enable("c")))._tag).toBe("EndpointNotFound")
        expect(yield* count("webhook_endpoints")).toBe(0)
      }).pipe(Effect.provide(layer)))

    it.live("at the same time from several connections is told once", () =>
      Effect.gen(function*() {
        const database = yield* backend.database
        yield* Effect.provide(OutboxSchema.migrate(), database.client)
        const { layer: lines, lines: logged } = logs()
        yield* Effect.all(
          Array.from(
            { length: 4 },
            (_, n) => Effect.provide(disable("a", `by ${n}`), over({ layer: database.client }))
          ),
          { concurrency: "unbounded" }
        ).pipe(Effect.provide(lines))
        expect(logged.filter(({ message }) => message === "endpoint.disabled")).toHaveLength(1)
      }).pipe(Effect.scoped))
  })

  describe("enable", () => {
    it.effect("forgets failures, pause and circuit, and keeps the last success", () =>
      Effect.gen(function*() {
        yield* put("a", {
          circuit: JSON.stringify({ _tag: "Open", generation: 3, until: 900_000, failedProbes: 1 }),
          paused_until: 800_000,
          consecutive_failures: 12,
          first_failure_at: 100,
          last_failure_at: 4000,
          last_success_at: 50,
          disabled_at: 4500,
          disabled_by: "gone",
          disabled_reason: "answered 410 Gone"
        })
        yield* TestClock.setTime(5000)
        const events = yield* told(Effect.gen(function*() {
          const expected = { ...healthy, id: "a", configured: true, lastSuccessAt: 50 }
          expect(yield* enable("a")).toEqual(expected)
          expect(yield* get("a")).toEqual(expected)
          yield* enable("a")
        }))
        expect(events).toMatchObject([{ type: "endpoint.enabled", endpointId: "a", at: 5000 }])
        const sql = yield* SqlClient.SqlClient
        const [row] = yield* sql`SELECT circuit FROM webhook_endpoints WHERE id = 'a'`
        // A later generation: attempts that began before change nothing any more.
        expect(JSON.parse(String(row?.["circuit"])).generation).toBeGreaterThan(3)
      }).pipe(Effect.provide(layer), quiet))

    it.effect("wakes workers", () =>
      Effect.gen(function*() {
        const store = yield* OutboxSchema.OutboxSchema
        yield* disable("a", "on holiday")
        const woken = yield* Effect.fork(store.awaitWake())
        yield* Effect.yieldNow()
        yield* enable("a")
        yield* Fiber.join(woken)
      }).pipe(Effect.provide(layer), quiet))
  })

  describe("test", () => {
    it.effect("sends one signed request at once and reports, whatever the endpoint's state, and stores nothing", () =>
      Effect.gen(function*() {
        const fake = yield* testing.FakeHttpClient
        yield* disable("a", "on holiday")
        const before = yield* dump
        const report = yield* test("a")
        expect(report).toMatchObject({
          eventType: "webhook.test",
          endpointId: "a",
          outcome: "delivered",
          status: 200,
          attempts: 1
        })
        const [request] = yield* fake.requests
        expect(request?.headers["webhook-id"]).toBe(report.messageId)
        expect(request?.headers["webhook-signature"]).toMatch(/^v1,/)
        expect(JSON.parse(request?.text ?? "")).toMatchObject({
          event_type: "webhook.test",
          data: { endpoint_id: "a" }
        })
        expect(yield* dump).toBe(before)

        yield* fake.play([{ status: 503, headers: { "retry-after": "60" } }])
        expect(yield* test("a")).toMatchObject({ outcome: "failed", class: "http-status", status: 503, attempts: 1 })
        expect(yield* fake.count).toBe(2)
        expect(yield* dump).toBe(before)
      }).pipe(Effect.provide(over(backend, { a: { secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" } })), quiet))

    it.effect("fails for one that is not configured", () =>
      Effect.gen(function*() {
        yield* put("orphan", {})
        for (const id of ["c", "orphan"]) expect((yield* Effect.flip(test(id)))._tag).toBe("EndpointNotFound")
      }).pipe(Effect.provide(layer)))
  })

  it.effect("stores no secret, URL or header", () =>
    Effect.gen(function*() {
      yield* disable("a", "x")
      yield* enable("a")
      yield* test("a")
      expect(yield* dump).not.toMatch(/planted|https?:/)
    }).pipe(
      Effect.provide(over(backend, {
        a: {
          url: "https://hooks.example.com/in?token=planted",
          secret: "planted-planted-planted",
          headers: { authorization: "planted" }
        }
      })),
      quiet
    ))
})

describe("EndpointHealth.events", () => {
  const layer = over({ layer: backends[0]!.layer })
  const exhausted = (n: number): EndpointHealth.OperatorEvent => ({
    type: "delivery.exhausted",
    endpointId: "a",
    at: n,
    deliveryId: `dlv_${n}`,
    messageId: "m1",
    reason: "crashed"
  })

  it.effect("are log lines of their names, too", () =>
    Effect.gen(function*() {
      const { layer: recording, lines } = logs()
      yield* Effect.provide(
        Effect.all([
          publish(exhausted(1)),
          publish({ type: "endpoint.recovered", endpointId: "b", at: 2 }),
          publish({ type: "endpoint.disabled", endpointId: "c", at: 3, reason: "gone" })
        ]),
        recording
      )
      expect(lines.map(({ annotations, level, message }) => [message, level, annotations])).toEqual([
        ["delivery.exhausted", "ERROR", { endpointId: "a", deliveryId: "dlv_1", messageId: "m1", reason: "crashed" }],
        ["endpoint.recovered", "INFO", { endpointId: "b" }],
        // An operator's own is told as INFO, by `disable`.
        ["endpoint.disabled", "ERROR", { endpointId: "c", reason: "gone" }]
      ])
    }).pipe(Effect.provide(layer)))

  it.effect("reach every subscriber, and a slow one loses the oldest", () =>
    Effect.gen(function*() {
      const { events } = yield* EndpointHealth.EndpointHealth
      const latch = yield* Effect.makeLatch(false)
      const slow = yield* events.pipe(
        Stream.mapEffect((event) => Effect.as(latch.await, event.at)),
        Stream.takeUntil((at) => at === 1500),
        Stream.runCollect,
        Effect.fork
      )
      const quick = yield* events.pipe(Stream.take(3), Stream.map(({ at }) => at), Stream.runCollect, Effect.fork)
      yield* Effect.yieldNow()
      yield* Effect.yieldNow()
      yield* Effect.forEach([0, 1, 2], (n) => publish(exhausted(n)))
      expect(Chunk.toReadonlyArray(yield* Fiber.join(quick))).toEqual([0, 1, 2])
      yield* Effect.forEach(Array.from({ length: 1498 }, (_, n) => n + 3), (n) => publish(exhausted(n)))
      yield* latch.open
      const seen = Chunk.toReadonlyArray(yield* Fiber.join(slow))
      expect(seen.length).toBeLessThanOrEqual(1100)
      expect(seen.slice(-1000)).toEqual(Array.from({ length: 1000 }, (_, n) => n + 501))
    }).pipe(Effect.provide(layer), quiet))
})
