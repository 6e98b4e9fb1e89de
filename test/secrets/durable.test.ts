/** The canary test of the durable path: every end of a delivery, every operation, every column of every row, and a database that refuses in words that hold secrets. */
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as DeliveryWorker from "../../src/outbox/DeliveryWorker.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import { Endpoint } from "../../src/webhooks/Endpoint.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import { type Backend, backends } from "../support/backends.js"
import { enqueue, event } from "../support/outboxing.js"
import { closedPort } from "../support/peers.js"
import { deliveries, eventually } from "../support/working.js"
import { canaries, find } from "./canaries.js"
import { client, echo, endpoint, withUserinfo } from "./sending.js"
import { seeExit, type Watch, watch } from "./watching.js"

const services = (backend: Backend, endpoints: ReadonlyArray<Endpoint>) =>
  Outbox.layer().pipe(
    Layer.provideMerge(Layer.mergeAll(Deliveries.layer, EndpointHealth.layer)),
    Layer.provideMerge(WebhookSender.layer()),
    Layer.provideMerge(client()),
    Layer.provideMerge(Endpoints.layerOf(endpoints)),
    Layer.provideMerge(Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), backend.layer)),
    Layer.orDie
  )

const worker = DeliveryWorker.make({
  poll: "20 millis",
  schedule: ["0 millis", "1 millis"],
  retention: false,
  grace: "1 second",
  breaker: { consecutiveFailures: 3, breakDuration: () => "20 millis" }
})

/** Every column of every row, bytes as text and as they are. */
const rows = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const tables = yield* sql.onDialectOrElse({
    pg: () =>
      sql<
        { readonly name: string }
      >`SELECT table_name AS name FROM information_schema.tables WHERE table_schema = current_schema()`,
    orElse: () => sql<{ readonly name: string }>`SELECT name FROM sqlite_master WHERE type = 'table'`
  })
  const all = yield* Effect.forEach(
    tables,
    ({ name }) => Effect.map(sql`SELECT * FROM ${sql(name)}`, (found) => [name, found] as const)
  )
  return all.map(([name, found]) =>
    [
      name,
      JSON.stringify(found, (_, value: unknown) =>
        value instanceof Uint8Array ? Buffer.from(value).toString("latin1") : value)
    ] as const
  )
})

/** Whether nothing is pending; not for the watch to see, as it is asked again and again. */
const ended = Effect.withTracerEnabled(false)(
  Effect.map(deliveries, (all) => all.every(({ state }) => state !== "pending"))
)

/** What all operations of an operator give, or fail with, on ids that there are and on some that there aren't. */
const operate = (to: Watch) =>
  Effect.gen(function*() {
    const api = yield* Deliveries.Deliveries
    const health = yield* EndpointHealth.EndpointHealth
    const all = yield* Effect.orElseSucceed(deliveries, () => [])
    for (const id of [...all.map(({ id }) => id), "dlv_999", canaries["whsec_ secret"]]) {
      yield* seeExit(to, `get ${id}`, api.get(id))
      yield* seeExit(to, `attempts of ${id}`, api.attempts(id))
      yield* seeExit(to, `cancel ${id}`, api.cancel(id))
    }
    for (const id of [...new Set(all.map(({ messageId }) => messageId)), "none", canaries["whsec_ secret"]]) {
      yield* seeExit(to, `message ${id}`, api.message(id))
    }
    for (const id of ["404", "none", canaries["whsec_ secret"]]) {
      yield* seeExit(to, `health of ${id}`, health.get(id))
      yield* seeExit(to, `test of ${id}`, health.test(id))
      yield* seeExit(to, `disable ${id}`, health.disable(id, "by hand"))
      yield* seeExit(to, `replay while disabled ${id}`, api.recover({ endpointId: id, since: 0 }))
      yield* seeExit(to, `enable ${id}`, health.enable(id))
    }
    yield* seeExit(to, "list", api.list({}, { cursor: canaries["query value"] }))
    yield* seeExit(to, "stats", api.stats)
    yield* seeExit(to, "health", health.list)
    yield* seeExit(to, "purge", api.purge({ delivered: "1 day", ended: "1 day" }))
  })

