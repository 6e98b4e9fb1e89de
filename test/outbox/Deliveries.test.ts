/** What the statements behind `Deliveries` must hold under races, crashes and large tables; its contract has a suite of its own. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Statement from "@effect/sql/Statement"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as EndpointRows from "../../src/outbox/internal/endpointRows.js"
import * as Reading from "../../src/outbox/internal/reading.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import { type Backend, backends, postgres } from "../support/backends.js"
import { count, endpoints } from "../support/outboxing.js"

const layer = (backend: Backend) =>
  Deliveries.layer.pipe(
    Layer.provideMerge(Layer.merge(
      Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), backend.layer),
      endpoints({ a: {}, b: {}, c: { enabled: false } })
    )),
    Layer.orDie
  )

interface Row {
  readonly n: number
  readonly endpoint?: string
  readonly message?: string
  readonly type?: string
  readonly state?: string
  readonly order_key?: string
  readonly lane?: string
  readonly held?: number
  readonly due_at?: number
  readonly once?: number
  readonly lapses?: number
  readonly step?: number
  readonly fence?: string
  readonly created_at?: number
  readonly ended_at?: number
}

/** Stores deliveries as they are given, and their messages; the first has id 1. */
const seed = (rows: ReadonlyArray<Row>) =>
  Effect.gen(function*() {
    const { rows: table, sql, tables } = yield* OutboxSchema.OutboxSchema
    const items = rows.map((row) => ({
      endpoint: "a",
      message: `m${row.n}`,
      type: "t",
      state: "pending",
      lane: "retry",
      held: 0,
      due_at: 0,
      once: 0,
      lapses: 0,
      step: 3,
      created_at: 0,
      ...row
    }))
    yield* sql`INSERT INTO ${tables.messages} (id, digest, event_type, occurred_at, correlation_id, deliveries, created_at)
      SELECT DISTINCT v.message, 'x', 't', '2026-01-01T00:00:00Z', 'c', 1, 0 FROM ${table(items, { message: "text" })}`
    yield* sql`INSERT INTO ${tables.deliveries} (message_id, endpoint_id, event_type, format, order_key, state, lane, held, due_at,
        once, lapses, step, fence, created_at, ended_at)
      SELECT v.message, v.endpoint, v.type, 'event', v.order_key, v.state, v.lane, v.held, v.due_at, v.once, v.lapses, v.step, v.fence,
        v.created_at, v.ended_at
      FROM ${
      table(items, {
        n: "integer",
        message: "text",
        endpoint: "text",
        type: "text",
        order_key: "text",
        state: "text",
        lane: "text",
        held: "integer",
        due_at: "bigint",
        once: "integer",
        lapses: "integer",
        step: "integer",
        fence: "text",
        created_at: "bigint",
        ended_at: "bigint"
      })
    } ORDER BY v.n`
  })

const failures = (count: number, fields: (n: number) => Partial<Row> = () => ({})): ReadonlyArray<Row> =>
  Array.from({ length: count }, (_, index) => ({
    n: index + 1,
    state: index % 2 === 0 ? "exhausted" : "discarded",
    // Several end in the same millisecond.
    ended_at: 100 + Math.floor(index / 3),
    ...fields(index + 1)
  }))

const states = Effect.gen(function*() {
  const { sql, tables } = yield* OutboxSchema.OutboxSchema
  const rows = yield* sql<{ readonly state: string; readonly n: number | string }>`
    SELECT state, COUNT(*) AS n FROM ${tables.deliveries} GROUP BY state`
  return Object.fromEntries(rows.map(({ n, state }) => [state, Number(n)]))
})

const fields = (id: number) =>
  Effect.gen(function*() {
    const { sql, tables } = yield* OutboxSchema.OutboxSchema
    const [row] = yield* sql`SELECT state, reason, lane, held, due_at, once, lapses, step, fence, ended_at
      FROM ${tables.deliveries} WHERE id = ${id}`
    const number = (name: string) => row?.[name] === null ? null : Number(row?.[name])
    return {
      ...row,
      held: number("held"),
      due_at: number("due_at"),
      once: number("once"),
      ended_at: number("ended_at")
    }
  })

