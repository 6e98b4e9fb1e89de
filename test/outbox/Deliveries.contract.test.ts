import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import { backends } from "../support/backends.js"
import { count, type EndpointFields, enqueue, outbox } from "../support/outboxing.js"

const deliveries = Effect.serviceFunctions(Deliveries.Deliveries)
const { attempts, cancel, get, list, message, purge, recover, replay } = deliveries
const { resumeRecoveries, stats } = Effect.serviceConstants(Deliveries.Deliveries)

/** Changes the row of `dlv_<n>`, as a worker would. */
const put = (n: number, columns: Readonly<Record<string, number | string | null>>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`UPDATE webhook_deliveries SET ${sql.update(columns)} WHERE id = ${n}`
  )

/** Columns of the row of `dlv_<n>`; numbers as numbers. */
const row = (n: number, ...columns: ReadonlyArray<string>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      Effect.map(sql`SELECT * FROM webhook_deliveries WHERE id = ${n}`, ([row]) =>
        columns.map((column) => {
          const value = row?.[column]
          return typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value
        }))
  )

const delivered = (endedAt: number) => ({ state: "delivered", lane: "retry", ended_at: endedAt, attempts: 1 })
const exhausted = (endedAt: number) => ({
  state: "exhausted",
  lane: "retry",
  step: 9,
  ended_at: endedAt,
  attempts: 10,
  lapses: 2
})
const discarded = (endedAt: number) => ({
  state: "discarded",
  reason: "gone",
  lane: "retry",
  ended_at: endedAt,
  attempts: 3,
  step: 3
})
const leased = (until: number) => ({ lane: "leased", due_at: until, fence: "f1" })

/** The endpoint's deliveries as an operator or a receiver left them. */
const disable = (id: string, by: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql`INSERT INTO webhook_endpoints (id, disabled_at, disabled_by, disabled_reason, updated_at)
      VALUES (${id}, 1, ${by}, 'on holiday', 1)`
  )
const enable = (id: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql`UPDATE webhook_endpoints SET disabled_at = NULL, disabled_by = NULL, disabled_reason = NULL WHERE id = ${id}`
  )

/** Stores `n` exhausted deliveries to an endpoint, which ended at 1, 2, … ms. */
const failedMany = (endpoint: string, n: number) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql`INSERT INTO webhook_deliveries
        (message_id, endpoint_id, event_type, format, state, lane, due_at, created_at, ended_at)
      WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < ${n})
      SELECT 'm' || i, ${endpoint}, 'order.created', 'event', 'exhausted', 'retry', 0, 0, i FROM numbers`)

const ids = (items: ReadonlyArray<{ readonly id: string }>) => items.map(({ id }) => id)
const dlv = (...numbers: ReadonlyArray<number>) => numbers.map((n) => `dlv_${n}`)

const unknownIds = [
  "dlv_999",
  "dlv_0",
  "dlv_01",
  "dlv_1 ",
  "1",
  "",
  "dlv_99999999999999999999",
  "dlv_-1",
  "dlv_1' OR '1'='1"
]

