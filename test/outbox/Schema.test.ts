import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Outbox from "../../src/outbox/Outbox.js"
import { OutboxUnavailable } from "../../src/outbox/OutboxError.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import { type Backend, backends, type Database } from "../support/backends.js"
import { count, dump, endpoints, enqueue, outbox } from "../support/outboxing.js"

const setVersion = (version: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`UPDATE webhook_meta SET value = ${version} WHERE key = 'version'`)

const tables = ({ name }: Backend) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(
      name === "sqlite"
        ? sql`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name`
        : sql`SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename`,
      (rows) => rows.map((row) => row["name"])
    ))

const names = (prefix: string) =>
  ["attempts", "deliveries", "endpoints", "messages", "meta"].map((table) => `${prefix}${table}`)

/** The outbox on a connection of its own to a database that is migrated already. */
const connected = ({ client }: Database) =>
  Outbox.layer().pipe(
    Layer.provideMerge(Layer.merge(Layer.provideMerge(OutboxSchema.layer(), client), endpoints({ a: {} }))),
    Layer.orDie
  )

describe.each(backends)("OutboxSchema on $name", (backend) => {
  const { layer, name } = backend
  const { version } = OutboxSchema

  it.effect("migrates an empty database, once", () =>
    Effect.gen(function*() {
      expect(yield* OutboxSchema.migrate()).toEqual({ from: 0, to: version })
      expect(yield* tables(backend)).toEqual(names("webhook_"))
      expect(yield* OutboxSchema.migrate()).toEqual({ from: version, to: version })
    }).pipe(Effect.provide(layer)))

  it.live("lets a second migrator wait for the first, and find nothing to do", () =>
    Effect.gen(function*() {
      const { client } = yield* backend.database
      const migrated = yield* Deferred.make<void>()
      const commit = yield* Deferred.make<void>()
      const migrate = OutboxSchema.migrate().pipe(Effect.provide(client))
      const first = yield* Effect.fork(
        Effect.flatMap(SqlClient.SqlClient, (sql) =>
          sql.withTransaction(
            OutboxSchema.migrate().pipe(
              Effect.tap(() => Deferred.succeed(migrated, undefined)),
              Effect.zipLeft(Deferred.await(commit))
            )
          )).pipe(Effect.provide(client))
      )
      yield* Deferred.await(migrated)
      const second = yield* Effect.fork(migrate)
      const third = yield* Effect.fork(migrate)
      // Time to look, to see no tables yet, and to wait. Were it to block the process meanwhile, the first could never commit.
      yield* Effect.sleep("100 millis")
      expect([yield* Fiber.poll(second), yield* Fiber.poll(third)].map(({ _tag }) => _tag)).toEqual(["None", "None"])
      yield* Deferred.succeed(commit, undefined)
      expect(yield* Fiber.join(first)).toEqual({ from: 0, to: version })
      expect(yield* Fiber.join(second)).toEqual({ from: version, to: version })
      expect(yield* Fiber.join(third)).toEqual({ from: version, to: version })
      expect(yield* Effect.provide(tables(backend), client)).toEqual(names("webhook_"))
    }).pipe(Effect.scoped))

  it.live("migrates once when several start together", () =>
    Effect.gen(function*() {
      const { client } = yield* backend.database
      const results = yield* Effect.all(
        Array.from({ length: 6 }, () => Effect.provide(OutboxSchema.migrate(), client)),
        { concurrency: "unbounded" }
      )
      expect(results.map(({ from }) => from).sort()).toEqual([0, ...Array.from({ length: 5 }, () => version)])
    }).pipe(Effect.scoped))

  it.effect("says what is missing, and makes nothing unasked", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Layer.build(OutboxSchema.layer()))
      expect(error).toMatchObject({ _tag: "SchemaMissing", prefix: "webhook_" })
      expect(error.message).toContain("effect-webhooks migrate")
      expect(yield* tables(backend)).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(layer)))

  it.effect("leaves the tables of a later version alone", () =>
    Effect.gen(function*() {
      yield* OutboxSchema.migrate()
      yield* setVersion(String(version + 1))
      const expected = { _tag: "SchemaTooNew", found: version + 1, known: version }
      expect(yield* Effect.flip(Layer.build(OutboxSchema.layer()))).toMatchObject(expected)
      expect(yield* Effect.flip(Layer.build(OutboxSchema.layerMigrated()))).toMatchObject(expected)
      expect(yield* Effect.flip(OutboxSchema.migrate())).toMatchObject(expected)
      const sql = yield* SqlClient.SqlClient
      expect(yield* sql`SELECT value FROM webhook_meta WHERE key = 'version'`).toEqual([{ value: String(version + 1) }])
    }).pipe(Effect.scoped, Effect.provide(layer)))

  it.effect("keeps several outboxes in one database, by their prefix", () =>
    Effect.gen(function*() {
      const outboxOf = (prefix: string) =>
        enqueue().pipe(
          Effect.provide(Outbox.layer()),
          Effect.provide(OutboxSchema.layerMigrated({ prefix })),
          Effect.provide(endpoints({ a: {}, b: {} }))
        )
      yield* outboxOf("hooks_")
      yield* outboxOf("other_")
      yield* outboxOf("other_")
      expect(yield* tables(backend)).toEqual([...names("hooks_"), ...names("other_")])
      expect([yield* count("hooks_messages"), yield* count("other_messages")]).toEqual([1, 2])
      expect([yield* count("hooks_deliveries"), yield* count("other_deliveries")]).toEqual([2, 4])
    }).pipe(Effect.provide(layer)))

  it.effect("takes no prefix that is not a name", () =>
    Effect.gen(function*() {
      for (const prefix of ["", "a b", "x; DROP TABLE y", "Upper_", "9_", "a".repeat(33), "\"q\""]) {
        expect(Exit.isFailure(yield* Effect.exit(OutboxSchema.migrate({ prefix })))).toBe(true)
      }
      expect(yield* tables(backend)).toEqual([])
    }).pipe(Effect.provide(layer)))

  it.effect("works through a client that renames columns", () =>
    Effect.gen(function*() {
      const first = yield* enqueue({ id: "m1" })
      expect(yield* enqueue({ id: "m1" })).toEqual({ ...first, duplicate: true })
    }).pipe(Effect.provide(outbox({ layer: backend.renaming }))))

  it.effect("tells apart why the database refuses, in its own words", () =>
    Effect.gen(function*() {
      const database = yield* backend.database
      yield* Effect.provide(OutboxSchema.migrate(), database.client)

      const refused = (statement: string) =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* sql.unsafe(statement)
          const error = yield* Effect.flip(enqueue({ data: "a value" }))
          expect(error).toBeInstanceOf(OutboxUnavailable)
          expect(`${error.message} ${JSON.stringify(error)}`).not.toMatch(/a value|webhook_messages|INSERT|relation/)
          return error instanceof OutboxUnavailable ? error.reason : "not at all"
        }).pipe(Effect.provide(connected(database)))

      const readOnly = name === "sqlite"
        ? "PRAGMA query_only = ON"
        : "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
      expect(yield* refused(readOnly)).toBe("read-only")
      expect(yield* refused("DROP TABLE webhook_messages")).toBe("missing-tables")
    }).pipe(Effect.scoped))
})

