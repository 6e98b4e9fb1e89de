/** Whose turn it is of an aggregate, where nobody could tell when it was stored, or when the one before ended. */
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { createHash } from "node:crypto"
import * as Outbox from "../../src/outbox/Outbox.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import { backends, type Database, postgres } from "../support/backends.js"
import { type EndpointFields, enqueue, event } from "../support/outboxing.js"
import { quiet } from "../support/recording.js"
import {
  calls,
  eventually,
  fleet,
  pass,
  play,
  prepared,
  receiver,
  row,
  start,
  states,
  times,
  wake,
  working
} from "../support/working.js"

const day = 86_400_000

const ordered = { a: { ordered: true } }

/** A worker that looks only when it is woken, and the program that it is part of. */
const one = (database: Database, endpoints: Readonly<Record<string, EndpointFields>> = ordered) =>
  Effect.map(fleet(1, database, { endpoints }), ([context]) => context!)

/** Waits, in real time, while the worker looks again and again at this moment of the test's clock. */
const looking = <E, R>(condition: Effect.Effect<boolean, E, R>) => eventually(Effect.zipRight(wake, condition))

const all = (...expected: ReadonlyArray<string>) => Effect.map(states, (states) => states.join() === expected.join())

/** Which delivery each request to `a` was for: `1` is `dlv_1`. */
const order = Effect.gen(function*() {
  const { sql, tables } = yield* OutboxSchema.OutboxSchema
  const rows = yield* sql`SELECT id, message_id FROM ${tables.deliveries} WHERE endpoint_id = 'a'`
  const ids = new Map(rows.map(({ id, message_id }) => [message_id, Number(id)]))
  return (yield* calls("a")).map(({ id }) => ids.get(id))
})

const among = (sent: ReadonlyArray<number | undefined>, ...ids: ReadonlyArray<number>) =>
  sent.filter((id) => id !== undefined && ids.includes(id))

describe("a turn that got lost", () => {
  it.effect("is given within two seconds, by a worker that nobody wakes", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.replicateEffect(enqueue(), 4)
      yield* pass("500 millis")
      expect(yield* times()).toEqual([0])
      yield* sql`DELETE FROM webhook_deliveries WHERE id = 1`
      yield* play({})
      yield* pass("1499 millis")
      expect(yield* times()).toEqual([0])
      yield* pass("1 millis")
      expect(yield* times()).toEqual([0, 2000, 2000, 2000])
      expect((yield* order).slice(1)).toEqual([2, 3, 4])
    }).pipe(
      Effect.provide(working({ endpoints: ordered, steps: { a: [500] }, worker: { poll: "1 second" } })),
      quiet
    ))

  it.effect("is found behind however many aggregates that have theirs", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { enqueueAll } = yield* Outbox.Outbox
      yield* enqueueAll(
        yield* Effect.forEach(Array.from({ length: 450 }, (_, n) => n), (n) => event({ aggregateId: `o-${1000 + n}` }))
      )
      yield* enqueue({ type: "user.created" })
      yield* sql`UPDATE webhook_deliveries SET due_at = ${day} WHERE endpoint_id = 'a'`
      const lose = (id: number) => sql`UPDATE webhook_deliveries SET held = 1, due_at = 0 WHERE id = ${id}`
      // The last of an endpoint, and the first of the next.
      yield* Effect.forEach([450, 451], lose)
      yield* start({ poll: "1 second" })
      yield* pass("6 seconds")
      expect([yield* times("a"), yield* times("b")]).toEqual([[4000], [4000]])
      // And then from the beginning.
      yield* lose(1)
      yield* pass("6 seconds")
      expect(yield* times("a")).toHaveLength(2)
    }).pipe(
      Effect.scoped,
      Effect.provide(prepared({
        endpoints: { a: { ordered: true, events: ["order.*"] }, b: { ordered: true, events: ["user.*"] } }
      })),
      quiet
    ))
})

