/** A worker that has more to do than slots: as one delivery ends, the next begins, and nobody looks. */
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as EndpointRows from "../../src/outbox/internal/endpointRows.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import { backends, postgres } from "../support/backends.js"
import { count } from "../support/outboxing.js"
import { quiet, spans } from "../support/recording.js"
import {
  calls,
  eventually,
  leave,
  type Left,
  pass,
  prepared,
  row,
  type Setup,
  start,
  states,
  times,
  wake,
  working
} from "../support/working.js"

const first = (endpoint: string, count: number): ReadonlyArray<Left> =>
  Array.from({ length: count }, () => ({ lane: "first", endpoint }))

const over = (setup: Setup, backend = postgres) =>
  Effect.provide(prepared({
    ...setup,
    database: Layer.orDie(Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), backend.layer))
  }))

const delivered = Effect.map(states, (states) => states.filter((state) => state === "delivered").length)

const all = Effect.map(states, (states) => states.every((state) => state === "delivered"))

const many = Array.from({ length: 40 }, (_, n) => `e${n}`)

const slow = Array.from({ length: 800 }, () => ({ status: 200, delay: "200 millis" }) as const)

/** Keeps all that is settled from being written; gives what ends that. */
const held = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const begun = yield* Deferred.make<void>()
  const end = yield* Deferred.make<void>()
  const holding = yield* Effect.forkScoped(sql.withTransaction(Effect.zipRight(
    sql`LOCK TABLE webhook_attempts IN SHARE MODE`,
    Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(end))
  )))
  yield* Deferred.await(begun)
  return Effect.zipRight(Deferred.succeed(end, undefined), Fiber.join(holding))
})

/** What a host's service answers, and how often it was asked. */
const directory = (ids: ReadonlyArray<string>) => {
  const make = (id: string, path = id) =>
    Effect.runSync(Endpoint.make({ id, url: `https://hooks.example.com/${path}`, events: ["*"] }))
  const known = new Map(ids.map((id) => [id, make(id)]))
  const answering = Effect.unsafeMakeLatch(true)
  return {
    make,
    known,
    answering,
    layer: Layer.succeed(Endpoints.Endpoints, {
      matching: () => Effect.succeed([...known.values()]),
      list: Effect.sync(() => [...known.values()]),
      get: (id) => Effect.zipRight(answering.await, Effect.sync(() => Option.fromNullable(known.get(id))))
    })
  }
}

describe.each(backends)("a backlog on $name", (backend) => {
  it.effect("is worked off in one transaction, or none, for each batch", () => {
    const { layer, recorded } = spans()
    return Effect.gen(function*() {
      yield* leave(first("a", 200))
      yield* start({ concurrency: 4, endpointConcurrency: 4 })
      yield* eventually(all)
      expect((yield* calls()).length).toBe(200)
      const transactions = recorded.filter(({ name }) => name === "sql.transaction").length
      // Fifty batches, and what is written once a second.
      expect(transactions).toBeLessThan(backend.name === "sqlite" ? 75 : 25)
    }).pipe(Effect.scoped, over({}, backend), Effect.provide(layer), quiet)
  })

  it.effect("leaves the endpoint's row with all that was delivered when the worker stops", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      const successes = Effect.map(
        store.sql<{ readonly circuit: string }>`SELECT circuit FROM ${store.tables.endpoints} WHERE id = 'a'`,
        ([row]) => (JSON.parse(row!.circuit) as { readonly results: { readonly a: number } }).results.a
      )
      yield* leave(first("a", 100))
      const scope = yield* Scope.make()
      yield* Scope.extend(start({ concurrency: 4, endpointConcurrency: 4 }), scope)
      yield* eventually(all)
      yield* Scope.close(scope, Exit.void)
      expect(yield* successes).toBe(100)
    }).pipe(over({}, backend), quiet))
})