/** From now on no delivery with this id can be made pending: what a crash between two batches looks like from outside. */
const breakAt = ({ name }: Backend, id: number) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    if (name === "sqlite") {
      yield* sql.unsafe(`CREATE TRIGGER broken BEFORE UPDATE ON webhook_deliveries
        WHEN new.id = ${id} AND new.state = 'pending' BEGIN SELECT RAISE(ABORT, 'broken'); END`)
      return sql.unsafe("DROP TRIGGER broken")
    }
    yield* sql.unsafe(`CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF new.id = ${id} AND new.state = 'pending' THEN RAISE 'broken'; END IF; RETURN new; END $$`)
    yield* sql`CREATE TRIGGER broken BEFORE UPDATE ON webhook_deliveries FOR EACH ROW EXECUTE FUNCTION broken()`
    return sql`DROP TRIGGER broken ON webhook_deliveries`
  })

const disable = (id: string) =>
  Effect.gen(function*() {
    const store = yield* OutboxSchema.OutboxSchema
    yield* store.transaction(EndpointRows.write(store, [{
      ...EndpointRows.blank(id),
      disabled: { at: 1, by: "operator", reason: "tired" }
    }], 1))
    return store.transaction(EndpointRows.write(store, [EndpointRows.blank(id)], 2))
  })