describe.each(backends)("an aggregate on $name", (backend) => {
  it.effect("goes on where what had the turn is gone, or ended without a word", () =>
    Effect.gen(function*() {
      const context = yield* one(yield* backend.database)
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        for (const aggregateId of ["gone", "gone", "gone", "ended", "ended", "ended", "waits", "waits"]) {
          yield* enqueue({ aggregateId })
        }
        yield* Effect.forEach([1, 4, 7], (id) => eventually(Effect.map(row(id), ({ lane }) => lane === "retry")))
        yield* sql`DELETE FROM webhook_deliveries WHERE id = 1`
        yield* sql`UPDATE webhook_deliveries SET state = 'discarded' WHERE id = 4`
        yield* play({})
        yield* TestClock.adjust("2 seconds")
        yield* looking(all("delivered", "delivered", "discarded", "delivered", "delivered", "pending", "pending"))
        const sent = (yield* order).slice(3)
        expect([among(sent, 2, 3), among(sent, 5, 6)]).toEqual([[2, 3], [5, 6]])
        // The seventh waits for its retry, and has the turn.
        expect((yield* row(8)).held).toBe(1)
      }).pipe(Effect.provide(context))
    }).pipe(Effect.scoped, Effect.provide(receiver({ a: [500] })), quiet))

  it.effect("is one by its whole id, however long, and no other that begins like it", () => {
    const short = "x".repeat(200)
    // Longer than what an index takes, and nothing that could be packed.
    const long = Array.from({ length: 100 }, (_, n) => createHash("sha256").update(String(n)).digest("hex")).join("")
    return Effect.gen(function*() {
      const context = yield* one(yield* backend.database)
      yield* Effect.gen(function*() {
        for (const [id, begin] of [[1, short], [2, long]] as const) {
          yield* enqueue({ aggregateId: `${begin}1` })
          yield* eventually(Effect.map(row(id), ({ lane }) => lane === "retry"))
        }
        for (const begin of [short, long]) {
          yield* enqueue({ aggregateId: `${begin}1` })
          yield* enqueue({ aggregateId: `${begin}2` })
        }
        yield* looking(all("pending", "pending", "pending", "delivered", "pending", "delivered"))
        yield* TestClock.adjust("6 seconds")
        yield* looking(all(...Array.from({ length: 6 }, () => "delivered")))
        const sent = yield* order
        expect([among(sent, 1, 3), among(sent, 2, 5), among(sent, 4), among(sent, 6)])
          .toEqual([[1, 1, 3], [2, 2, 5], [4], [6]])
      }).pipe(Effect.provide(context))
    }).pipe(Effect.scoped, Effect.provide(receiver({ a: [500, 500, 200] })), quiet)
  })
})

describe.each(backends)(
  "an ordered endpoint that is gone, with more that waits than is discarded at a time, on $name",
  (backend) => {
    const enqueueMany = Effect.gen(function*() {
      const { enqueueAll } = yield* Outbox.Outbox
      const aggregates = ["o-1", "o-2", "o-3"]
      yield* enqueueAll(
        yield* Effect.forEach(
          Array.from({ length: 3300 }, (_, n) => n),
          // By far the most of one of them.
          (n) => event({ aggregateId: aggregates[n % 30] ?? "o-1" })
        )
      )
    })
    const left = Effect.gen(function*() {
      const { sql, tables } = yield* OutboxSchema.OutboxSchema
      const found = yield* sql`SELECT state, held, count(*) AS n FROM ${tables.deliveries} GROUP BY state, held`
      return found.map(({ held, n, state }) => `${state} ${held} ${n}`)
    })
    const noneIsLeft = Effect.map(left, (left) => left.join() === "discarded 0 3300")

    it.effect("has all of it discarded at once", () =>
      Effect.gen(function*() {
        const context = yield* one(yield* backend.database)
        yield* Effect.gen(function*() {
          yield* enqueueMany
          // At this very moment of the clock: not with the next look for lost turns.
          yield* eventually(noneIsLeft)
          expect((yield* calls()).length).toBeLessThanOrEqual(3)
          yield* enqueue({ aggregateId: "o-1" })
          expect(yield* left).toEqual(["discarded 0 3301"])
        }).pipe(Effect.provide(context))
      }).pipe(Effect.scoped, Effect.provide(receiver({ a: [410] })), quiet))

    it.effect("has all of it discarded where the worker that heard it has died since", () =>
      Effect.gen(function*() {
        const database = Layer.provideMerge(
          OutboxSchema.layerMigrated({ clock: "process" }),
          (yield* backend.database).client
        )
        yield* Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* enqueueMany
          // Those whose turn it is have failed, and aren't due for long.
          yield* sql`UPDATE webhook_deliveries SET lane = 'retry', due_at = ${day} WHERE held = 0`
          yield* sql`INSERT INTO webhook_endpoints (id, disabled_at, disabled_by, disabled_reason, updated_at)
          VALUES ('a', 0, 'gone', '', 0)`
          yield* start()
          yield* looking(noneIsLeft)
          expect(yield* calls()).toEqual([])
        }).pipe(Effect.scoped, Effect.provide(prepared({ endpoints: ordered, database: Layer.orDie(database) })))
      }).pipe(Effect.scoped, quiet))
  }
)

