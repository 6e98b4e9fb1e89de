/** What a worker that has nothing else to do takes from its own program is stored as claimed. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import { expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import { type Proxy, startProxy } from "../faults/proxy.js"
import { postgres } from "../support/backends.js"
import { enqueue, event } from "../support/outboxing.js"
import { quiet } from "../support/recording.js"
import { calls, eventually, pass, prepared, rest, row, start, states, working } from "../support/working.js"

/** In which lane each delivery was stored. */
const lanes = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* pass(0)
  yield* sql`CREATE TABLE born (lane TEXT)`
  yield* sql.unsafe(
    "CREATE TRIGGER bears AFTER INSERT ON webhook_deliveries BEGIN INSERT INTO born VALUES (new.lane); END"
  )
  return Effect.map(sql<{ readonly lane: string }>`SELECT lane FROM born`, (rows) => rows.map(({ lane }) => lane))
})

const some = (count: number) =>
  Effect.flatMap(
    Effect.all(Array.from({ length: count }, () => event())),
    (events) => Effect.flatMap(Outbox.Outbox, ({ enqueueAll }) => enqueueAll(events))
  )

it.effect("an event for an idle worker is stored as claimed, sent and settled", () =>
  Effect.gen(function*() {
    const born = yield* lanes
    yield* enqueue()
    yield* pass(0)
    expect(yield* born).toEqual(["leased"])
    expect(yield* states).toEqual(["delivered"])
    expect(yield* row(1)).toMatchObject({ attempts: 1, lapses: 0, fence: null })
    expect(yield* calls()).toHaveLength(1)
  }).pipe(Effect.provide(working()), quiet))

it.effect("no more than an endpoint has slots; the others are found", () =>
  Effect.gen(function*() {
    const born = yield* lanes
    yield* some(12)
    yield* pass(0)
    expect((yield* born).filter((lane) => lane === "leased")).toHaveLength(10)
    yield* pass("1 second")
    expect(yield* calls()).toHaveLength(12)
    expect(new Set(yield* states)).toEqual(new Set(["delivered"]))
  }).pipe(Effect.provide(working()), quiet))

it.effect("slots that a failed transaction didn't use are given back", () =>
  Effect.gen(function*() {
    const born = yield* lanes
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(
      "CREATE TRIGGER refuses BEFORE INSERT ON webhook_deliveries BEGIN SELECT RAISE(ABORT, 'planted'); END"
    )
    for (let n = 0; n < 3; n++) expect((yield* Effect.either(some(10)))._tag).toBe("Left")
    yield* sql.unsafe("DROP TRIGGER refuses")
    yield* pass(0)
    yield* enqueue()
    yield* pass(0)
    expect(yield* born).toEqual(["leased"])
    expect(yield* states).toEqual(["delivered"])
  }).pipe(Effect.provide(working()), quiet))

it.effect("an event that is handed in twice takes one slot", () =>
  Effect.gen(function*() {
    const born = yield* lanes
    const one = yield* event({ id: "msg_same" })
    yield* Effect.flatMap(Outbox.Outbox, ({ enqueueAll }) => enqueueAll(Array.from({ length: 12 }, () => one)))
    yield* pass(0)
    yield* some(10)
    yield* pass(0)
    expect(yield* born).toEqual(Array.from({ length: 11 }, () => "leased"))
  }).pipe(Effect.provide(working()), quiet))

const open = `{"_tag":"Open","generation":3,"until":9000000000000,"failedProbes":0}`

