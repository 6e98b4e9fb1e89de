import * as SqlClient from "@effect/sql/SqlClient"
import * as Statement from "@effect/sql/Statement"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Outbox from "../../src/outbox/Outbox.js"
import { backends, postgres } from "../support/backends.js"
import { count, enqueue, event, outbox } from "../support/outboxing.js"
import { eventually, pass } from "../support/working.js"

describe.each(backends)("calls that overlap in one transaction on $name", (backend) => {
  it.effect("one that fails takes nothing of the other with it", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { enqueueAll } = yield* Outbox.Outbox
      yield* enqueue({ id: "known", data: 1 })
      const good = yield* Effect.forEach(["g1", "g2", "g3"], (id) => event({ id }))
      const bad = [yield* event({ id: "new" }), yield* event({ id: "known", data: 2 })]
      const [refused, stored] = yield* sql.withTransaction(
        Effect.all([Effect.either(enqueueAll(bad)), Effect.either(enqueueAll(good))], { concurrency: "unbounded" })
      )
      expect([refused._tag, stored._tag]).toEqual(["Left", "Right"])
      expect(yield* count("webhook_messages")).toBe(4)
    }).pipe(Effect.provide(outbox(backend))))
})

it.live("on PostgreSQL who is interrupted goes at once, and what was on its way is stored all the same", () =>
  Effect.gen(function*() {
    const database = yield* postgres.database
    const gate = yield* Deferred.make<void>()
    const held = yield* Deferred.make<void>()
    yield* Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { enqueueAll } = yield* Outbox.Outbox
      const holding = yield* Effect.fork(sql.withTransaction(
        Effect.zipRight(
          Effect.zipRight(sql`LOCK TABLE webhook_messages`, Deferred.succeed(held, undefined)),
          Deferred.await(gate)
        )
      ))
      yield* Deferred.await(held)
      const storing = yield* Effect.fork(Effect.flatMap(Effect.all([event(), event()]), enqueueAll))
      yield* eventually(Effect.map(
        sql`SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        (rows) => rows.length > 0
      ))
      yield* Fiber.interrupt(storing)
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(holding)
      yield* eventually(Effect.map(count("webhook_messages"), (n) => n === 2))
    }).pipe(Effect.provide(outbox({ layer: database.client })))
  }).pipe(Effect.scoped))

it.effect.each(backends)(
  "what a host makes of statements on $name may be statements of its own",
  (backend) =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { enqueueAll } = yield* Outbox.Outbox
      yield* sql`CREATE TABLE audit (id INTEGER)`
      let isOwn = false
      const audited = Statement.withTransformer((statement) => {
        if (isOwn) return Effect.succeed(statement)
        isOwn = true
        return Effect.ensuring(
          Effect.as(Effect.orDie(sql`INSERT INTO audit VALUES (1)`), statement),
          Effect.sync(() => isOwn = false)
        )
      })
      const storing = Effect.flatMap(Effect.all([event(), event(), event()]), enqueueAll)
      expect(yield* audited(storing)).toHaveLength(3)
      expect(yield* audited(sql.withTransaction(storing))).toHaveLength(3)
      expect(yield* count("webhook_messages")).toBe(6)
    }).pipe(Effect.provide(outbox(backend)))
)

describe.each(backends)("a host's triggers on $name", (backend) => {
  /** Before or after a message of a type is inserted. */
  const trigger = (when: "AFTER" | "BEFORE", type: string, sqlite: string, pg: string) =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      if (backend.name === "sqlite") {
        yield* sql.unsafe(
          `CREATE TRIGGER rule ${when} INSERT ON webhook_messages WHEN new.event_type = '${type}' BEGIN ${sqlite} END`
        )
      } else {
        yield* sql.unsafe(`CREATE FUNCTION rule() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN ${pg} END'`)
        yield* sql.unsafe(`CREATE TRIGGER rule ${when} INSERT ON webhook_messages FOR EACH ROW
          WHEN (new.event_type = '${type}') EXECUTE FUNCTION rule()`)
      }
    })

  it.effect("a batch of which one passes over an event is not stored", () =>
    Effect.gen(function*() {
      const { enqueueAll } = yield* Outbox.Outbox
      yield* trigger("BEFORE", "skip.me", "SELECT RAISE(IGNORE);", "RETURN NULL;")
      for (const others of [1, 0]) {
        const events = [event({ type: "skip.me" }), ...Array.from({ length: others }, () => event())]
        const storing = yield* Effect.fork(Effect.flatMap(Effect.all(events), enqueueAll))
        yield* eventually(Effect.zipRight(pass("1 second"), Effect.map(Fiber.poll(storing), Option.isSome)))
        expect(yield* Effect.flip(Fiber.join(storing))).toMatchObject({ _tag: "OutboxUnavailable" })
        expect(yield* count("webhook_messages")).toBe(0)
      }
    }).pipe(Effect.provide(outbox(backend))))

  it.effect("one that stores and deletes rows of its own changes nothing", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { enqueueAll } = yield* Outbox.Outbox
      yield* sql`CREATE TABLE seen (id TEXT)`
      const rows = "INSERT INTO seen VALUES (new.id), (new.id); DELETE FROM seen;"
      yield* trigger("AFTER", "order.created", rows, `${rows} RETURN NULL;`)
      const stored = yield* Effect.flatMap(Effect.all([event(), event(), event({ id: "known" })]), enqueueAll)
      expect(stored.map(({ deliveries, duplicate }) => [deliveries, duplicate])).toEqual(
        Array.from({ length: 3 }, () => [2, false])
      )
      expect(yield* Effect.flatMap(Effect.all([event(), event()]), enqueueAll)).toHaveLength(2)
      expect(yield* count("webhook_messages")).toBe(5)
    }).pipe(Effect.provide(outbox(backend))))
})