describe.each(backends)("Deliveries on $name", (backend) => {
  const test = (
    name: string,
    effect: Effect.Effect<
      unknown,
      unknown,
      Deliveries.Deliveries | OutboxSchema.OutboxSchema | SqlClient.SqlClient
    >
  ) => it.effect(name, () => Effect.provide(effect, layer(backend)))

  describe("recover", () => {
    test(
      "takes what ended in the range, both ends included, of the one endpoint",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        yield* seed([
          { n: 1, state: "exhausted", ended_at: 99 },
          { n: 2, state: "exhausted", ended_at: 100, lapses: 4, step: 9, once: 1 },
          { n: 3, state: "discarded", ended_at: 200 },
          { n: 4, state: "discarded", ended_at: 201 },
          { n: 5, state: "delivered", ended_at: 150 },
          { n: 6, state: "exhausted", ended_at: 150, endpoint: "b" },
          { n: 7, state: "pending" }
        ])
        yield* TestClock.adjust(1000)
        expect(yield* deliveries.recover({ endpointId: "a", since: 100, until: 200 })).toEqual({ recovered: 2 })
        const page = yield* deliveries.list({ state: "pending" })
        expect(page.items.map(({ id }) => id)).toEqual(["dlv_7", "dlv_3", "dlv_2"])
        expect(yield* fields(2)).toEqual({
          state: "pending",
          reason: null,
          lane: "retry",
          held: 0,
          due_at: 1000,
          once: 0,
          lapses: 0,
          step: 0,
          fence: null,
          ended_at: null
        })
        expect(yield* deliveries.recover({ endpointId: "a", since: 100, until: 200 })).toEqual({ recovered: 0 })
      })
    )

    test(
      "nothing to recover leaves no row, and a job that has ended no trace",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        expect(yield* deliveries.recover({ endpointId: "a", since: 0 })).toEqual({ recovered: 0 })
        expect(yield* deliveries.recover({ endpointId: "a", since: Number.NaN })).toEqual({ recovered: 0 })
        expect(yield* deliveries.recover({ endpointId: "a\u0000", since: 0 })).toEqual({ recovered: 0 })
        expect(yield* count("webhook_endpoints")).toBe(0)
        yield* seed(failures(3))
        yield* TestClock.adjust(1000)
        expect(yield* deliveries.recover({ endpointId: "a", since: 0 })).toEqual({ recovered: 3 })
        expect(yield* deliveries.resumeRecoveries).toBe(0)
      })
    )

    for (const how of ["a worker", "asking again"] as const) {
      test(
        `broken off half way, ${how} goes on with it: each once, also when it fails again meanwhile`,
        Effect.gen(function*() {
          const deliveries = yield* Deliveries.Deliveries
          const { sql, tables } = yield* OutboxSchema.OutboxSchema
          yield* seed(failures(1210))
          yield* TestClock.adjust(1000)
          const mend = yield* breakAt(backend, 777)
          const error = yield* Effect.flip(deliveries.recover({ endpointId: "a", since: 100 }))
          expect(error._tag).toBe("OutboxUnavailable")
          expect(yield* states).toEqual({ pending: 500, exhausted: 355, discarded: 355 })
          yield* mend

          // What was recovered fails again; and the clock goes on.
          yield* TestClock.adjust(1)
          yield* sql`UPDATE ${tables.deliveries} SET state = 'exhausted', ended_at = 1001 WHERE state = 'pending'`
          if (how === "a worker") {
            expect(yield* deliveries.resumeRecoveries).toBe(500)
            expect(yield* deliveries.resumeRecoveries).toBe(210)
            expect(yield* deliveries.resumeRecoveries).toBe(0)
          } else expect(yield* deliveries.recover({ endpointId: "a", since: 100 })).toEqual({ recovered: 1210 })
          expect(yield* states).toEqual({ pending: 710, exhausted: 500 })

          // That job has ended: a new one is another matter.
          expect(yield* deliveries.recover({ endpointId: "a", since: 100 })).toEqual({ recovered: 500 })
        })
      )
    }

    test(
      "another range meanwhile is refused, and a disabled endpoint's job waits for the day on which it is enabled",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        yield* seed(failures(600))
        yield* TestClock.adjust(1000)
        const mend = yield* breakAt(backend, 600)
        yield* Effect.flip(deliveries.recover({ endpointId: "a", since: 100 }))
        expect(yield* Effect.flip(deliveries.recover({ endpointId: "a", since: 99 })))
          .toMatchObject({ _tag: "RecoveryUnderWay", endpointId: "a", since: 100, until: 1000 })
        expect((yield* Effect.flip(deliveries.recover({ endpointId: "a", since: 100, until: 150 })))._tag)
          .toBe("RecoveryUnderWay")
        yield* mend

        const enable = yield* disable("a")
        expect(yield* Effect.flip(deliveries.recover({ endpointId: "a", since: 100 })))
          .toMatchObject({ _tag: "EndpointDisabled", reason: "tired" })
        expect(yield* deliveries.resumeRecoveries).toBe(0)
        expect((yield* states)["pending"]).toBe(500)
        yield* enable
        expect(yield* deliveries.resumeRecoveries).toBe(100)
        expect(yield* states).toEqual({ pending: 600 })
      })
    )

    test(
      "four at once do one job",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        yield* seed(failures(1800, (n) => n % 4 === 0 ? { order_key: `k${n % 40}` } : {}))
        yield* TestClock.adjust(1000)
        const one = deliveries.recover({ endpointId: "a", since: 0 })
        const results = yield* Effect.all([one, one, deliveries.resumeRecoveries, one], { concurrency: "unbounded" })
        // Whoever comes when all is done finds nothing to do.
        for (const result of results) {
          if (typeof result !== "number") expect([0, 1800]).toContain(result.recovered)
        }
        expect(yield* states).toEqual({ pending: 1800 })
      })
    )

    test(
      "keeps the order of an aggregate: one goes, the others are held",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        yield* seed(failures(6, (n) => ({ order_key: n <= 4 ? "x" : `y${n}` })))
        yield* TestClock.adjust(1000)
        yield* deliveries.recover({ endpointId: "a", since: 0 })
        const { items } = yield* deliveries.list()
        expect(items.map(({ held, id }) => [id, held])).toEqual([
          ["dlv_6", false],
          ["dlv_5", false],
          ["dlv_4", true],
          ["dlv_3", true],
          ["dlv_2", true],
          ["dlv_1", false]
        ])
      })
    )
  })

  describe("replay and cancel", () => {
    test(
      "a replay begins anew, hastens, or stays, by what became of the delivery",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        yield* seed([
          { n: 1, state: "exhausted", ended_at: 5, lapses: 5, step: 9 },
          { n: 2, state: "delivered", ended_at: 5 },
          { n: 3, state: "pending", due_at: 90_000 },
          { n: 4, state: "pending", lane: "first", due_at: 0 },
          { n: 5, state: "pending", lane: "leased", due_at: 50_000, fence: "f" },
          { n: 6, state: "pending", lane: "leased", due_at: 10, fence: "f" }
        ])
        yield* TestClock.adjust(1000)
        for (let id = 1; id <= 6; id++) yield* deliveries.replay(`dlv_${id}`)
        const pending = { state: "pending", ended_at: null }
        expect(yield* fields(1)).toMatchObject({ ...pending, lane: "retry", due_at: 1000, step: 0, lapses: 0, once: 0 })
        expect(yield* fields(2)).toMatchObject({ ...pending, lane: "retry", due_at: 1000, once: 1 })
        expect(yield* fields(3)).toMatchObject({ ...pending, lane: "retry", due_at: 1000, step: 3 })
        expect(yield* fields(4)).toMatchObject({ ...pending, lane: "first", due_at: 0, step: 3 })
        expect(yield* fields(5)).toMatchObject({ ...pending, lane: "leased", due_at: 50_000, fence: "f" })
        expect(yield* fields(6)).toMatchObject({ ...pending, lane: "leased", due_at: 10, fence: "f" })
        expect((yield* deliveries.get("dlv_5")).leased).toBe(true)
        expect((yield* deliveries.get("dlv_6")).leased).toBe(false)
      })
    )

    test(
      "a disabled endpoint refuses a replay, by its row or by the configuration",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        yield* seed([
          { n: 1, state: "exhausted", ended_at: 5 },
          { n: 2, state: "exhausted", ended_at: 5, endpoint: "c" },
          { n: 3, state: "exhausted", ended_at: 5, endpoint: "unheard-of" }
        ])
        const enable = yield* disable("a")
        expect(yield* Effect.flip(deliveries.replay("dlv_1"))).toMatchObject({ reason: "tired" })
        expect(yield* Effect.flip(deliveries.replay("dlv_2"))).toMatchObject({ reason: "by the configuration" })
        expect((yield* Effect.flip(deliveries.recover({ endpointId: "c", since: 0 })))._tag).toBe("EndpointDisabled")
        expect(yield* states).toEqual({ exhausted: 3 })
        yield* enable
        expect((yield* deliveries.replay("dlv_1")).state).toBe("pending")
        // It waits for somebody who knows its endpoint.
        expect((yield* deliveries.replay("dlv_3")).state).toBe("pending")
      })
    )

    test(
      "cancelling takes the fence away, passes the turn on, and leaves alone what is under way or has ended",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        yield* seed([
          { n: 1, order_key: "x", lane: "leased", due_at: 10, fence: "f" },
          { n: 2, order_key: "x", held: 1 },
          { n: 3, lane: "leased", due_at: 2000, fence: "f" },
          { n: 4, state: "exhausted", ended_at: 5 },
          { n: 5, once: 1 }
        ])
        yield* TestClock.adjust(1000)
        expect(yield* deliveries.cancel("dlv_1"))
          .toMatchObject({ state: "discarded", reason: "cancelled", endedAt: 1000, held: false, dueAt: undefined })
        expect(yield* fields(1)).toMatchObject({ fence: null })
        expect((yield* deliveries.get("dlv_2")).held).toBe(false)
        expect(yield* Effect.flip(deliveries.cancel("dlv_3"))).toMatchObject({ _tag: "DeliveryLeased", until: 2000 })
        expect(yield* Effect.flip(deliveries.cancel("dlv_4"))).toMatchObject({
          _tag: "DeliveryEnded",
          state: "exhausted"
        })
        expect(yield* deliveries.cancel("dlv_5")).toMatchObject({ state: "delivered", reason: undefined })
        expect(yield* fields(5)).toMatchObject({ once: 0 })
        for (const id of ["dlv_6", "dlv_0", "dlv_01", "dlv_1x", "1", "", "dlv_99999999999999999999"]) {
          expect((yield* Effect.flip(deliveries.cancel(id)))._tag).toBe("DeliveryNotFound")
        }
      })
    )

    test(
      "an older delivery of an aggregate that comes back goes before the younger that wait, not before the one under way",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        yield* seed([
          { n: 1, order_key: "x", state: "exhausted", ended_at: 5 },
          { n: 2, order_key: "x", lane: "leased", due_at: 50_000, fence: "f" },
          { n: 3, order_key: "x", held: 1 }
        ])
        expect(yield* deliveries.replay("dlv_1")).toMatchObject({ state: "pending", held: true })
        expect((yield* deliveries.get("dlv_2")).held).toBe(false)
      })
    )

    test(
      "twenty that replay and cancel one delivery at once agree on what became of it",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        yield* seed([{ n: 1, order_key: "x", state: "exhausted", ended_at: 5 }])
        yield* Effect.forEach(
          Array.from({ length: 20 }, (_, index) => index),
          (index) =>
            Effect.either<Deliveries.Delivery, unknown, never>(
              index % 2 === 0 ? deliveries.replay("dlv_1") : deliveries.cancel("dlv_1")
            ),
          { concurrency: "unbounded" }
        )
        const { state } = yield* deliveries.get("dlv_1")
        expect(["pending", "discarded"]).toContain(state)
        yield* deliveries.replay("dlv_1")
        expect(yield* fields(1)).toMatchObject({ state: "pending", held: 0 })
      })
    )
  })

  describe("purge", () => {
    test(
      "takes what has been kept for long enough, with its attempts, and messages that have none left",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        const { sql, tables } = yield* OutboxSchema.OutboxSchema
        yield* seed([
          { n: 1, message: "m1", state: "delivered", ended_at: 100 },
          { n: 2, message: "m1", endpoint: "b", state: "exhausted", ended_at: 100 },
          { n: 3, message: "m3", state: "delivered", ended_at: 101 },
          { n: 4, message: "m4", state: "discarded", ended_at: 50 },
          { n: 5, message: "m5", state: "pending" },
          { n: 6, message: "m6", state: "delivered", ended_at: 100 }
        ])
        for (const id of [1, 3]) {
          yield* sql`INSERT INTO ${tables.attempts} (delivery_id, number, started_at, duration, outcome)
            VALUES (${id}, 1, 0, 1, 'delivered')`
        }
        yield* sql`INSERT INTO ${tables.messages} (id, digest, event_type, occurred_at, correlation_id, deliveries, created_at)
          VALUES ('u1', '', 't', 'x', 'c', 0, 100), ('u2', '', 't', 'x', 'c', 0, 101)`
        yield* TestClock.adjust(1100)
        expect(yield* deliveries.purge({ delivered: 1000, ended: 1050, batch: 1 })).toEqual({
          messages: 3,
          deliveries: 3
        })
        expect((yield* deliveries.list()).items.map(({ id }) => id)).toEqual(["dlv_5", "dlv_3", "dlv_2"])
        expect((yield* deliveries.message("m1")).deliveries.length).toBe(1)
        expect((yield* Effect.flip(deliveries.message("u1")))._tag).toBe("MessageNotFound")
        expect((yield* deliveries.message("u2")).deliveries).toEqual([])
        expect(yield* count("webhook_attempts")).toBe(1)
        expect(yield* deliveries.purge({ delivered: Infinity, ended: Infinity })).toEqual({
          messages: 0,
          deliveries: 0
        })
        expect(yield* deliveries.purge({ delivered: 0, ended: 0 })).toEqual({ messages: 3, deliveries: 2 })
      })
    )
  })

  describe("list and stats", () => {
    test(
      "pages go through everything once, also what a filter leaves of a large table",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        const store = yield* OutboxSchema.OutboxSchema
        const { sql, tables } = store
        yield* seed(Array.from({ length: 2500 }, (_, index): Row => ({
          n: index + 1,
          endpoint: index % 2 === 0 ? "a" : "b",
          ...(index % 4 < 2 ? { state: "delivered", ended_at: 1 } : {}),
          type: index % 600 === 0 ? "rare" : "t"
        })))
        const all = (filter: Deliveries.Filter, limit: number) =>
          Effect.gen(function*() {
            const ids: Array<string> = []
            let cursor: string | undefined
            do {
              // A rare type is looked for in stretches of 250.
              const page: Deliveries.Page = yield* Reading.list(store, filter, cursor, limit, 250)
              expect(page.items.length).toBeLessThanOrEqual(limit)
              ids.push(...page.items.map(({ id }) => id))
              cursor = page.next
            } while (cursor !== undefined)
            return ids
          })
        const rare = ["dlv_2401", "dlv_1801", "dlv_1201", "dlv_601", "dlv_1"]
        expect(yield* all({ type: "rare" }, 2)).toEqual(rare)
        expect(yield* all({ type: "rare", endpoint: "a" }, 5)).toEqual(rare)
        expect(yield* all({ type: "rare", endpoint: "b" }, 5)).toEqual([])
        expect(yield* all({ type: "rare", state: "delivered" }, 1)).toEqual(rare)
        expect(yield* all({ type: "none" }, 5)).toEqual([])
        expect(yield* all({ type: "rare", endpoint: "a", state: "delivered" }, 3)).toEqual(rare)
        yield* sql`UPDATE ${tables.deliveries} SET state = 'exhausted', ended_at = 1 WHERE id IN (3, 4, 900, 2401)`
        expect(yield* all({ state: "exhausted" }, 3)).toEqual(["dlv_2401", "dlv_900", "dlv_4", "dlv_3"])
        expect(yield* all({ state: "exhausted", endpoint: "b" }, 1)).toEqual(["dlv_900", "dlv_4"])
        expect(yield* all({ state: "exhausted", type: "rare" }, 1)).toEqual(["dlv_2401"])
        expect(yield* all({ state: "discarded" }, 1)).toEqual([])
        yield* sql`UPDATE ${tables.deliveries} SET state = 'delivered' WHERE id = 2401`
        yield* sql`UPDATE ${tables.deliveries} SET state = 'pending' WHERE id IN (3, 4, 900)`
        const ofB = yield* all({ endpoint: "b" }, 1000)
        expect(ofB).toEqual(Array.from({ length: 1250 }, (_, index) => `dlv_${2500 - 2 * index}`))
        const pendingOfA = yield* all({ endpoint: "a", state: "pending" }, 99)
        expect(pendingOfA).toEqual(Array.from({ length: 625 }, (_, index) => `dlv_${2499 - 4 * index}`))
        expect((yield* deliveries.list({}, { limit: 0 })).items.length).toBe(1)
        expect((yield* deliveries.list({}, { limit: 1e9 })).items.length).toBe(1000)
        expect((yield* deliveries.list()).items.length).toBe(50)
        for (const text of ["\u0000", "\ud800"]) {
          expect((yield* deliveries.list({ type: text })).items).toEqual([])
          expect((yield* deliveries.list({ endpoint: text })).items).toEqual([])
          expect((yield* Effect.flip(deliveries.message(text)))._tag).toBe("MessageNotFound")
        }
        for (const cursor of ["", "x", "dlv_", "dlv_-1", "dlv_1'"]) {
          expect((yield* Effect.flip(deliveries.list({}, { cursor })))._tag).toBe("InvalidCursor")
        }
      })
    )

    test(
      "counts by state and endpoint, with the time of the oldest that is due",
      Effect.gen(function*() {
        const deliveries = yield* Deliveries.Deliveries
        expect(yield* deliveries.stats).toEqual({
          states: { pending: 0, delivered: 0, exhausted: 0, discarded: 0 },
          oldestDueAt: undefined,
          endpoints: [],
          orphaned: 0
        })
        yield* seed([
          { n: 1, lane: "first", created_at: 700 },
          { n: 2, lane: "first", created_at: 600 },
          { n: 3, due_at: 900 },
          { n: 4, lane: "leased", due_at: 5000 },
          { n: 5, order_key: "x", held: 1 },
          { n: 6, endpoint: "b", lane: "leased", due_at: 400 },
          { n: 7, endpoint: "b", due_at: 500 },
          { n: 8, endpoint: "gone", due_at: 2000 },
          { n: 9, state: "delivered", ended_at: 1 },
          { n: 10, state: "discarded", ended_at: 1 },
          { n: 11, state: "discarded", ended_at: 1 }
        ])
        yield* TestClock.adjust(1000)
        expect(yield* deliveries.stats).toEqual({
          states: { pending: 8, delivered: 1, exhausted: 0, discarded: 2 },
          oldestDueAt: 400,
          endpoints: [
            // Of what is due at once the first that was stored, by id.
            { id: "a", pending: 5, leased: 1, oldestDueAt: 700, orphaned: false },
            { id: "b", pending: 2, leased: 0, oldestDueAt: 400, orphaned: false },
            { id: "gone", pending: 1, leased: 0, oldestDueAt: undefined, orphaned: true }
          ],
          orphaned: 1
        })
      })
    )
  })

  test(
    "no statement reads the whole table of deliveries",
    Effect.gen(function*() {
      const deliveries = yield* Deliveries.Deliveries
      const sql = yield* SqlClient.SqlClient
      yield* seed(Array.from({ length: 3000 }, (_, index): Row => {
        const state = ["pending", "delivered", "delivered", "delivered", "exhausted", "discarded"][index % 6]!
        return {
          n: index + 1,
          endpoint: `e${index % 97}`,
          state,
          ...(state === "pending" ? {} : { ended_at: 10 + index }),
          ...(index % 5 === 0 ? { order_key: `k${index % 50}` } : {})
        }
      }))
      yield* sql`ANALYZE`
      // As if there were ten million: of a small table PostgreSQL reads all, and rightly.
      if (backend.name === "postgres") {
        yield* sql`UPDATE pg_class SET reltuples = 10000000 WHERE relname LIKE 'webhook_deliveries%'`
      }
      yield* TestClock.adjust(5000)
      const seen: Array<readonly [string, ReadonlyArray<unknown>]> = []
      yield* Effect.gen(function*() {
        yield* deliveries.list({ state: "exhausted" })
        yield* deliveries.list({ endpoint: "e5" })
        yield* deliveries.list({ endpoint: "e5", state: "pending" })
        yield* deliveries.list({ endpoint: "e5", type: "t" })
        yield* deliveries.list({}, { cursor: "dlv_1200" })
        yield* deliveries.message("m17")
        yield* deliveries.replay("dlv_5")
        yield* deliveries.cancel("dlv_1")
        yield* deliveries.recover({ endpointId: "e3", since: 500, until: 900 })
        yield* deliveries.purge({ delivered: 4900, ended: 4900 })
      }).pipe(Statement.withTransformer((statement) => {
        seen.push(statement.compile())
        return Effect.succeed(statement)
      }))
      const explain = backend.name === "postgres" ? "EXPLAIN" : "EXPLAIN QUERY PLAN"
      const whole: Array<string> = []
      for (const [text, parameters] of seen) {
        if (!text.includes("webhook_deliveries")) continue
        const plan = JSON.stringify(yield* sql.unsafe(`${explain} ${text}`, parameters))
        if (/Seq Scan on webhook_deliveries|SCAN (?:d|o|webhook_deliveries)\b(?! USING)/.test(plan)) {
          whole.push(text, plan)
        }
      }
      expect(seen.length).toBeGreaterThan(30)
      expect(whole).toEqual([])
    })
  )
})