it.effect.each<[string, Effect.Effect<unknown, unknown, EndpointHealth.EndpointHealth | SqlClient.SqlClient>]>([
  [
    "whose circuit is open",
    Effect.flatMap(
      SqlClient.SqlClient,
      (sql) =>
        sql`INSERT INTO webhook_endpoints (id, circuit, consecutive_failures, updated_at) VALUES ('a', ${open}, 0, 0)`
    )
  ],
  [
    "that is paused",
    Effect.flatMap(
      SqlClient.SqlClient,
      (sql) =>
        sql`INSERT INTO webhook_endpoints (id, paused_until, consecutive_failures, updated_at) VALUES ('a', 9000000000000, 0, 0)`
    )
  ],
  [
    "that is disabled",
    Effect.flatMap(EndpointHealth.EndpointHealth, ({ disable }) => disable("a", "for a test"))
  ]
])("an endpoint %s gets nothing this way", ([, hinder]) =>
  Effect.gen(function*() {
    const born = yield* lanes
    yield* hinder
    yield* pass(0)
    yield* enqueue()
    yield* pass("1 second")
    expect(yield* born).toEqual(["first"])
    expect(yield* calls()).toEqual([])
  }).pipe(Effect.provide(working()), quiet))

it.effect.each([["paced", { rateLimit: 5 }], ["ordered", { ordered: true }]] as const)(
  "nor does one that is %s",
  ([, settings]) =>
    Effect.gen(function*() {
      const born = yield* lanes
      yield* enqueue()
      yield* pass("1 second")
      expect(yield* born).toEqual(["first"])
      expect(yield* states).toEqual(["delivered"])
    }).pipe(Effect.provide(working({ endpoints: { a: settings } })), quiet)
)

it.effect("nothing is stored so where the first attempt is put off", () =>
  Effect.gen(function*() {
    const born = yield* lanes
    yield* enqueue()
    yield* pass("6 seconds")
    expect(yield* born).toEqual(["first"])
    expect(yield* states).toEqual(["delivered"])
  }).pipe(Effect.provide(working({ worker: { schedule: ["5 seconds"] } })), quiet))

it.effect("a worker that stops waits for what is being stored for it, and sends that", () =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const scope = yield* Scope.make()
    yield* Scope.extend(start(), scope)
    yield* pass(0)
    const gate = yield* Deferred.make<void>()
    // SQLite has one connection, and a transaction of the host's has it.
    const holding = yield* Effect.fork(sql.withTransaction(Deferred.await(gate)))
    yield* rest
    const enqueueing = yield* Effect.fork(enqueue())
    yield* rest
    const stopping = yield* Effect.fork(Scope.close(scope, Exit.void))
    yield* rest
    expect(yield* Fiber.poll(stopping)).toEqual(Option.none())
    yield* Deferred.succeed(gate, undefined)
    yield* Fiber.join(holding)
    yield* Fiber.join(enqueueing)
    yield* Fiber.join(stopping)
    expect(yield* states).toEqual(["delivered"])
  }).pipe(Effect.provide(prepared()), quiet))

/** Over PostgreSQL, with a worker that is idle: what is stored now is stored as claimed. */
const idle = <E>(
  test: (
    proxy: Proxy,
    laneOf: (id: string) => Effect.Effect<unknown, SqlError, SqlClient.SqlClient>
  ) => Effect.Effect<void, E, Layer.Layer.Success<ReturnType<typeof working>>>
) =>
  Effect.gen(function*() {
    const proxy = yield* Effect.acquireRelease(
      Effect.flatMap(postgres.database, ({ url }) => Effect.promise(() => startProxy(url))),
      ({ close }) => Effect.promise(close)
    )
    const database = Layer.orDie(
      Layer.provideMerge(
        OutboxSchema.layerMigrated({ clock: "process" }),
        PgClient.layer({ url: Redacted.make(proxy.url) })
      )
    )
    yield* Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE born (message TEXT, lane TEXT)`
      yield* sql.unsafe(`CREATE FUNCTION bears() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO born VALUES (new.message_id, new.lane); RETURN NULL; END'`)
      yield* sql`CREATE TRIGGER bears AFTER INSERT ON webhook_deliveries FOR EACH ROW EXECUTE FUNCTION bears()`
      const laneOf = (id: string) =>
        Effect.map(sql`SELECT lane FROM born WHERE message = ${id}`, ([row]) => row?.["lane"])
      // Until a look is over that has left nothing, the worker takes nothing so.
      const isIdle = Effect.gen(function*() {
        yield* pass("1 second")
        yield* eventually(areDelivered)
        yield* Effect.repeatN(areDelivered, 5)
        const { messageId } = yield* enqueue()
        return (yield* laneOf(messageId)) === "leased"
      })
      yield* eventually(isIdle)
      yield* eventually(areDelivered)
      yield* test(proxy, laneOf)
    }).pipe(Effect.provide(working({ database })), quiet)
  }).pipe(Effect.scoped)