describe("OutboxSchema on a full disk", () => {
  const sqlite = backends.find(({ name }) => name === "sqlite")!

  it.effect("says so, stores nothing by halves, and goes on when there is room again", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* enqueue()
      const [pages] = yield* sql<{ readonly page_count: number }>`PRAGMA page_count`
      yield* sql.unsafe(`PRAGMA max_page_count = ${pages!.page_count}`)
      const error = yield* Effect.flip(enqueue({ data: "x".repeat(100_000) }))
      expect(error).toMatchObject({ _tag: "OutboxUnavailable", reason: "disk-full" })
      expect([yield* count("webhook_messages"), yield* count("webhook_deliveries")]).toEqual([1, 2])
      yield* sql.unsafe("PRAGMA max_page_count = 1000000")
      yield* enqueue({ data: "x".repeat(100_000) })
      expect(yield* sql`PRAGMA integrity_check`).toEqual([{ integrity_check: "ok" }])
      expect(yield* count("webhook_messages")).toBe(2)
    }).pipe(Effect.provide(outbox(sqlite))))
})

describe("OutboxSchema.layerTest", () => {
  it.effect("is a migrated database of its own each time", () =>
    Effect.gen(function*() {
      const rows = enqueue().pipe(
        Effect.zipRight(dump),
        Effect.provide(Outbox.layer()),
        Effect.provide(Layer.merge(OutboxSchema.layerTest, endpoints({ a: {} })))
      )
      for (const text of [yield* rows, yield* rows]) expect(text.match(/"order_key"/g)).toHaveLength(1)
    }))
})