describe.each(backends)("Deliveries on $name", (backend) => {
  const over = (all?: Readonly<Record<string, EndpointFields>>) =>
    Layer.provideMerge(Deliveries.layer, outbox(backend, all))
  const layer = over()

  describe("message", () => {
    it.effect("tells all that is stored of one", () =>
      Effect.gen(function*() {
        yield* TestClock.setTime(1000)
        const { messageId } = yield* enqueue({
          tenant: "acme",
          occurredAt: "2026-01-27T12:00:00Z",
          correlationId: "c-1"
        }, "k1")
        const { bodies, deliveries, ...rest } = yield* message(messageId)
        expect(rest).toEqual({
          id: messageId,
          eventType: "order.created",
          tenant: "acme",
          aggregateId: "o-1",
          occurredAt: "2026-01-27T12:00:00Z",
          correlationId: "c-1",
          idempotencyKey: "k1",
          createdAt: 1000
        })
        expect([...bodies].map(([format, bytes]) => [format, Buffer.from(bytes).toString("utf8").slice(0, 14)]))
          .toEqual([
            ["event", "{\"aggregate_id"],
            ["standard", "{\"type\":\"order"]
          ])
        expect(deliveries.map(({ endpointId }) => endpointId)).toEqual(["a", "b"])
        expect(deliveries[0]).toEqual(yield* get("dlv_1"))
      }).pipe(Effect.provide(over({ a: {}, b: { format: "standard" } }))))

    it.effect("knows one without optional fields and without deliveries", () =>
      Effect.gen(function*() {
        yield* enqueue({ id: "m1", aggregateId: null })
        expect(yield* message("m1")).toMatchObject({
          tenant: undefined,
          aggregateId: null,
          idempotencyKey: undefined,
          deliveries: []
        })
      }).pipe(Effect.provide(over({}))))

    it.effect("fails where there is none, without repeating what can't be an id", () =>
      Effect.gen(function*() {
        for (const id of ["m1", "", "x' OR '1'='1", "a\u0000b", "é".repeat(1000)]) {
          const error = yield* Effect.flip(message(id))
          expect(error._tag).toBe("MessageNotFound")
          if (id !== "m1" && id !== "") expect(error.message).not.toContain(id)
        }
      }).pipe(Effect.provide(layer)))
  })

  describe("get and attempts", () => {
    it.effect("tell a delivery at each stage", () =>
      Effect.gen(function*() {
        yield* TestClock.setTime(1000)
        yield* enqueue({ id: "m1" })
        const fresh = {
          id: "dlv_1",
          messageId: "m1",
          endpointId: "a",
          eventType: "order.created",
          state: "pending",
          reason: undefined,
          attempts: 0,
          dueAt: 1000,
          leased: false,
          held: false,
          lastStatus: undefined,
          lastClass: undefined,
          createdAt: 1000,
          endedAt: undefined
        }
        expect(yield* get("dlv_1")).toEqual(fresh)
        yield* put(1, leased(5000))
        expect(yield* get("dlv_1")).toEqual({ ...fresh, leased: true, dueAt: undefined })
        yield* TestClock.setTime(5000)
        expect(yield* get("dlv_1")).toEqual({ ...fresh, leased: false, dueAt: 5000 })
        yield* put(1, { ...exhausted(6000), last_status: 503, last_class: "http-status" })
        expect(yield* get("dlv_1")).toEqual({
          ...fresh,
          state: "exhausted",
          attempts: 10,
          dueAt: undefined,
          lastStatus: 503,
          lastClass: "http-status",
          endedAt: 6000
        })
      }).pipe(Effect.provide(layer)))

    it.effect("tell the attempts in their order", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* enqueue()
        expect(yield* attempts("dlv_1")).toEqual([])
        const made = (number: number, delivery = 1) => ({
          delivery_id: delivery,
          number,
          started_at: 1_769_515_200_000 + number,
          duration: 15,
          outcome: "failed",
          class: "http-status",
          status: 503,
          excerpt: "busy"
        })
        yield* sql`INSERT INTO webhook_attempts ${sql.insert([made(2), made(10), made(1), made(1, 2)])}`
        yield* sql`INSERT INTO webhook_attempts (delivery_id, number, started_at, duration, outcome)
          VALUES (1, 11, 5, 0, 'delivered')`
        const found = yield* attempts("dlv_1")
        expect(ids(found)).toEqual(["att_1_1", "att_1_2", "att_1_10", "att_1_11"])
        expect(found[0]).toEqual({
          id: "att_1_1",
          deliveryId: "dlv_1",
          number: 1,
          startedAt: 1_769_515_200_001,
          duration: 15,
          outcome: "failed",
          class: "http-status",
          status: 503,
          excerpt: "busy"
        })
        expect(found[3]).toMatchObject({
          outcome: "delivered",
          class: undefined,
          status: undefined,
          excerpt: undefined
        })
      }).pipe(Effect.provide(layer)))

    it.effect("fail where there is none", () =>
      Effect.gen(function*() {
        yield* enqueue()
        for (const id of unknownIds) {
          for (const call of [get, attempts, cancel, replay]) {
            expect((yield* Effect.flip<unknown, { readonly _tag: string }, Deliveries.Deliveries>(call(id)))._tag)
              .toBe("DeliveryNotFound")
          }
        }
      }).pipe(Effect.provide(layer)))
  })

  describe("list", () => {
    it.effect("filters by state, endpoint and type, newest first", () =>
      Effect.gen(function*() {
        yield* enqueue({ type: "order.created" })
        yield* enqueue({ type: "order.paid" })
        yield* enqueue({ type: "order.created" })
        yield* put(1, delivered(1))
        yield* put(4, exhausted(1))
        yield* put(6, delivered(1))
        const found = (filter?: Deliveries.Filter) => Effect.map(list(filter), ({ items }) => ids(items))
        expect(yield* found()).toEqual(dlv(6, 5, 4, 3, 2, 1))
        expect(yield* found({ state: "delivered" })).toEqual(dlv(6, 1))
        expect(yield* found({ state: "pending" })).toEqual(dlv(5, 3, 2))
        expect(yield* found({ state: "discarded" })).toEqual([])
        expect(yield* found({ endpoint: "a" })).toEqual(dlv(5, 3, 1))
        expect(yield* found({ type: "order.paid" })).toEqual(dlv(4, 3))
        expect(yield* found({ type: "order.paid", endpoint: "b" })).toEqual(dlv(4))
        expect(yield* found({ state: "delivered", endpoint: "b", type: "order.created" })).toEqual(dlv(6))
        expect(yield* found({ endpoint: "nobody" })).toEqual([])
        expect(yield* found({ type: "' OR 1=1 --" })).toEqual([])
        expect(yield* found({ type: "a\u0000" })).toEqual([])
        expect(yield* found({ endpoint: "a\u0000", state: "pending" })).toEqual([])
      }).pipe(Effect.provide(layer)))

    it.effect("pages through what was there, though more comes and some goes meanwhile", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        for (
          const filter of [{}, { endpoint: "a" }, { type: "order.created" }, {
            state: "pending",
            endpoint: "a"
          }] as const
        ) {
          yield* sql`DELETE FROM webhook_deliveries`
          yield* Effect.replicateEffect(enqueue(), 7, { discard: true })
          const before = ids((yield* list(filter)).items)
          const seen: Array<string> = []
          let cursor: string | undefined = undefined
          let pages = 0
          do {
            const page: Deliveries.Page = yield* list(filter, { limit: 2, cursor })
            expect(page.items.length).toBeGreaterThan(0)
            seen.push(...ids(page.items))
            cursor = page.next
            pages++
            yield* enqueue()
            // The very row that the cursor names, too.
            if (pages === 2) yield* sql`DELETE FROM webhook_deliveries WHERE id = ${Number(cursor?.slice(4))}`
          } while (cursor !== undefined)
          expect(pages).toBe(4)
          expect(seen).toEqual(before)
        }
      }).pipe(Effect.provide(over({ a: {} }))))

    it.effect("gives 50 a page unless it is asked for 1 to 1 000", () =>
      Effect.gen(function*() {
        yield* failedMany("a", 1100)
        const length = (limit?: number) => Effect.map(list({}, { limit }), ({ items }) => items.length)
        expect(yield* Effect.forEach([undefined, 1, 1000, 1001, 0, -5, 2.9], length)).toEqual([
          50,
          1,
          1000,
          1000,
          1,
          1,
          2
        ])
        const last = yield* list({}, { limit: 100, cursor: "dlv_101" })
        expect([last.items.length, last.next]).toEqual([100, undefined])
      }).pipe(Effect.provide(layer)))

    it.effect("takes no cursor that it never gave", () =>
      Effect.gen(function*() {
        for (
          const cursor of ["", "1", "dlv_", "dlv_x", "dlv_1; DROP TABLE webhook_deliveries", "dlv_99999999999999999999"]
        ) {
          expect((yield* Effect.flip(list({}, { cursor })))._tag).toBe("InvalidCursor")
        }
      }).pipe(Effect.provide(layer)))
  })

  describe("stats", () => {
    it.effect("count what there is by state and by endpoint", () =>
      Effect.gen(function*() {
        expect(yield* stats).toEqual({
          states: { pending: 0, delivered: 0, exhausted: 0, discarded: 0 },
          oldestDueAt: undefined,
          endpoints: [],
          orphaned: 0
        })
        yield* TestClock.setTime(1000)
        yield* Effect.replicateEffect(enqueue(), 4, { discard: true })
        yield* TestClock.setTime(2000)
        yield* enqueue()
        yield* TestClock.setTime(10_000)
        // Endpoint a has the odd ones, b the even ones.
        yield* put(1, delivered(1))
        yield* put(3, leased(60_000))
        yield* put(5, exhausted(1))
        yield* put(7, { lane: "retry", due_at: 20_000 })
        yield* put(9, { lane: "retry", due_at: 9000 })
        yield* put(2, discarded(1))
        yield* put(4, { endpoint_id: "orphan", due_at: 0 })
        yield* put(6, { ...leased(60_000) })
        yield* put(8, { lane: "retry", due_at: 20_000 })
        yield* put(10, { lane: "retry", due_at: 20_000 })
        expect(yield* stats).toEqual({
          states: { pending: 7, delivered: 1, exhausted: 1, discarded: 1 },
          oldestDueAt: 1000,
          endpoints: [
            { id: "a", pending: 3, leased: 1, oldestDueAt: 9000, orphaned: false },
            { id: "b", pending: 3, leased: 1, oldestDueAt: undefined, orphaned: false },
            { id: "orphan", pending: 1, leased: 0, oldestDueAt: 1000, orphaned: true }
          ],
          orphaned: 1
        })
      }).pipe(Effect.provide(layer)))

    it.effect("count those that are held back, which are not due", () =>
      Effect.gen(function*() {
        yield* TestClock.setTime(1000)
        yield* Effect.replicateEffect(enqueue(), 3, { discard: true })
        yield* put(1, leased(60_000))
        expect(yield* stats).toMatchObject({
          states: { pending: 3 },
          oldestDueAt: undefined,
          endpoints: [{ id: "a", pending: 3, leased: 1 }]
        })
      }).pipe(Effect.provide(over({ a: { ordered: true } }))))
  })

  describe("cancel", () => {
    it.effect("discards what is pending", () =>
      Effect.gen(function*() {
        yield* enqueue()
        yield* TestClock.setTime(5000)
        const cancelled = yield* cancel("dlv_1")
        expect(cancelled).toMatchObject({
          state: "discarded",
          reason: "cancelled",
          endedAt: 5000,
          dueAt: undefined,
          leased: false
        })
        expect(yield* get("dlv_1")).toEqual(cancelled)
        expect((yield* get("dlv_2")).state).toBe("pending")
      }).pipe(Effect.provide(layer)))

    it.effect("waits for an attempt that is under way, but not for a lease that lapsed", () =>
      Effect.gen(function*() {
        yield* enqueue()
        yield* put(1, leased(5000))
        yield* TestClock.setTime(4999)
        expect(yield* Effect.flip(cancel("dlv_1"))).toMatchObject({ _tag: "DeliveryLeased", id: "dlv_1" })
        expect(yield* row(1, "state", "lane", "fence", "due_at")).toEqual(["pending", "leased", "f1", 5000])
        yield* TestClock.setTime(5000)
        expect(yield* cancel("dlv_1")).toMatchObject({ state: "discarded" })
        // Whoever held the lease finds its fence gone.
        expect(yield* row(1, "fence")).toEqual([null])
      }).pipe(Effect.provide(layer)))

    it.effect("leaves what has ended", () =>
      Effect.gen(function*() {
        yield* enqueue()
        for (const ended of [delivered(1), exhausted(1), discarded(1)]) {
          yield* put(1, ended)
          expect(yield* Effect.flip(cancel("dlv_1"))).toMatchObject({ _tag: "DeliveryEnded", state: ended.state })
          expect(yield* row(1, "state", "ended_at")).toEqual([ended.state, 1])
        }
      }).pipe(Effect.provide(layer)))

    it.effect("gives the turn to the next of its aggregate", () =>
      Effect.gen(function*() {
        yield* Effect.forEach(["x", "x", "y"], (aggregateId) => enqueue({ aggregateId }))
        const held = Effect.map(list(), ({ items }) => items.map((item) => item.held).reverse())
        expect(yield* held).toEqual([false, true, false])
        yield* cancel("dlv_1")
        expect(yield* held).toEqual([false, false, false])
      }).pipe(Effect.provide(over({ a: { ordered: true } }))))
  })

  describe("replay", () => {
    const now = 100_000

    it.effect("makes a pending one due now, and no later than it was", () =>
      Effect.gen(function*() {
        yield* enqueue()
        yield* TestClock.setTime(now)
        yield* put(1, { lane: "retry", due_at: now + 5000, step: 4, attempts: 4 })
        expect(yield* replay("dlv_1")).toMatchObject({ state: "pending", dueAt: now, attempts: 4 })
        expect(yield* row(1, "lane", "step", "once")).toEqual(["retry", 4, 0])
        yield* put(1, { due_at: now - 5000 })
        expect(yield* replay("dlv_1")).toMatchObject({ state: "pending", dueAt: now - 5000 })
      }).pipe(Effect.provide(layer)))

    it.effect("leaves an attempt that is under way alone", () =>
      Effect.gen(function*() {
        yield* enqueue()
        yield* TestClock.setTime(now)
        yield* put(1, leased(now + 1))
        expect(yield* replay("dlv_1")).toMatchObject({ state: "pending", leased: true, dueAt: undefined })
        expect(yield* row(1, "lane", "due_at", "fence")).toEqual(["leased", now + 1, "f1"])
      }).pipe(Effect.provide(layer)))

    it.effect("gives a delivered one another attempt, and begins the schedule of a failed one anew", () =>
      Effect.gen(function*() {
        yield* enqueue()
        yield* TestClock.setTime(now)
        for (const ended of [delivered(1), exhausted(1), discarded(1)]) {
          yield* put(1, { once: 0, reason: null, ...ended })
          expect(yield* replay("dlv_1")).toMatchObject({
            id: "dlv_1",
            state: "pending",
            reason: undefined,
            dueAt: now,
            endedAt: undefined,
            attempts: ended.attempts
          })
          const once = ended.state === "delivered" ? 1 : 0
          expect(yield* row(1, "lane", "step", "lapses", "once", "fence", "held")).toEqual([
            "retry",
            0,
            0,
            once,
            null,
            0
          ])
          // Replayed twice is replayed once.
          yield* replay("dlv_1")
          expect(yield* row(1, "once", "due_at")).toEqual([once, now])
        }
      }).pipe(Effect.provide(layer)))

    it.effect("is refused while the endpoint is disabled", () =>
      Effect.gen(function*() {
        yield* enqueue()
        yield* put(1, exhausted(1))
        yield* put(2, exhausted(1))
        yield* disable("a", "operator")
        expect(yield* Effect.flip(replay("dlv_1")))
          .toMatchObject({ _tag: "EndpointDisabled", endpointId: "a", reason: "on holiday" })
        expect(yield* row(1, "state", "ended_at")).toEqual(["exhausted", 1])
        yield* enable("a")
        expect(yield* replay("dlv_1")).toMatchObject({ state: "pending" })
        // By the configuration, likewise.
        yield* put(2, { endpoint_id: "off" })
        expect(yield* Effect.flip(replay("dlv_2"))).toMatchObject({ _tag: "EndpointDisabled", endpointId: "off" })
      }).pipe(Effect.provide(over({ a: {}, b: {}, off: { enabled: false } }))))

    it.effect("waits for its turn where order is asked for", () =>
      Effect.gen(function*() {
        yield* Effect.replicateEffect(enqueue(), 3, { discard: true })
        yield* put(1, exhausted(1))
        yield* put(2, { held: 0 })
        const held = Effect.map(list(), ({ items }) => items.map((item) => item.held).reverse())
        expect(yield* replay("dlv_1")).toMatchObject({ state: "pending", held: true })
        expect(yield* held).toEqual([true, false, true])
        yield* cancel("dlv_2")
        // The oldest is next.
        expect(yield* held).toEqual([false, false, true])
      }).pipe(Effect.provide(over({ a: { ordered: true } }))))

    it.effect("goes with the caller's transaction", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* enqueue()
        yield* put(1, exhausted(1))
        yield* Effect.exit(sql.withTransaction(Effect.zipRight(replay("dlv_1"), Effect.fail("no"))))
        expect((yield* get("dlv_1")).state).toBe("exhausted")
      }).pipe(Effect.provide(layer)))
  })

  describe("recover", () => {
    it.effect("replays what failed to the endpoint in that time, both ends included", () =>
      Effect.gen(function*() {
        yield* Effect.replicateEffect(enqueue(), 7, { discard: true })
        // Endpoint a has the odd ones, b the even ones.
        yield* put(1, exhausted(999))
        yield* put(3, exhausted(1000))
        yield* put(5, discarded(1500))
        yield* put(7, exhausted(2000))
        yield* put(9, exhausted(2001))
        yield* put(11, delivered(1500))
        yield* put(2, exhausted(1500))
        yield* TestClock.setTime(5000)
        expect(yield* recover({ endpointId: "a", since: 1000, until: 2000 })).toEqual({ recovered: 3 })
        expect(ids((yield* list({ endpoint: "a", state: "pending" })).items)).toEqual(dlv(13, 7, 5, 3))
        expect(ids((yield* list({ state: "exhausted" })).items)).toEqual(dlv(9, 2, 1))
        expect(yield* row(5, "lane", "due_at", "step", "lapses", "reason", "ended_at")).toEqual([
          "retry",
          5000,
          0,
          0,
          null,
          null
        ])
        expect(yield* recover({ endpointId: "a", since: 1000, until: 2000 })).toEqual({ recovered: 0 })
        expect(yield* recover({ endpointId: "a", since: 0 })).toEqual({ recovered: 2 })
        for (const endpointId of ["nobody", "", "a\u0000"]) {
          expect(yield* recover({ endpointId, since: 0 })).toEqual({ recovered: 0 })
        }
        expect(yield* recover({ endpointId: "b", since: 4000, until: 1000 })).toEqual({ recovered: 0 })
      }).pipe(Effect.provide(layer)))

    it.effect("is refused while the endpoint is disabled", () =>
      Effect.gen(function*() {
        yield* failedMany("a", 3)
        yield* disable("a", "gone")
        expect(yield* Effect.flip(recover({ endpointId: "a", since: 0 }))).toMatchObject({ _tag: "EndpointDisabled" })
        yield* enable("a")
        yield* TestClock.setTime(5000)
        expect(yield* recover({ endpointId: "a", since: 0 })).toEqual({ recovered: 3 })
        expect((yield* Effect.flip(recover({ endpointId: "off", since: 0 })))._tag).toBe("EndpointDisabled")
      }).pipe(Effect.provide(over({ a: {}, off: { enabled: false } }))))

    /** Runs `recover` until its first batch is stored, and cuts it off there. */
    const cutOff = (range: Deliveries.RecoverOptions) =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const running = yield* Effect.fork(recover(range))
        yield* sql`SELECT 1 FROM webhook_endpoints WHERE recover_after IS NOT NULL`.pipe(
          Effect.tap(() => Effect.yieldNow()),
          Effect.repeat({ until: (rows) => rows.length > 0 })
        )
        yield* Fiber.interrupt(running)
        const moved = (yield* stats).states.pending
        expect([500, 1000]).toContain(moved)
        return moved
      })

    const drain: Effect.Effect<number, unknown, Deliveries.Deliveries> = Effect.flatMap(
      resumeRecoveries,
      (moved) => moved === 0 ? Effect.succeed(0) : Effect.map(drain, (rest) => moved + rest)
    )

    it.effect("cut off half way is resumed by a worker, and sends each once", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* failedMany("a", 1700)
        yield* TestClock.setTime(5000)
        const first = yield* cutOff({ endpointId: "a", since: 1, until: 1600 })
        // What was sent meanwhile and failed once more is not sent a second time.
        yield* TestClock.setTime(6000)
        yield* sql`UPDATE webhook_deliveries SET state = 'exhausted', ended_at = 6000 WHERE state = 'pending'`
        expect(yield* drain).toBe(1600 - first)
        expect((yield* stats).states).toMatchObject({ pending: 1600 - first, exhausted: first + 100 })
        expect(yield* resumeRecoveries).toBe(0)
      }).pipe(Effect.provide(layer)))

    it.effect("cut off half way is resumed by the same call, and refuses another", () =>
      Effect.gen(function*() {
        yield* failedMany("a", 1700)
        yield* failedMany("b", 3)
        yield* TestClock.setTime(5000)
        yield* cutOff({ endpointId: "a", since: 1 })
        yield* TestClock.setTime(6000)
        expect(yield* Effect.flip(recover({ endpointId: "a", since: 100 })))
          .toMatchObject({ _tag: "RecoveryUnderWay", endpointId: "a", since: 1, until: 5000 })
        expect(yield* recover({ endpointId: "b", since: 0 })).toEqual({ recovered: 3 })
        expect(yield* recover({ endpointId: "a", since: 1 })).toEqual({ recovered: 1700 })
        expect((yield* stats).states).toMatchObject({ pending: 1703, exhausted: 0 })
        expect(yield* recover({ endpointId: "a", since: 100 })).toEqual({ recovered: 0 })
      }).pipe(Effect.provide(layer)))

    it.effect("waits while the endpoint is disabled half way", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* failedMany("a", 1700)
        yield* TestClock.setTime(5000)
        const first = yield* cutOff({ endpointId: "a", since: 1 })
        yield* sql`UPDATE webhook_endpoints SET disabled_at = 1, disabled_by = 'operator', disabled_reason = 'x'`
        expect(yield* resumeRecoveries).toBe(0)
        yield* enable("a")
        expect(yield* drain).toBe(1700 - first)
      }).pipe(Effect.provide(layer)))

    it.effect("asked for twice at once is one recovery", () =>
      Effect.gen(function*() {
        yield* failedMany("a", 1700)
        yield* TestClock.setTime(5000)
        const all = yield* Effect.all(
          [recover({ endpointId: "a", since: 1 }), recover({ endpointId: "a", since: 1 }), drain],
          { concurrency: "unbounded" }
        )
        expect(all[0]).toEqual({ recovered: 1700 })
        expect([0, 1700]).toContain(all[1].recovered)
        expect((yield* stats).states).toMatchObject({ pending: 1700, exhausted: 0 })
      }).pipe(Effect.provide(layer)))
  })

  describe("purge", () => {
    const day = 86_400_000

    it.effect("removes what has ended for long enough, with its attempts, and messages that have no delivery left", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        for (const id of ["m1", "m2", "m3", "m4"]) yield* enqueue({ id })
        const now = 40 * day
        yield* TestClock.setTime(now)
        // m1: both delivered long ago; m2: one of them; m3: failed at the limit and a millisecond later; m4: pending and leased.
        yield* put(1, delivered(now - 8 * day))
        yield* put(2, delivered(now - 7 * day))
        yield* put(3, delivered(now - 8 * day))
        yield* put(4, delivered(now - 7 * day + 1))
        yield* put(5, exhausted(now - 30 * day))
        yield* put(6, discarded(now - 30 * day + 1))
        yield* put(7, { lane: "retry", due_at: 1 })
        yield* put(8, leased(1))
        const attempt = (delivery_id: number) => ({
          delivery_id,
          number: 1,
          started_at: 1,
          duration: 1,
          outcome: "failed"
        })
        yield* sql`INSERT INTO webhook_attempts ${
          sql.insert([attempt(1), attempt(3), attempt(4), attempt(5), attempt(6)])
        }`
        expect(yield* purge({ delivered: "7 days", ended: "30 days" })).toEqual({ messages: 1, deliveries: 4 })
        expect(ids((yield* list()).items)).toEqual(dlv(8, 7, 6, 4))
        expect(yield* sql`SELECT id FROM webhook_messages ORDER BY id`).toEqual([{ id: "m2" }, { id: "m3" }, {
          id: "m4"
        }])
        const left = yield* sql`SELECT delivery_id FROM webhook_attempts ORDER BY delivery_id`
        expect(left.map((row) => Number(row["delivery_id"]))).toEqual([4, 6])
        expect(yield* purge({ delivered: "7 days", ended: "30 days" })).toEqual({ messages: 0, deliveries: 0 })
        // With its row goes what was known of its id.
        expect(yield* enqueue({ id: "m1" })).toMatchObject({ duplicate: false, deliveries: 2 })
        expect(yield* enqueue({ id: "m2" })).toMatchObject({ duplicate: true, deliveries: 2 })
      }).pipe(Effect.provide(layer)))

    it.effect("removes messages that nobody wanted, once their duplicates need no longer be known", () =>
      Effect.gen(function*() {
        yield* enqueue({ id: "m1" }, "k1")
        yield* TestClock.setTime(7 * day - 1)
        expect(yield* purge({ delivered: "7 days", ended: "30 days" })).toEqual({ messages: 0, deliveries: 0 })
        expect(yield* enqueue({}, "k1")).toMatchObject({ messageId: "m1", duplicate: true })
        yield* TestClock.setTime(7 * day)
        expect(yield* purge({ delivered: "7 days", ended: "30 days" })).toEqual({ messages: 1, deliveries: 0 })
        expect(yield* enqueue({ type: "order.paid" }, "k1")).toMatchObject({ duplicate: false })
      }).pipe(Effect.provide(over({}))))

    it.effect("goes on batch by batch until nothing is left", () =>
      Effect.gen(function*() {
        yield* failedMany("a", 250)
        yield* Effect.replicateEffect(enqueue(), 5, { discard: true })
        yield* TestClock.setTime(40 * day)
        expect(yield* purge({ delivered: "7 days", ended: "30 days", batch: 100 })).toMatchObject({ deliveries: 250 })
        expect(yield* count("webhook_deliveries")).toBe(10)
      }).pipe(Effect.provide(layer)))

    it.effect("keeps for ever what it is told to", () =>
      Effect.gen(function*() {
        yield* enqueue()
        yield* put(1, delivered(1))
        yield* put(2, exhausted(1))
        yield* TestClock.setTime(4000 * day)
        expect(yield* purge({ delivered: Infinity, ended: Infinity })).toEqual({ messages: 0, deliveries: 0 })
        expect(yield* purge({ delivered: Infinity, ended: 0 })).toEqual({ messages: 0, deliveries: 1 })
        expect(yield* purge({ delivered: 0, ended: Infinity })).toEqual({ messages: 1, deliveries: 1 })
      }).pipe(Effect.provide(layer)))
  })
})
