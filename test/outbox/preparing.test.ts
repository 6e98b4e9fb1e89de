import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { describe, expect, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import pg from "pg"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as Preparing from "../../src/outbox/internal/preparing.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import { postgres } from "../support/backends.js"
import { count, enqueue, event, outbox } from "../support/outboxing.js"

/** An outbox over one connection, on which `names` tells of the prepared statements. */
const over = (url: string) =>
  Layer.provideMerge(
    Layer.orDie(Deliveries.layer),
    outbox({ layer: Layer.orDie(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })) })
  )

const overOne = <A, E>(use: Effect.Effect<A, E, Deliveries.Deliveries | Outbox.Outbox | SqlClient.SqlClient>) =>
  Effect.scoped(Effect.flatMap(postgres.database, ({ url }) => Effect.provide(use, over(url))))

const names = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(
    sql<{ readonly name: string }>`SELECT name FROM pg_prepared_statements WHERE name LIKE 'effect_webhooks_%'`,
    (rows) => rows.map(({ name }) => name)
  ))

it.effect("statements of the outbox are parsed once a connection", () =>
  overOne(Effect.gen(function*() {
    yield* enqueue({ id: "e1" })
    const first = yield* names
    expect(first.length).toBeGreaterThan(0)
    yield* enqueue({ id: "e2" })
    expect(yield* names).toEqual(first)
    const { enqueueAll } = yield* Outbox.Outbox
    yield* enqueueAll([yield* event()])
    const all = yield* names
    // However many there are at a time.
    yield* enqueueAll([yield* event(), yield* event()])
    yield* enqueueAll([yield* event(), yield* event(), yield* event()])
    expect(yield* names).toEqual(all)
  })))

it.effect("in a host's transaction they have no names, which could end it", () =>
  overOne(Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const before = yield* names
    yield* sql.withTransaction(Effect.zipRight(enqueue({ id: "e1" }), enqueue({ id: "e2" })))
    expect(yield* names).toEqual(before)
    expect(yield* count("webhook_messages")).toBe(2)
  })))

const disturbances: Readonly<Record<string, string>> = {
  "a pooler that forgets names": "DEALLOCATE ALL",
  "a column of another type": "ALTER TABLE webhook_deliveries ALTER COLUMN fence TYPE varchar(64)"
}

const ways = {
  enqueue: Effect.map(enqueue(), ({ duplicate }) => duplicate),
  "enqueue of what is known": Effect.map(enqueue({ id: "e1" }), ({ duplicate }) => !duplicate),
  enqueueAll: Effect.flatMap(
    Effect.all([event(), event()]),
    (events) =>
      Effect.flatMap(
        Outbox.Outbox,
        ({ enqueueAll }) =>
          Effect.map(enqueueAll(events), (stored) => stored.length !== 2 || stored.some(({ duplicate }) => duplicate))
      )
  )
}

describe.each(Object.keys(disturbances))("%s", (disturbance) => {
  it.effect.each(Object.keys(ways) as Array<keyof typeof ways>)(
    "costs %s nothing",
    (way) =>
      overOne(Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* enqueue({ id: "e1" })
        for (const each of Object.values(ways)) yield* each
        yield* sql.unsafe(disturbances[disturbance]!)
        expect(yield* ways[way]).toBe(false)
        expect(yield* ways[way]).toBe(false)
      }))
  )
})

/** A connection as node-postgres' is, whose statements take the time of `next`; `names` are those that it was given. */
const timed = () => {
  const next: { time: Duration.DurationInput } = { time: 0 }
  const names: Array<string> = []
  class Timed {
    readonly pg = { connection: { parsedStatements: {} } }
    execute({ name }: { readonly name: string }) {
      names.push(name)
      return Effect.as(TestClock.adjust(next.time), [])
    }
  }
  return { next, names, connection: Preparing.own(new Timed() as unknown as Connection) }
}