it.effect("no more is under way than there are slots when nothing can be written down any more", () =>
  Effect.gen(function*() {
    yield* leave([...first("a", 300), ...first("b", 300)])
    yield* start({ concurrency: 5, endpointConcurrency: 3 })
    yield* eventually(Effect.map(delivered, (count) => count > 40))
    const end = yield* held
    // What waits for the lock is what has been delivered since.
    const unwritten = Effect.zipWith(calls(), delivered, ({ length }, written) => length - written)
    yield* eventually(Effect.map(unwritten, (count) => count === 5))
    yield* Effect.repeatN(states, 20)
    expect(yield* unwritten).toBe(5)
    yield* end
    yield* eventually(all)
    expect(yield* calls()).toHaveLength(600)
  }).pipe(Effect.scoped, over({ endpoints: { a: {}, b: {} } }), quiet))

it.effect("successes that have waited for long enough hold nobody up while results can't be written down", () =>
  Effect.gen(function*() {
    yield* start()
    for (const n of [1, 2]) {
      yield* leave(first("a", 1), `${n}_`)
      yield* Effect.zipRight(wake, eventually(Effect.map(delivered, (count) => count === n)))
    }
    const end = yield* held
    const send = (endpoint: string, prefix: string, count: number) =>
      Effect.zipRight(
        leave(first(endpoint, 1), prefix),
        Effect.zipRight(wake, eventually(Effect.map(calls(endpoint), ({ length }) => length === count)))
      )
    yield* send("a", "3_", 3)
    yield* Effect.repeatN(states, 5)
    yield* TestClock.adjust("2 seconds")
    for (const n of [1, 2, 3]) yield* Effect.zipRight(send("b", `b${n}_`, n), Effect.repeatN(states, 5))
    yield* end
    yield* eventually(all)
  }).pipe(Effect.scoped, over({ endpoints: { a: {}, b: {} } }), quiet))

it.effect("results are written down though what comes next can't be claimed", () =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* leave(first("a", 40))
    yield* sql.unsafe(
      `CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE 'not this one'; END $$ LANGUAGE plpgsql`
    )
    yield* sql.unsafe(`CREATE TRIGGER refuse BEFORE UPDATE ON webhook_deliveries FOR EACH ROW
      WHEN (NEW.lane = 'leased' AND OLD.lane = 'first' AND OLD.message_id = 'msg_20') EXECUTE FUNCTION refuse()`)
    yield* start({ concurrency: 2, endpointConcurrency: 2 })
    yield* eventually(Effect.map(calls(), ({ length }) => length >= 18))
    yield* eventually(Effect.zipWith(calls(), delivered, ({ length }, written) => length === written))
    expect((yield* states)[0]).toBe("delivered")
  }).pipe(Effect.scoped, over({}), quiet))

it.effect("what a dead worker left has its turn while another endpoint's backlog doesn't end", () =>
  Effect.gen(function*() {
    yield* leave([...first("a", 400), { lane: "leased", endpoint: "b", fence: "dead", dueAt: 3000 }])
    yield* wake
    yield* pass("20 seconds")
    const [at] = yield* times("b")
    expect(at).toBeLessThan(4000)
    expect((yield* calls("a")).length).toBeLessThan(400)
  }).pipe(
    Effect.provide(working({
      endpoints: { a: {}, b: {} },
      worker: { concurrency: 2, endpointConcurrency: 2, poll: "1 second" },
      steps: { a: slow }
    })),
    quiet
  ))