describe("Deliveries on PostgreSQL, while another transaction is open", () => {
  /** Runs `effect` while a transaction has done `first`; that commits when `waiting` others wait for it. */
  const during = <A, E, R>(
    first: Effect.Effect<unknown, unknown, R>,
    effect: Effect.Effect<A, E, R>,
    waiting: number
  ) =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const done = yield* Deferred.make<void>()
      const commit = yield* Deferred.make<void>()
      const holder = yield* Effect.fork(
        sql.withTransaction(first.pipe(
          Effect.zipRight(Deferred.succeed(done, undefined)),
          Effect.zipRight(Deferred.await(commit))
        ))
      )
      yield* Deferred.await(done)
      const fiber = yield* Effect.fork(effect)
      yield* Effect.repeat(
        sql`SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        { until: (rows) => rows.length >= waiting }
      )
      yield* Deferred.succeed(commit, undefined)
      yield* Fiber.join(holder)
      return yield* Fiber.join(fiber)
    })

  /** A worker takes a delivery. */
  const claim = (id: number) =>
    Effect.flatMap(
      OutboxSchema.OutboxSchema,
      ({ sql, tables }) =>
        sql`UPDATE ${tables.deliveries} SET lane = 'leased', due_at = 60000, fence = 'f' WHERE id = ${id}`
    )

  it.effect("what a worker has just claimed is neither cancelled nor made due", () =>
    Effect.gen(function*() {
      const deliveries = yield* Deliveries.Deliveries
      yield* seed([{ n: 1 }, { n: 2 }])
      expect(yield* during(claim(1), Effect.flip(deliveries.cancel("dlv_1")), 1)).toMatchObject({
        _tag: "DeliveryLeased"
      })
      expect(yield* during(claim(2), deliveries.replay("dlv_2"), 1)).toMatchObject({ leased: true })
      for (const id of [1, 2]) expect(yield* fields(id)).toMatchObject({ lane: "leased", due_at: 60_000, fence: "f" })
    }).pipe(Effect.provide(layer(postgres))))

  it.effect("an endpoint that is just being disabled refuses replays, and its recovery halts", () =>
    Effect.gen(function*() {
      const deliveries = yield* Deliveries.Deliveries
      yield* seed(failures(600))
      yield* TestClock.adjust(1000)
      const mend = yield* breakAt(postgres, 600)
      yield* Effect.flip(deliveries.recover({ endpointId: "a", since: 100 }))
      yield* mend
      const both = Effect.all([Effect.flip(deliveries.replay("dlv_600")), deliveries.resumeRecoveries], {
        concurrency: 2
      })
      const [refused, resumed] = yield* during(disable("a"), both, 2)
      expect([refused._tag, resumed]).toEqual(["EndpointDisabled", 0])
      expect((yield* states)["pending"]).toBe(500)
    }).pipe(Effect.provide(layer(postgres))))

  it.effect("two that do the same batch count it once", () =>
    Effect.gen(function*() {
      const deliveries = yield* Deliveries.Deliveries
      const { sql, tables } = yield* OutboxSchema.OutboxSchema
      yield* seed(failures(1200))
      yield* TestClock.adjust(1000)
      const mend = yield* breakAt(postgres, 501)
      yield* Effect.either(deliveries.recover({ endpointId: "a", since: 100 }))
      yield* mend
      // Both have read where the job stands when they wait: one for the endpoint's row, the other for the first one's deliveries.
      const row = sql`SELECT 1 FROM ${tables.endpoints} WHERE id = 'a' FOR UPDATE`
      const one = deliveries.resumeRecoveries
      const results = yield* during(row, Effect.all([one, one], { concurrency: 2 }), 2)
      expect([...results].sort()).toEqual([200, 500])
      expect(yield* states).toEqual({ pending: 1200 })
    }).pipe(Effect.provide(layer(postgres))))

  it.effect("two purges that have one delivery of a message each leave no message without deliveries", () =>
    Effect.gen(function*() {
      const deliveries = yield* Deliveries.Deliveries
      const { sql, tables } = yield* OutboxSchema.OutboxSchema
      yield* seed([
        { n: 1, message: "m", state: "delivered", ended_at: 1 },
        { n: 2, message: "m", endpoint: "b", state: "delivered", ended_at: 1 }
      ])
      // The other purge has looked, and found the second one in the way.
      const other = Effect.zipRight(
        sql`DELETE FROM ${tables.deliveries} WHERE id = 1`,
        sql`SELECT id FROM ${tables.messages} WHERE id = 'm' FOR UPDATE`
      )
      yield* TestClock.adjust(1000)
      const purged = yield* during(other, deliveries.purge({ delivered: 0, ended: 0 }), 1)
      expect(purged).toEqual({ messages: 1, deliveries: 1 })
    }).pipe(Effect.provide(layer(postgres))))
})

describe("rows of endpoints", () => {
  it.effect.each(backends)(
    "are written and read as they are on $name, and what can't be read begins anew",
    (backend) =>
      Effect.gen(function*() {
        const store = yield* OutboxSchema.OutboxSchema
        const { sql, tables } = store
        const row: EndpointRows.EndpointRow = {
          id: "a",
          circuit: { _tag: "HalfOpen", generation: 7, since: 12, inFlight: 1, succeeded: 0, failedProbes: 2 },
          pausedUntil: 1_800_000_000_123,
          disabled: { at: 3, by: "gone", reason: "it's \"gone\"" },
          consecutiveFailures: 4,
          firstFailureAt: 1,
          lastFailureAt: 2,
          lastSuccessAt: 1_700_000_000_000,
          nextSlotAt: 1_700_000_000_001
        }
        yield* store.transaction(EndpointRows.write(store, [row, EndpointRows.blank("b")], 9))
        const found = yield* EndpointRows.read(store, ["a", "b", "c"])
        expect([...found.values()]).toEqual([row, EndpointRows.blank("b")])

        const locked = yield* store.transaction(EndpointRows.lock(store, ["c", "a"], 9))
        expect([...locked.values()]).toEqual([row, EndpointRows.blank("c")])
        expect([...(yield* EndpointRows.readAll(store)).keys()]).toEqual(["a", "b", "c"])

        for (const circuit of ["{", "{}", "null", "{\"_tag\":\"Open\"}", "{\"_tag\":\"Closed\",\"generation\":1}"]) {
          yield* sql`UPDATE ${tables.endpoints} SET circuit = ${circuit}, disabled_by = 'martians' WHERE id = 'a'`
          const [again] = (yield* EndpointRows.read(store, ["a"])).values()
          expect(again).toEqual({
            ...row,
            circuit: EndpointRows.blank("a").circuit,
            disabled: { ...row.disabled, by: "operator" }
          })
        }
      }).pipe(Effect.provide(layer(backend)))
  )
})
