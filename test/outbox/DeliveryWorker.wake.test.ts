/** A worker that hears no other process, and doesn't poll, is woken by what its own has committed. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import { postgres } from "../support/backends.js"
import { enqueue, event } from "../support/outboxing.js"
import { quiet } from "../support/recording.js"
import { calls, eventually, fleet, play, receiver, row } from "../support/working.js"

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