it.effect("what a host says of its endpoints counts at once, and when it says nothing, nothing is begun", () => {
  const changing = directory(["a", "b"])
  return Effect.gen(function*() {
    yield* leave([...first("a", 800), ...first("b", 800)])
    yield* wake
    yield* pass("2500 millis")
    changing.known.set("b", changing.make("b", "moved"))
    yield* pass("2500 millis")
    changing.known.delete("a")
    yield* pass("5 seconds")
    expect(Math.max(...yield* times("b"))).toBe(2400)
    expect(Math.max(...yield* times("a"))).toBe(5000)
    expect(Math.max(...yield* times("moved"))).toBe(10_000)
    yield* changing.answering.close
    yield* pass("10 seconds")
    expect(Math.max(...yield* times("moved"))).toBe(10_000)
    // What was under way then is written down.
    expect(yield* count("webhook_attempts")).toBe((yield* calls()).length)
  }).pipe(
    Effect.provide(working({
      directory: changing.layer,
      worker: { concurrency: 20, endpointConcurrency: 10 },
      steps: { a: slow, b: slow, moved: slow }
    })),
    quiet
  )
})

it.effect("a backlog of many endpoints is worked off in one transaction for each delivery, and a few that write how they are", () => {
  const { layer, recorded } = spans()
  return Effect.gen(function*() {
    const store = yield* OutboxSchema.OutboxSchema
    yield* leave(many.flatMap((id) => first(id, 12)))
    yield* wake
    yield* pass("10 seconds")
    // The last of the row is at most as long ago as successes may wait, and the next few of others take.
    const rows = yield* EndpointRows.read(store, many)
    for (const id of many) {
      const written = rows.get(id)?.lastSuccessAt ?? 0
      expect(Math.max(...(yield* times(id)).filter((at) => at <= 8000))).toBeLessThanOrEqual(written)
    }
    const sent = (yield* calls()).length
    expect(sent).toBeGreaterThan(150)
    const transactions = recorded.filter(({ name }) => name === "sql.transaction").length
    expect(transactions).toBeLessThan(sent * 1.5)
  }).pipe(
    Effect.provide(working({
      endpoints: Object.fromEntries(many.map((id) => [id, {}])),
      worker: { concurrency: 4, endpointConcurrency: 1 },
      steps: Object.fromEntries(many.map((id) => [id, slow]))
    })),
    Effect.provide(layer),
    quiet
  )
})

it.effect("an endpoint that its host paces from now on is paced from now on", () => {
  const changing = directory(["a"])
  return Effect.gen(function*() {
    yield* leave(first("a", 300))
    yield* wake
    yield* pass("2500 millis")
    changing.known.set("a", new Endpoint.Endpoint({ ...changing.make("a"), rateLimit: 1 }))
    yield* pass("5 seconds")
    const later = (yield* times("a")).filter((at) => at > 2500)
    expect(later.length).toBeGreaterThan(3)
    for (const [n, at] of later.slice(1).entries()) expect(at - later[n]!).toBeGreaterThanOrEqual(1000)
  }).pipe(
    Effect.provide(working({ directory: changing.layer, steps: { a: slow } })),
    quiet
  )
})

it.effect("what follows when the grace time of a worker that stops is over is handed back", () =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    yield* leave(first("a", 1))
    yield* Scope.extend(start({ concurrency: 2 }), scope)
    yield* eventually(all)
    yield* leave(first("a", 4), "next_")
    const end = yield* held
    yield* Effect.zipRight(wake, eventually(Effect.map(calls(), ({ length }) => length === 3)))
    // Both are on their way into the database.
    yield* Effect.repeatN(states, 20)
    const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
    yield* Effect.repeatN(states, 20)
    yield* TestClock.adjust("10 seconds")
    yield* Effect.repeatN(states, 5)
    yield* end
    yield* eventually(Effect.map(delivered, (count) => count >= 3))
    yield* Effect.repeatN(states, 5)
    yield* TestClock.adjust("3 seconds")
    yield* Fiber.join(closing)
    for (const id of [4, 5]) {
      expect(yield* row(id)).toMatchObject({ state: "pending", fence: null, attempts: 0, lapses: 0 })
    }
    expect(yield* calls()).toHaveLength(3)
  }).pipe(Effect.scoped, over({ steps: { a: [200, 200, 200, "timeout"] } }), quiet))