describe.each(backends)("no secret shows or is stored on $name when", (backend) => {
  it.scopedLive("a worker delivers, fails, retries, gives up, opens a circuit, disables, replays and recovers", () =>
    Effect.gen(function*() {
      const to = watch()
      const peer = yield* echo()
      const made = yield* Effect.forEach(
        ["200", "302", "404", "410", "503", "999", "reset", "silent", "garbage", "broken"],
        (path) => endpoint(path, `${peer.url}/${path}`)
      )
      const refused = yield* endpoint("refused", `${yield* closedPort}/x`)
      const blocked = new Endpoint({
        ...refused,
        id: "blocked",
        url: `https://10.1.2.3/?key=${canaries["query value"]}`
      })
      const all = [...made, refused, blocked, withUserinfo(made[0]!, "userinfo")]
      yield* Effect.gen(function*() {
        const health = yield* EndpointHealth.EndpointHealth
        const told = yield* Effect.fork(Stream.runCollect(Stream.interruptAfter(health.events, "900 millis")))
        yield* Effect.yieldNow()
        yield* enqueue({ id: "msg_1" }, "key-1")
        yield* enqueue({ id: "msg_2" })
        yield* Effect.scoped(Effect.zipRight(worker, eventually(ended)))
        const states = yield* deliveries
        expect([...new Set(states.map(({ lastClass, lastStatus }) => lastStatus ?? lastClass))].map(String).sort())
          .toEqual(
            ["200", "302", "404", "410", "503", "999", "blocked", "connect", "connection", "protocol", "timeout"]
          )
        yield* operate(to)
        const { replay, recover } = yield* Deliveries.Deliveries
        for (const { id } of states) yield* seeExit(to, "replay", replay(id))
        yield* seeExit(to, "recover", recover({ endpointId: "503", since: 0 }))
        yield* Effect.scoped(Effect.zipRight(worker, eventually(ended)))
        yield* seeExit(to, "conflict of ids", enqueue({ id: "msg_1", data: { other: true } }))
        yield* seeExit(to, "conflict of keys", enqueue({ data: { other: true } }, "key-1"))
        yield* seeExit(
          to,
          "key",
          Effect.flatMap(
            Outbox.Outbox,
            (outbox) =>
              Effect.flatMap(event(), (one) => outbox.enqueue(one, { idempotencyKey: `${canaries["API token"]} \n` }))
          )
        )
        yield* seeExit(to, "size", enqueue({ data: "x".repeat(300_000) }))
        yield* operate(to)
        const stored = yield* rows
        for (const [table, text] of stored) to.see(`rows of ${table}`, text)
        expect(stored.find(([table]) => table === "webhook_attempts")?.[1]).toContain("[redacted]")
        to.see("operator events", Chunk.toReadonlyArray(yield* told))
      }).pipe(Effect.provide(services(backend, all)), Effect.provide(to.layer))
      // The receiver was sent them.
      expect(find([["request", peer.received.join("\n")]])).not.toEqual([])
      expect(to.spanNames()).toEqual(
        expect.arrayContaining(["DeliveryWorker.attempt", "Outbox.enqueue", "ResilientHttpClient.attempt"])
      )
      to.expectClean()
    }))

  it.scopedLive("the database refuses, in words that hold secrets", () =>
    Effect.gen(function*() {
      const to = watch()
      const one = yield* endpoint("404", `${yield* closedPort}/x`)
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* enqueue({ id: "msg_1" })
        const words = `${canaries["database password"]} ${canaries["query value"]}`
        // The statements of this test are none of the program's.
        yield* Effect.withTracerEnabled(false)(sql.onDialectOrElse({
          pg: () =>
            sql.unsafe(
              `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '${words}'; END $$`
            ).pipe(
              Effect.zipRight(
                sql.unsafe(
                  "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON webhook_messages FOR EACH ROW EXECUTE FUNCTION refuse()"
                )
              ),
              Effect.zipRight(
                sql.unsafe(
                  "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON webhook_deliveries FOR EACH ROW EXECUTE FUNCTION refuse()"
                )
              )
            ),
          orElse: () =>
            Effect.forEach([["INSERT", "webhook_messages"], ["INSERT", "webhook_deliveries"], [
              "UPDATE",
              "webhook_deliveries"
            ]], ([what, table]) =>
              sql.unsafe(
                `CREATE TRIGGER refuse_${what}_${table} BEFORE ${what} ON ${table} BEGIN SELECT RAISE(ABORT, '${words}'); END`
              ))
        }))
        const error = yield* seeExit(to, "enqueue", enqueue({ id: "msg_2" }))
        expect(error).toMatchObject({ _tag: "OutboxUnavailable", reason: "constraint" })
        yield* Effect.scoped(Effect.zipRight(
          worker,
          eventually(Effect.sync(() => to.lines.some((line) => line.includes("webhook_worker_waiting"))))
        ))
        yield* operate(to)
        yield* Effect.forEach(["attempts", "deliveries", "messages", "endpoints"], (table) =>
          sql.unsafe(`DROP TABLE webhook_${table}${backend.name === "postgres" ? " CASCADE" : ""}`))
        expect(yield* seeExit(to, "enqueue", enqueue())).toMatchObject({
          _tag: "OutboxUnavailable",
          reason: "missing-tables"
        })
        yield* operate(to)
      }).pipe(Effect.provide(services(backend, [one])), Effect.provide(to.layer))
      to.expectClean()
    }))
})