describe.each(["REPEATABLE READ", "SERIALIZABLE"])("a host's transaction that is %s", (level) => {
  /** What the transaction sees is as it was when it began. */
  const inTransaction = <A, E, R>(effect: Effect.Effect<A, E, R>, meanwhile: Effect.Effect<unknown, unknown, R>) =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const begun = yield* Deferred.make<void>()
      const go = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkScoped(sql.withTransaction(Effect.gen(function*() {
        yield* sql.unsafe(`SET TRANSACTION ISOLATION LEVEL ${level}`)
        yield* sql`SELECT count(*) FROM webhook_deliveries`
        yield* Deferred.succeed(begun, undefined)
        yield* Deferred.await(go)
        return yield* effect
      })))
      yield* Deferred.await(begun)
      yield* meanwhile
      yield* Deferred.succeed(go, undefined)
      return yield* Fiber.join(fiber)
    })

  it.effect("never overtakes what was committed since it began", () =>
    Effect.gen(function*() {
      const context = yield* one(yield* postgres.database)
      yield* Effect.gen(function*() {
        yield* inTransaction(
          Effect.replicateEffect(enqueue(), 2),
          Effect.zipRight(enqueue(), eventually(Effect.map(row(1), ({ lane }) => lane === "retry")))
        )
        yield* TestClock.adjust("2 seconds")
        // Something else that the worker sends, so that it has looked.
        yield* enqueue({ aggregateId: "other" })
        yield* looking(Effect.map(row(4), ({ state }) => state === "delivered"))
        expect(yield* order).toEqual([1, 4])
        yield* TestClock.adjust("6 seconds")
        yield* looking(all("delivered", "delivered", "delivered", "delivered"))
        expect(yield* order).toEqual([1, 4, 1, 2, 3])
        expect((yield* calls()).every(({ beside }) => beside.length === 0)).toBe(true)
      }).pipe(Effect.scoped, Effect.provide(context))
    }).pipe(Effect.scoped, Effect.provide(receiver({ a: [500, 200] })), quiet))

  it.effect("has what it stored sent in its order, when a worker has seen whose turn it is", () =>
    Effect.gen(function*() {
      const context = yield* one(yield* postgres.database)
      yield* Effect.gen(function*() {
        yield* inTransaction(
          Effect.replicateEffect(enqueue(), 3),
          Effect.zipRight(enqueue(), eventually(all("delivered")))
        )
        expect([(yield* row(2)).held, (yield* row(3)).held, (yield* row(4)).held]).toEqual([1, 1, 1])
        yield* TestClock.adjust("2 seconds")
        yield* looking(all("delivered", "delivered", "delivered", "delivered"))
        expect(yield* order).toEqual([1, 2, 3, 4])
      }).pipe(Effect.scoped, Effect.provide(context))
    }).pipe(Effect.scoped, Effect.provide(receiver({})), quiet))
})

it.effect("a host's transaction that stays open holds up its own aggregate, and no result", () =>
  Effect.gen(function*() {
    const context = yield* one(yield* postgres.database, { a: { ordered: true }, b: {} })
    yield* Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const stored = yield* Deferred.make<void>()
      const end = yield* Deferred.make<void>()
      yield* Effect.replicateEffect(enqueue(), 2)
      yield* eventually(Effect.map(calls(), ({ length }) => length === 3))
      const host = yield* Effect.forkScoped(sql.withTransaction(
        enqueue().pipe(Effect.zipRight(Deferred.succeed(stored, undefined)), Effect.zipRight(Deferred.await(end)))
      ))
      yield* Deferred.await(stored)
      yield* TestClock.adjust("2 seconds")
      yield* looking(all("delivered", "delivered", "pending", "delivered"))
      // Whose turn it is now is asked for in vain, and the others go on.
      yield* TestClock.adjust("2 seconds")
      yield* enqueue({ aggregateId: "other" })
      yield* looking(all("delivered", "delivered", "pending", "delivered", "delivered", "delivered"))
      expect((yield* row(3)).held).toBe(1)
      yield* Deferred.succeed(end, undefined)
      yield* Fiber.join(host)
      yield* TestClock.adjust("2 seconds")
      yield* looking(all(...Array.from({ length: 8 }, () => "delivered")))
      expect(yield* order).toEqual([1, 7, 3, 5])
    }).pipe(Effect.scoped, Effect.provide(context))
  }).pipe(
    Effect.scoped,
    Effect.provide(receiver({
      a: [{ status: 200, delay: "2 seconds" }, 200],
      b: [{ status: 200, delay: "2 seconds" }, { status: 200, delay: "2 seconds" }, 200]
    })),
    quiet
  ))