it.effect("a plan that has become slow is made anew, and each time the wait for that is twice as long", () =>
  Effect.gen(function*() {
    const { connection, names, next } = timed()
    const run = Preparing.make()
    const renewed = (text: string, took: Duration.DurationInput) =>
      Effect.gen(function*() {
        next.time = took
        yield* run(connection, text, [])
        next.time = 0
        yield* run(connection, text, [])
        const [before, after] = names.slice(-2)
        return before !== after
      })
    expect(yield* renewed("SELECT 1", "19 millis")).toBe(false)
    expect(yield* renewed("SELECT 1", "20 millis")).toBe(true)
    // Each text by itself.
    expect(yield* renewed("SELECT 2", "20 millis")).toBe(true)
    const first = names[0]
    for (const seconds of [1, 2, 4, 8]) {
      yield* TestClock.adjust(seconds * 1000 - 60)
      expect(yield* renewed("SELECT 1", "20 millis"), `${seconds} s, early`).toBe(false)
      yield* TestClock.adjust(30)
      expect(yield* renewed("SELECT 1", "20 millis"), `${seconds} s`).toBe(true)
    }
    expect(names.filter((name) => name === first)).toHaveLength(3)
  }))

it.effect("a name that somebody else has given costs nobody an event", () =>
  Effect.gen(function*() {
    const { url } = yield* postgres.database
    const known = yield* Effect.provide(Effect.zipRight(enqueue({ id: "e1" }), names), over(url))
    yield* Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const own = yield* names
      for (const name of known) if (!own.includes(name)) yield* sql.unsafe(`PREPARE "${name}" AS SELECT 1`)
      expect((yield* enqueue({ id: "e2" })).duplicate).toBe(false)
      expect(yield* count("webhook_messages")).toBe(2)
    }).pipe(Effect.provide(over(url)))
  }).pipe(Effect.scoped))

it.effect("a host's pool that adds to each text costs nobody an event", () =>
  Effect.gen(function*() {
    const { url } = yield* postgres.database
    let queries = 0
    /** As a tracer does. */
    class Commenting extends pg.Client {
      override readonly query = ((query: unknown, ...rest: ReadonlyArray<unknown>): unknown => {
        const comment = ` /* ${queries++} */`
        const added = typeof query === "string"
          ? query + comment
          : isNamed(query)
          ? { ...query, text: query.text + comment }
          : query
        return Reflect.apply(pg.Client.prototype.query, this, [added, ...rest])
      }) as pg.Client["query"]
    }
    const pool = Effect.acquireRelease(
      Effect.sync(() => new pg.Pool({ connectionString: url, max: 1, Client: Commenting })),
      (pool) => Effect.promise(() => pool.end())
    )
    yield* Effect.gen(function*() {
      for (const id of ["e1", "e2", "e3"]) expect((yield* enqueue({ id })).duplicate).toBe(false)
      expect(yield* count("webhook_messages")).toBe(3)
    }).pipe(Effect.provide(outbox({ layer: Layer.orDie(PgClient.layerFromPool({ acquire: pool })) })))
  }).pipe(Effect.scoped))

it.effect("a connection that a host has put its own around gets texts", () =>
  Effect.gen(function*() {
    const { client } = yield* postgres.database
    const texts: Array<unknown> = []
    const watched = (sql: SqlClient.SqlClient): SqlClient.SqlClient =>
      new Proxy(sql, {
        get: (target, name) =>
          name === "withoutTransforms"
            ? () => watched(target.withoutTransforms())
            : name === "reserve"
            ? Effect.map(target.reserve, (connection) =>
              Object.assign(Object.create(connection) as Connection, {
                execute: (...[text, ...rest]: Parameters<Connection["execute"]>) => {
                  texts.push(text)
                  return connection.execute(text, ...rest)
                }
              }))
            : Reflect.get(target, name) as unknown
      })
    yield* enqueue().pipe(Effect.provide(outbox({
      layer: Layer.provide(Layer.effect(SqlClient.SqlClient, Effect.map(SqlClient.SqlClient, watched)), client)
    })))
    expect(texts.length).toBeGreaterThan(0)
    expect(texts.filter((text) => typeof text !== "string")).toEqual([])
  }).pipe(Effect.scoped))

const isNamed = (query: unknown): query is { readonly text: string } =>
  typeof query === "object" && query !== null && "name" in query && "text" in query