const areDelivered = Effect.map(states, (all) => all.every((state) => state === "delivered"))

const all = (input: Parameters<typeof event>[0]) =>
  Effect.flatMap(
    event(input),
    (event) =>
      Effect.flatMap(Outbox.Outbox, ({ enqueueAll }) => Effect.map(enqueueAll([event]), ([enqueued]) => enqueued!))
  )

it.effect.each<[string, Effect.Effect<Outbox.Enqueued, unknown, Outbox.Outbox>]>([
  ["one", enqueue({ id: "msg_lost" })],
  ["all of a batch", all({ id: "msg_lost" })],
  ["all of a batch that nobody can hand in again", all({})]
])(
  "what was stored as claimed, by an answer that got lost, is told as new and doesn't wait for its lease: %s",
  ([, store]) =>
    idle((proxy, laneOf) =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const before = proxy.commits()
        proxy.decide((commit) => commit === before + 1 ? "lose the answer" : "pass")
        const storing = yield* Effect.fork(store)
        yield* eventually(Effect.zipRight(pass("100 millis"), Effect.map(Fiber.poll(storing), Option.isSome)))
        const { messageId, ...told } = yield* Fiber.join(storing)
        expect(told).toEqual({ duplicate: false, deliveries: 1 })
        expect(proxy.lost["lose the answer"]).toBe(1)
        expect(yield* laneOf(messageId)).toBe("leased")
        yield* eventually(areDelivered)
        expect((yield* calls()).filter(({ id }) => id === messageId)).toHaveLength(1)
        expect(yield* sql`SELECT DISTINCT lapses FROM webhook_deliveries`).toEqual([{ lapses: 0 }])
      })
    )
)

it.effect("an endpoint that is disabled while its event waits for somebody to be stored is not sent to", () =>
  idle((_, laneOf) =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const health = yield* EndpointHealth.EndpointHealth
      const held = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      const holding = yield* Effect.fork(Effect.ignore(sql.withTransaction(
        Effect.flatMap(
          sql`INSERT INTO webhook_messages (id, digest, event_type, occurred_at, correlation_id, deliveries, created_at)
            VALUES ('msg_waits', 'x', 't', '2026-01-01T00:00:00Z', 'c', 1, 0)`,
          () =>
            Deferred.succeed(held, undefined).pipe(
              Effect.zipRight(Deferred.await(gate)),
              Effect.zipRight(Effect.fail("rolled back"))
            )
        )
      )))
      yield* Deferred.await(held)
      const storing = yield* Effect.fork(enqueue({ id: "msg_waits" }))
      yield* eventually(Effect.map(
        sql`SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        (rows) => rows.length > 0
      ))
      yield* health.disable("a", "for a test")
      yield* pass("2 seconds")
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(holding)
      yield* Fiber.join(storing)
      expect(yield* laneOf("msg_waits")).toBe("leased")
      yield* pass("2 minutes")
      expect(yield* sql`SELECT state, lane, attempts FROM webhook_deliveries WHERE message_id = 'msg_waits'`)
        .toEqual([{ state: "pending", lane: "first", attempts: 0 }])
      expect((yield* calls()).filter(({ id }) => id === "msg_waits")).toEqual([])
    })
  ))
