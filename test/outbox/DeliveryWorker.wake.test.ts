/** A worker that hears no other process, and doesn't poll, is woken by what its own has committed. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Tracer from "effect/Tracer"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import { postgres } from "../support/backends.js"
import { enqueue, event, outbox } from "../support/outboxing.js"
import { quiet } from "../support/recording.js"
import { calls, eventually, fleet, pass, play, receiver, row, working } from "../support/working.js"

/** Each commit that has written to the table takes long enough for a worker to look, and to see nothing of it. */
const slowCommits = (table: string) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(
      "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END $$"
    )
    yield* sql.unsafe(
      `CREATE CONSTRAINT TRIGGER slow AFTER INSERT OR UPDATE ON ${table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()`
    )
  })

const sent = (count: number) => eventually(Effect.map(calls(), ({ length }) => length === count))

const woken = it.effect.each<
  [
    string,
    string,
    Effect.Effect<unknown, unknown, Deliveries.Deliveries | EndpointHealth.EndpointHealth | Outbox.Outbox>
  ]
>([
  ["enqueue", "webhook_messages", enqueue()],
  [
    "enqueueAll",
    "webhook_messages",
    Effect.flatMap(Outbox.Outbox, ({ enqueueAll }) => Effect.flatMap(event(), (event) => enqueueAll([event])))
  ],
  ["replay", "webhook_deliveries", Effect.flatMap(Deliveries.Deliveries, ({ replay }) => replay("dlv_1"))],
  [
    "recover",
    "webhook_deliveries",
    Effect.flatMap(Deliveries.Deliveries, ({ recover }) => recover({ endpointId: "a", since: 0 }))
  ],
  ["enable", "webhook_endpoints", Effect.flatMap(EndpointHealth.EndpointHealth, ({ enable }) => enable("a"))]
])

woken("%s wakes it after the commit", ([name, table, effect]) =>
  Effect.gen(function*() {
    const [context] = yield* fleet(1, yield* postgres.database, { worker: { schedule: [0] } })
    yield* Effect.gen(function*() {
      yield* enqueue()
      yield* sent(1)
      yield* eventually(Effect.map(row(1), ({ state }) => state === "exhausted"))
      yield* play({})
      if (name === "enable") {
        const { disable } = yield* EndpointHealth.EndpointHealth
        yield* disable("a", "for a while")
        yield* enqueue()
      }
      yield* slowCommits(table)
      yield* effect
      yield* sent(2)
      expect(yield* calls()).toHaveLength(2)
    }).pipe(Effect.provide(context!))
  }).pipe(Effect.scoped, Effect.provide(receiver({ a: [500] })), quiet))

it.effect.each([["of its own program", false], ["of another", true]] as const)(
  "a batch %s that it keeps no slots for wakes it",
  ([, isAnother]) =>
    Effect.gen(function*() {
      const database = yield* postgres.database
      const endpoints = { a: { rateLimit: 1 } }
      const [context] = yield* fleet(1, database, { endpoints, worker: { listen: isAnother } })
      // It has looked, and waits.
      yield* Effect.provide(enqueue(), context!)
      yield* sent(1)
      yield* eventually(Effect.map(Effect.provide(row(1), context!), ({ state }) => state === "delivered"))
      yield* pass("1 minute")
      yield* Effect.flatMap(
        Outbox.Outbox,
        ({ enqueueAll }) => Effect.flatMap(event(), (event) => enqueueAll([event]))
      ).pipe(isAnother ? Effect.provide(outbox({ layer: database.client }, endpoints)) : Effect.provide(context!))
      yield* sent(2)
      expect(yield* calls()).toHaveLength(2)
    }).pipe(Effect.scoped, Effect.provide(receiver({})), quiet)
)

it.effect("what another's transaction held while the rest was claimed is looked for again", () =>
  Effect.gen(function*() {
    const [context] = yield* fleet(1, yield* postgres.database, {})
    yield* Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { disable, enable } = yield* EndpointHealth.EndpointHealth
      yield* disable("a", "for a while")
      yield* Effect.replicateEffect(enqueue(), 2)
      const locked = yield* Deferred.make<void>()
      const held = yield* Deferred.make<never, string>()
      const holder = yield* Effect.fork(sql.withTransaction(Effect.zipRight(
        sql`SELECT id FROM webhook_deliveries WHERE id = 1 FOR UPDATE`,
        Effect.zipRight(Deferred.succeed(locked, undefined), Deferred.await(held))
      )))
      yield* Deferred.await(locked)
      yield* enable("a")
      yield* sent(1)
      yield* eventually(Effect.map(row(2), ({ state }) => state === "delivered"))
      yield* Deferred.fail(held, "rolled back")
      yield* Fiber.await(holder)
      yield* pass("1 second")
      yield* sent(2)
      expect(yield* calls()).toHaveLength(2)
    }).pipe(Effect.provide(context!))
  }).pipe(Effect.scoped, Effect.provide(receiver({})), quiet))

it.effect("who is interrupted as its commit comes through has woken it all the same", () =>
  Effect.gen(function*() {
    const { enqueueAll } = yield* Outbox.Outbox
    const one = yield* event()
    let isArmed = true
    const storing = yield* Effect.fork(Effect.withFiberRuntime<unknown, unknown>((fiber) =>
      Effect.withTracer(
        enqueueAll([one]),
        spying((name, exit) => {
          if (!isArmed || name !== "sql.transaction" || Exit.isFailure(exit)) return
          isArmed = false
          fiber.unsafeInterruptAsFork(fiber.id())
        })
      )
    ))
    expect(Exit.isInterrupted(yield* Fiber.await(storing))).toBe(true)
    yield* eventually(Effect.map(row(1), ({ state }) => state === "delivered"))
    expect(yield* calls()).toHaveLength(1)
  }).pipe(Effect.provide(working()), quiet))

/** Tells of each span that ends. */
const spying = (ended: (name: string, exit: Exit.Exit<unknown, unknown>) => void): Tracer.Tracer =>
  Tracer.make({
    span: (name, parent, context, links, startTime, kind) => ({
      _tag: "Span",
      name,
      spanId: "b7ad6b7169203331",
      traceId: "0af7651916cd43dd8448eb211c80319c",
      parent,
      context,
      status: { _tag: "Started", startTime },
      attributes: new Map(),
      links,
      sampled: true,
      kind,
      end: (_, exit) => ended(name, exit),
      attribute: () => undefined,
      event: () => undefined,
      addLinks: () => undefined
    }),
    context: (f) => f()
  })
