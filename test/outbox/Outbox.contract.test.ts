import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { readFileSync } from "node:fs"
import * as CorrelationId from "../../src/CorrelationId.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import { type Backend, backends, type Database } from "../support/backends.js"
import { count, dump, endpoints, enqueue, event, outbox } from "../support/outboxing.js"

const counts = Effect.all([count("webhook_messages"), count("webhook_deliveries")])

/** A host's own table. */
const orders = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`CREATE TABLE orders (id INTEGER PRIMARY KEY)`)
const order = (id: number) => Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO orders (id) VALUES (${id})`)

/** A host's rule that is only checked by COMMIT: a row in `lines` needs its order. */
const deferredRule = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* orders
  yield* sql`CREATE TABLE lines (order_id INTEGER REFERENCES orders (id) DEFERRABLE INITIALLY DEFERRED)`
})

/** From now on, storing a message of type `poison` breaks that rule. */
const poison = ({ name }: Backend) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    if (name === "sqlite") {
      yield* sql`CREATE TRIGGER poison AFTER INSERT ON webhook_messages WHEN new.event_type = 'poison'
        BEGIN INSERT INTO lines (order_id) VALUES (404); END`
    } else {
      yield* sql`CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO lines (order_id) VALUES (404); RETURN NULL; END $$`
      yield* sql`CREATE TRIGGER poison AFTER INSERT ON webhook_messages
        FOR EACH ROW WHEN (new.event_type = 'poison') EXECUTE FUNCTION poison()`
    }
  })

/** How many transactions have stored messages; checkpoints must be off in SQLite. */
const commits = ({ name }: Backend, { url }: Database) =>
  name === "sqlite" ?
    Effect.sync(() => commitsOfLog(readFileSync(`${url.slice("file:".length)}-wal`))) :
    Effect.flatMap(
      SqlClient.SqlClient,
      (sql) =>
        Effect.map(sql`SELECT count(DISTINCT xmin::text) AS n FROM webhook_messages`, ([row]) => Number(row?.["n"]))
    )

// SQLite's write-ahead log: a header of 32 bytes with the page size, then frames of 24 bytes and a page; a frame that ends a
// transaction has the size of the database in its bytes 4 to 8 (https://www.sqlite.org/fileformat2.html#the_write_ahead_log).
const commitsOfLog = (log: Buffer): number => {
  const frame = 24 + log.readUInt32BE(8)
  let commits = 0
  for (let at = 32; at + frame <= log.length; at += frame) if (log.readUInt32BE(at + 4) !== 0) commits++
  return commits
}

const planted = {
  url: "https://hooks.example.com/in?token=planted-query",
  secret: "whsec_cGxhbnRlZC1zZWNyZXQtcGxhbnRlZC1zZWNyZXQ=",
  headers: { authorization: "Bearer planted-header" }
}

describe.each(backends)("Outbox on $name", (backend) => {
  const layer = outbox(backend)

  describe("enqueue", () => {
    it.effect("stores the bytes once and a delivery for each endpoint that wants the event", () =>
      Effect.gen(function*() {
        const { sql } = yield* OutboxSchema.OutboxSchema
        yield* TestClock.setTime(1_769_515_200_123)
        const enqueued = yield* enqueue({ type: "invoice.paid", tenant: "acme", occurredAt: "2026-01-27T12:00:00Z" })
        expect(enqueued).toEqual({
          messageId: expect.stringMatching(/^msg_[A-Za-z0-9]{24}$/),
          duplicate: false,
          deliveries: 3
        })
        const [message] = yield* sql`SELECT * FROM webhook_messages`
        expect(message).toMatchObject({
          id: enqueued.messageId,
          event_type: "invoice.paid",
          tenant: "acme",
          aggregate_id: "o-1",
          occurred_at: "2026-01-27T12:00:00Z",
          body_cloudevents: null
        })
        expect(Number(message?.["created_at"])).toBe(1_769_515_200_123)
        expect(String(message?.["body_event"])).toBe(
          "{\"aggregate_id\": \"o-1\", \"data\": {\"total\": 42}, \"event_type\": \"invoice.paid\", \"occurred_at\": \"2026-01-27T12:00:00Z\"}"
        )
        expect(String(message?.["body_standard"])).toBe(
          "{\"type\":\"invoice.paid\",\"timestamp\":\"2026-01-27T12:00:00Z\",\"data\":{\"total\":42}}"
        )
        const deliveries = yield* sql`SELECT * FROM webhook_deliveries ORDER BY id`
        expect(
          deliveries.map((
            row
          ) => [row["endpoint_id"], row["format"], row["state"], row["lane"], Number(row["attempts"])])
        )
          .toEqual([
            ["all", "event", "pending", "first", 0],
            ["invoices", "standard", "pending", "first", 0],
            ["acme", "event", "pending", "first", 0]
          ])
      }).pipe(Effect.provide(outbox(backend, {
        all: {},
        orders: { events: ["order.created"] },
        invoices: { events: ["invoice.*"], format: "standard" },
        acme: { tenant: "acme" },
        other: { tenant: "other" },
        off: { enabled: false }
      }))))

    it.effect("keeps an event that nobody wants, so that its second coming is known", () =>
      Effect.gen(function*() {
        const first = yield* enqueue({ id: "m1" })
        expect(first).toEqual({ messageId: "m1", duplicate: false, deliveries: 0 })
        expect(yield* enqueue({ id: "m1" })).toEqual({ ...first, duplicate: true })
        expect(yield* counts).toEqual([1, 0])
      }).pipe(Effect.provide(outbox(backend, {}))))

    it.effect("lets correlation id and trace travel with the message", () =>
      Effect.gen(function*() {
        const { sql } = yield* OutboxSchema.OutboxSchema
        yield* enqueue({ id: "own", correlationId: "from-the-event" })
        const span = yield* enqueue({ id: "fiber" }).pipe(
          Effect.zipRight(Effect.currentSpan),
          Effect.withSpan("request"),
          CorrelationId.withCorrelationId("from-the-fiber")
        )
        const rows = yield* sql`SELECT correlation_id, trace_parent FROM webhook_messages ORDER BY id`
        expect(rows.map((row) => row["correlation_id"])).toEqual(["from-the-fiber", "from-the-event"])
        expect(rows[0]?.["trace_parent"]).toMatch(new RegExp(`^00-${span.traceId}-[0-9a-f]{16}-01$`))
      }).pipe(Effect.provide(layer)))

    it.effect("stores no secret, URL or header", () =>
      Effect.gen(function*() {
        yield* enqueue({ id: "m1" }, "key-1")
        const rows = yield* dump
        expect(rows).toContain("order.created")
        expect(rows).not.toMatch(/planted|cGxhbnRlZ|https?:|authorization/i)
      }).pipe(
        Effect.provide(outbox(backend, { a: planted, b: { ...planted, url: "https://hooks.example.com/b?planted" } }))
      ))

    it.effect("stores nothing of an event that is too large or that JSON can't hold", () =>
      Effect.gen(function*() {
        const outbox = yield* Outbox.Outbox
        expect(yield* Effect.flip(enqueue({ data: "x".repeat(1000) }))).toMatchObject({
          _tag: "PayloadTooLarge",
          limit: 1000
        })
        expect(yield* Effect.flip(enqueue({ data: { price: 1n } })))
          .toMatchObject({ _tag: "UnserializableEvent", path: "data.price" })
        expect(yield* Effect.flip(outbox.enqueue({ type: "a b", aggregateId: null, occurredAt: "now", data: 1 })))
          .toMatchObject({ _tag: "InvalidEvent", path: "type" })
        const good = yield* event()
        const large = yield* event({ data: "x".repeat(1000) })
        expect(yield* Effect.flip(outbox.enqueueAll([good, large]))).toMatchObject({ _tag: "PayloadTooLarge" })
        expect(yield* counts).toEqual([0, 0])
      }).pipe(Effect.provide(outbox(backend, undefined, { maxPayloadBytes: 1000 }))))

    it.effect("refuses an idempotency key that is none", () =>
      Effect.gen(function*() {
        for (const key of ["", "a b", "é", "x".repeat(256), "a\u0000"]) {
          const error = yield* Effect.flip(enqueue({}, key))
          expect(error._tag).toBe("InvalidIdempotencyKey")
          expect(error.message).toContain("1 to 255")
        }
        expect(yield* counts).toEqual([0, 0])
      }).pipe(Effect.provide(layer)))

    it.effect("takes or refuses odd text by itself, and lets none of it harm another's event", () =>
      Effect.gen(function*() {
        const odd = [
          "nul \u0000 inside",
          "half \ud800 a pair",
          "quote ' and \" and \\ and %s $1 ?",
          "\u2028\u202e 😀 ü"
        ]
        const results = yield* Effect.forEach(
          ["plain", ...odd, "also plain"],
          (aggregateId) => Effect.either(enqueue({ aggregateId, data: { aggregateId } })),
          { concurrency: "unbounded" }
        )
        const tags = results.map((result) => Either.isRight(result) ? "stored" : result.left._tag)
        // PostgreSQL's text holds neither NUL nor half a pair; what holds the one must not depend on the other.
        for (const tag of tags.slice(1, 3)) expect(["stored", "InvalidEvent"]).toContain(tag)
        expect([tags[0], ...tags.slice(3)]).toEqual(["stored", "stored", "stored", "stored"])
      }).pipe(Effect.provide(outbox(backend, { a: {}, sorted: { ordered: true } }))))
  })

  describe("in the caller's transaction", () => {
    it.effect("is committed with it", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* orders
        const enqueued = yield* sql.withTransaction(Effect.zipRight(order(1), enqueue()))
        expect(enqueued).toMatchObject({ duplicate: false, deliveries: 2 })
        expect([yield* count("orders"), ...yield* counts]).toEqual([1, 1, 2])
      }).pipe(Effect.provide(layer)))

    it.effect("is rolled back with it, and unseen by others before the commit", () =>
      Effect.gen(function*() {
        const database = yield* backend.database
        // In a run of its own: within the transaction, any other client would be on the transaction's connection.
        const others = Effect.promise(() => Effect.runPromise(Effect.provide(counts, database.client)))
        yield* Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const { enqueue: _, enqueueAll } = yield* Outbox.Outbox
          yield* orders
          const exit = yield* order(1).pipe(
            Effect.zipRight(enqueue()),
            Effect.zipRight(Effect.flatMap(Effect.all([event(), event()]), enqueueAll)),
            Effect.zipRight(counts),
            Effect.zip(others),
            Effect.flatMap((seen) => Effect.fail(seen)),
            sql.withTransaction,
            Effect.flip
          )
          expect(exit).toEqual([[3, 6], [0, 0]])
          expect([yield* count("orders"), ...yield* counts]).toEqual([0, 0, 0])
        }).pipe(Effect.provide(outbox({ layer: database.client })))
      }).pipe(Effect.scoped))

    it.effect("leaves it usable after a duplicate, and after a conflict that the caller catches", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const { enqueueAll } = yield* Outbox.Outbox
        yield* orders
        yield* enqueue({ id: "m1" }, "k1")
        const seen = yield* sql.withTransaction(Effect.gen(function*() {
          const again = yield* enqueue({ id: "m1" }, "k1")
          yield* order(1)
          const byKey = yield* Effect.flip(enqueue({ type: "order.paid" }, "k1"))
          yield* order(2)
          const all = yield* Effect.all([event({ id: "m2" }), event({ id: "m1", type: "order.paid" })])
          const byId = yield* Effect.flip(enqueueAll(all))
          yield* order(3)
          const last = yield* enqueue({ id: "m3" })
          return [again.duplicate, byKey, byId, last.duplicate]
        }))
        expect(seen).toMatchObject([
          true,
          { _tag: "IdempotencyConflict", by: "idempotencyKey", messageId: "m1" },
          { _tag: "IdempotencyConflict", by: "id", messageId: "m1" },
          false
        ])
        expect(yield* sql`SELECT id FROM webhook_messages ORDER BY id`).toEqual([{ id: "m1" }, { id: "m3" }])
        expect([yield* count("orders"), ...yield* counts]).toEqual([3, 2, 4])
      }).pipe(Effect.provide(layer)))

    it.effect("goes with a savepoint of the caller's", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql.withTransaction(Effect.gen(function*() {
          yield* enqueue({ id: "m1" })
          yield* Effect.either(sql.withTransaction(Effect.zipRight(enqueue({ id: "m2" }), Effect.fail("no"))))
          yield* sql.withTransaction(enqueue({ id: "m3" }))
        }))
        expect(yield* sql`SELECT id FROM webhook_messages ORDER BY id`).toEqual([{ id: "m1" }, { id: "m3" }])
      }).pipe(Effect.provide(layer)))

    it.effect("leaves a COMMIT that fails to the host", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* deferredRule
        const exit = yield* sql`INSERT INTO lines (order_id) VALUES (404)`.pipe(
          Effect.zipRight(enqueue()),
          sql.withTransaction,
          Effect.exit
        )
        // As @effect/sql ends it for any statement of the host's.
        expect(Exit.isFailure(exit) && Cause.isDie(exit.cause)).toBe(true)
        // SQLite keeps the transaction open, and the host has to end it.
        if (backend.name === "sqlite") yield* sql`ROLLBACK`
        expect(yield* counts).toEqual([0, 0])
        yield* enqueue()
        expect(yield* counts).toEqual([1, 2])
      }).pipe(Effect.provide(layer)))
  })

  describe("in a transaction of its own", () => {
    it.effect("shares a commit among events that come at the same time", () =>
      Effect.gen(function*() {
        const database = yield* backend.database
        yield* Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          if (backend.name === "sqlite") yield* sql`PRAGMA wal_autocheckpoint = 0`
          yield* enqueue()
          const before = yield* commits(backend, database)
          yield* Effect.replicateEffect(enqueue(), 150, { concurrency: "unbounded", discard: true })
          const together = (yield* commits(backend, database)) - before
          yield* Effect.replicateEffect(enqueue(), 3, { discard: true })
          const alone = (yield* commits(backend, database)) - before - together
          expect(yield* counts).toEqual([154, 308])
          expect(together).toBeGreaterThan(0)
          expect(together).toBeLessThanOrEqual(5)
          // And one that comes alone doesn't wait for company.
          expect(alone).toBe(3)
        }).pipe(Effect.provide(outbox({ layer: database.client })))
      }).pipe(Effect.scoped))

    it.effect("tells a COMMIT that fails as OutboxUnavailable, and goes on", () =>
      Effect.gen(function*() {
        const { enqueueAll } = yield* Outbox.Outbox
        yield* deferredRule
        yield* poison(backend)
        const error = yield* Effect.flip(enqueue({ type: "poison" }))
        expect(error).toMatchObject({ _tag: "OutboxUnavailable", reason: "constraint" })
        expect(error.message).not.toMatch(/lines|orders|404|poison/)
        const several = Effect.flatMap(Effect.all([event(), event({ type: "poison" })]), enqueueAll)
        expect(yield* Effect.flip(several)).toMatchObject({ _tag: "OutboxUnavailable", reason: "constraint" })
        expect(yield* counts).toEqual([0, 0])
        yield* enqueue()
        expect(yield* counts).toEqual([1, 2])
      }).pipe(Effect.provide(layer)))

    it.effect("lets an event that the database refuses fail alone", () =>
      Effect.gen(function*() {
        yield* deferredRule
        yield* poison(backend)
        const results = yield* Effect.forEach(
          ["order.created", "poison", "order.paid"],
          (type) => Effect.either(enqueue({ type })),
          { concurrency: "unbounded" }
        )
        expect(results.map(Either.isRight)).toEqual([true, false, true])
        expect(yield* counts).toEqual([2, 4])
      }).pipe(Effect.provide(layer)))

    it.effect("has stored what was handed in when the outbox closes, though nobody waits for it", () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const outbox = yield* Layer.buildWithScope(
          Layer.provide(
            Outbox.layer(),
            Layer.merge(
              Layer.effect(OutboxSchema.OutboxSchema, OutboxSchema.OutboxSchema),
              endpoints({ a: {} })
            )
          ),
          scope
        )
        const waiting = yield* Effect.fork(
          Effect.provide(Effect.all([enqueue(), enqueue()], { concurrency: 2 }), outbox)
        )
        yield* Effect.yieldNow()
        yield* Effect.yieldNow()
        yield* Fiber.interrupt(waiting)
        yield* Scope.close(scope, Exit.void)
        expect(yield* count("webhook_messages")).toBe(2)
      }).pipe(Effect.provide(layer)))
  })

  describe("the same again", () => {
    it.effect("by its key: nothing is stored, and the first id comes back", () =>
      Effect.gen(function*() {
        const first = yield* enqueue({}, "k1")
        yield* TestClock.adjust("1 hour")
        // Without a time of its own, an event has that of the moment: a retry is the same all the same.
        expect(yield* enqueue({}, "k1")).toEqual({ ...first, duplicate: true })
        // As has one with an id of its own, which a producer may make anew for each try.
        expect(yield* enqueue({ id: "m9" }, "k1")).toEqual({ ...first, duplicate: true })
        expect(yield* counts).toEqual([1, 2])
      }).pipe(Effect.provide(layer)))

    it.effect("by its event's id, with another key or with none", () =>
      Effect.gen(function*() {
        const first = yield* enqueue({ id: "m1" })
        yield* TestClock.adjust("1 hour")
        for (const key of [undefined, "k1"]) {
          expect(yield* enqueue({ id: "m1" }, key)).toEqual({ ...first, duplicate: true })
        }
        expect(yield* counts).toEqual([1, 2])
      }).pipe(Effect.provide(layer)))

    it.effect("in the same moment: one is the first", () =>
      Effect.gen(function*() {
        const { enqueueAll } = yield* Outbox.Outbox
        const stored = (all: ReadonlyArray<Outbox.Enqueued>) => all.filter(({ duplicate }) => !duplicate).length
        const byId = yield* Effect.replicateEffect(enqueue({ id: "m1" }), 10, { concurrency: "unbounded" })
        const byKey = yield* Effect.replicateEffect(enqueue({}, "k1"), 10, { concurrency: "unbounded" })
        const twice = yield* enqueueAll([yield* event({ id: "m2" }), yield* event({ id: "m2" })])
        const after = yield* enqueue({ id: "m2" })
        expect([byId, byKey, twice, [after]].map(stored)).toEqual([1, 1, 1, 0])
        expect(new Set(byKey.map(({ messageId }) => messageId)).size).toBe(1)
        expect(yield* counts).toEqual([3, 6])
      }).pipe(Effect.provide(layer)))

    it.live("from two connections at once: one waits for the other, and is the duplicate", () =>
      Effect.gen(function*() {
        const database = yield* backend.database
        const host = outbox({ layer: database.client })
        const inserted = yield* Deferred.make<void>()
        const commit = yield* Deferred.make<void>()
        const first = yield* Effect.fork(
          Effect.flatMap(SqlClient.SqlClient, (sql) =>
            enqueue({ id: "m1" }, "k1").pipe(
              Effect.zipLeft(Deferred.succeed(inserted, undefined)),
              Effect.zipLeft(Deferred.await(commit)),
              sql.withTransaction
            )).pipe(Effect.provide(host))
        )
        yield* Deferred.await(inserted)
        const second = yield* Effect.fork(Effect.provide(enqueue({ id: "m2" }, "k1"), host))
        yield* Effect.sleep("50 millis")
        yield* Deferred.succeed(commit, undefined)
        expect(yield* Fiber.join(first)).toEqual({ messageId: "m1", duplicate: false, deliveries: 2 })
        expect(yield* Fiber.join(second)).toEqual({ messageId: "m1", duplicate: true, deliveries: 2 })
      }).pipe(Effect.scoped))

    const others = [
      ["another type", { type: "order.paid" }],
      ["other data", { data: { total: 43 } }],
      ["another aggregate", { aggregateId: "o-2" }],
      ["another tenant", { tenant: "acme" }],
      ["another time, if it says one", { occurredAt: "2026-01-27T12:00:01Z" }]
    ] as const
    it.effect.each(others)("with %s is a conflict", ([, other]) =>
      Effect.gen(function*() {
        const outbox = yield* Outbox.Outbox
        const given = { occurredAt: "2026-01-27T12:00:00Z" }
        yield* enqueue({ ...given, id: "m1" }, "k1")
        expect(yield* enqueue({ ...given, id: "m1" }, "k1")).toMatchObject({ messageId: "m1", duplicate: true })
        for (const [by, id, key] of [["id", "m1", undefined], ["idempotencyKey", "m2", "k1"]] as const) {
          const error = yield* Effect.flip(enqueue({ ...given, ...other, id }, key))
          expect(error).toMatchObject({ _tag: "IdempotencyConflict", messageId: "m1", by })
          expect(error.message).toContain("message m1")
        }
        // All or none.
        const all = yield* Effect.all([event(), event({ ...given, ...other, id: "m1" })])
        expect(yield* Effect.flip(outbox.enqueueAll(all))).toMatchObject({ _tag: "IdempotencyConflict", by: "id" })
        expect(yield* counts).toEqual([1, 2])
      }).pipe(Effect.provide(layer)))

    it.effect("is known by the id that was given back, though the first had none", () =>
      Effect.gen(function*() {
        const { messageId } = yield* enqueue({ occurredAt: "2026-01-27T12:00:00Z" })
        expect(yield* enqueue({ id: messageId, occurredAt: "2026-01-27T12:00:00Z" }))
          .toMatchObject({ messageId, duplicate: true })
        expect(yield* Effect.flip(enqueue({ id: messageId, data: "something else" })))
          .toMatchObject({ _tag: "IdempotencyConflict", messageId, by: "id" })
      }).pipe(Effect.provide(layer)))

    it.effect("under one id with two keys: what is said to be stored is what is stored", () =>
      Effect.gen(function*() {
        const { sql } = yield* OutboxSchema.OutboxSchema
        const { enqueueAll } = yield* Outbox.Outbox
        const twice = (id: string) =>
          Effect.all([event({ id, type: "first" }), event({ id, type: "second" })]).pipe(
            // Whatever the order in which they are written, keys and all.
            Effect.map(([first, second]) => [{ event: first!, idempotencyKey: `${id}-z` }, {
              event: second!,
              idempotencyKey: `${id}-a`
            }])
          )
        expect(yield* Effect.flip(Effect.flatMap(twice("m1"), enqueueAll)))
          .toMatchObject({ _tag: "IdempotencyConflict", by: "id", messageId: "m1" })
        expect(yield* counts).toEqual([0, 0])
        const types = yield* Effect.flatMap(twice("m2"), (all) =>
          Effect.forEach(
            all,
            ({ event, idempotencyKey }) =>
              Effect.flatMap(Outbox.Outbox, (outbox) => Effect.either(outbox.enqueue(event, { idempotencyKey }))).pipe(
                Effect.map((result) => Either.isRight(result) ? [event.type] : [])
              ),
            { concurrency: "unbounded" }
          ))
        const rows = yield* sql`SELECT event_type FROM webhook_messages`
        expect(types.flat()).toEqual(rows.map((row) => row["event_type"]))
        expect(yield* counts).toEqual([1, 2])
      }).pipe(Effect.provide(layer)))

    it.effect.each(["enqueueAll", "enqueue"])(
      "under one id, the first with a key that is another's: %s",
      (by) =>
        Effect.gen(function*() {
          const { sql } = yield* OutboxSchema.OutboxSchema
          const { enqueue: one, enqueueAll } = yield* Outbox.Outbox
          yield* enqueue({ id: "known" }, "k")
          const all = [
            { event: yield* event({ id: "same", type: "first" }), idempotencyKey: "k" },
            { event: yield* event({ id: "same", type: "second" }), idempotencyKey: "z" }
          ] as const
          if (by === "enqueueAll") {
            expect(yield* Effect.flip(enqueueAll(all)))
              .toMatchObject({ _tag: "IdempotencyConflict", by: "idempotencyKey", messageId: "known", index: 0 })
            expect(yield* counts).toEqual([1, 2])
            return
          }
          const [first, second] = yield* Effect.forEach(all, (keyed) => Effect.either(one(keyed.event, keyed)), {
            concurrency: "unbounded"
          })
          expect(first).toMatchObject({ left: { by: "idempotencyKey", messageId: "known" } })
          expect(second).toMatchObject({ right: { messageId: "same", duplicate: false } })
          expect(yield* sql`SELECT DISTINCT event_type FROM webhook_deliveries WHERE message_id = 'same'`)
            .toEqual([{ event_type: "second" }])
          expect(yield* counts).toEqual([2, 4])
        }).pipe(Effect.provide(layer))
    )

    it.effect("doesn't fail those that come with it", () =>
      Effect.gen(function*() {
        yield* enqueue({}, "k1")
        const results = yield* Effect.forEach(
          [undefined, "k1", "k2", undefined],
          (key) => Effect.either(enqueue({ type: "order.paid" }, key)),
          { concurrency: "unbounded" }
        )
        expect(results.map(Either.isRight)).toEqual([true, false, true, true])
        expect(yield* counts).toEqual([4, 8])
      }).pipe(Effect.provide(layer)))
  })

  describe("enqueueAll", () => {
    it.effect("stores all in their order, more than one statement takes", () =>
      Effect.gen(function*() {
        const { sql } = yield* OutboxSchema.OutboxSchema
        const { enqueueAll } = yield* Outbox.Outbox
        const events = yield* Effect.forEach(Array.from({ length: 1200 }, (_, n) => n), (n) => event({ id: `m${n}` }))
        expect(yield* enqueueAll([])).toEqual([])
        const results = yield* enqueueAll(events)
        expect(results).toEqual(events.map(({ id }) => ({ messageId: id, duplicate: false, deliveries: 1 })))
        const rows = yield* sql`SELECT message_id FROM webhook_deliveries ORDER BY id`
        expect(rows.map((row) => row["message_id"])).toEqual(events.map(({ id }) => id))
      }).pipe(Effect.provide(outbox(backend, { a: {} }))))

    it.effect("takes keys, and tells duplicates from new ones", () =>
      Effect.gen(function*() {
        const { enqueueAll } = yield* Outbox.Outbox
        const first = yield* enqueue({}, "k1")
        const results = yield* enqueueAll([
          { event: yield* event(), idempotencyKey: "k1" },
          { event: yield* event({ type: "order.paid" }), idempotencyKey: "k2" },
          yield* event({ id: "m3" })
        ])
        expect(results.map(({ duplicate }) => duplicate)).toEqual([true, false, false])
        expect([results[0]?.messageId, results[2]?.messageId]).toEqual([first.messageId, "m3"])
        expect(yield* counts).toEqual([3, 6])
      }).pipe(Effect.provide(layer)))
  })

  it.effect("stores events for an endpoint that is gone as discarded", () =>
    Effect.gen(function*() {
      const { sql } = yield* OutboxSchema.OutboxSchema
      for (
        const [id, by] of [["gone", "gone"], ["failing", "failing"], ["receiver", "receiver"], ["operator", "operator"]]
      ) {
        yield* sql`INSERT INTO webhook_endpoints (id, disabled_at, disabled_by, updated_at) VALUES (${id}, 1, ${by}, 1)`
      }
      yield* TestClock.setTime(5000)
      expect((yield* enqueue()).deliveries).toBe(5)
      const rows = yield* sql`SELECT endpoint_id, state, reason, ended_at FROM webhook_deliveries ORDER BY id`
      expect(
        rows.map((
          row
        ) => [
          row["endpoint_id"],
          row["state"],
          row["reason"],
          row["ended_at"] === null ? null : Number(row["ended_at"])
        ])
      )
        .toEqual([
          ["a", "pending", null, null],
          ["gone", "discarded", "disabled", 5000],
          ["failing", "pending", null, null],
          ["receiver", "discarded", "disabled", 5000],
          ["operator", "pending", null, null]
        ])
    }).pipe(Effect.provide(outbox(backend, { a: {}, gone: {}, failing: {}, receiver: {}, operator: {} }))))

  it.effect("holds later deliveries of an aggregate back where order is asked for", () =>
    Effect.gen(function*() {
      const { sql } = yield* OutboxSchema.OutboxSchema
      for (const [id, aggregateId] of [["m1", "x"], ["m2", "x"], ["m3", "y"], ["m4", null], ["m5", null]] as const) {
        yield* enqueue({ id, aggregateId })
      }
      const rows = yield* sql`SELECT message_id, endpoint_id, held FROM webhook_deliveries WHERE held = 1`
      expect(rows.map((row) => [row["message_id"], row["endpoint_id"]])).toEqual([["m2", "sorted"]])
    }).pipe(Effect.provide(outbox(backend, { free: {}, sorted: { ordered: true } }))))
})

describe("Outbox on a SQLite file that another connection is writing to", () => {
  const sqlite = backends.find(({ name }) => name === "sqlite")!

  it.live("waits without stopping the process", () =>
    Effect.gen(function*() {
      const database = yield* sqlite.database
      const commit = yield* Deferred.make<void>()
      const locked = yield* Deferred.make<void>()
      yield* Effect.gen(function*() {
        const other = yield* Effect.fork(
          Effect.flatMap(SqlClient.SqlClient, (sql) =>
            sql.withTransaction(
              sql`CREATE TABLE hosts_own (id INTEGER)`.pipe(
                Effect.zipRight(Deferred.succeed(locked, undefined)),
                Effect.zipRight(Deferred.await(commit))
              )
            )).pipe(Effect.provide(database.client))
        )
        yield* Deferred.await(locked)
        const waiting = yield* Effect.fork(enqueue())
        let widest = 0
        for (let n = 0; n < 20; n++) {
          const before = performance.now()
          yield* Effect.sleep("5 millis")
          widest = Math.max(widest, performance.now() - before)
        }
        expect(widest).toBeLessThan(1000)
        expect((yield* Fiber.poll(waiting))._tag).toBe("None")
        yield* Deferred.succeed(commit, undefined)
        yield* Fiber.join(other)
        expect(yield* Fiber.join(waiting)).toMatchObject({ duplicate: false, deliveries: 2 })
      }).pipe(Effect.provide(outbox({ layer: database.client })))
    }).pipe(Effect.scoped))
})
