/**
 * The tables of the outbox in the host's own database (SQLite or PostgreSQL, whichever its `SqlClient` speaks to), and the service that everything else
 * here stands on. Rows hold ids, bytes and times: URLs, headers and secrets come from the configuration when a message is sent.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { metaTable, migrations } from "./internal/migrations.js"
import * as Store from "./internal/store.js"
import { type OutboxUnavailable, SchemaMissing, SchemaTooNew, SchemaTooOld } from "./OutboxError.js"

export { OutboxUnavailable, SchemaMissing, SchemaTooNew, SchemaTooOld } from "./OutboxError.js"

/** The outbox's tables, checked. What it can do is for the modules of the outbox. */
export class OutboxSchema extends Context.Tag("effect-webhooks/OutboxSchema")<OutboxSchema, Store.Store>() {}

/** Which tables, and whose clock. */
export interface Options {
  /** What the names of the tables begin with: lower-case letters, digits and `_`, at most 32; default `webhook_`. */
  readonly prefix?: string | undefined
  /**
   * Whose clock says when a lease has lapsed and a delivery is due: PostgreSQL's (`database`, the default: one clock for a fleet), or that of each
   * process, which must then agree (and which `TestClock` moves). With SQLite it is always the process's.
   */
  readonly clock?: "database" | "process" | undefined
}

/** The tables as they are: fails if they are missing, older or newer than this version of the library. */
export const layer = (
  options: Options = {}
): Layer.Layer<OutboxSchema, OutboxUnavailable | SchemaMissing | SchemaTooNew | SchemaTooOld, SqlClient.SqlClient> =>
  Layer.effect(OutboxSchema, Effect.tap(make(options), check))

/** The tables, made or brought up to date first. Processes that start together wait for each other: one migrates. */
export const layerMigrated = (
  options: Options = {}
): Layer.Layer<OutboxSchema, OutboxUnavailable | SchemaTooNew, SqlClient.SqlClient> =>
  Layer.effect(OutboxSchema, Effect.tap(make(options), migrateStore))

/** Makes the tables or brings them up to date; tells the version that was found (0: none) and the one that there is now. */
export const migrate = (
  options: Options = {}
): Effect.Effect<Migrated, OutboxUnavailable | SchemaTooNew, SqlClient.SqlClient> =>
  Effect.flatMap(make(options), migrateStore)

/** What `migrate` did. */
export interface Migrated {
  readonly from: number
  readonly to: number
}

/** Migrated tables in an SQLite in memory: for tests, of the library and of its users. Needs `@effect/sql-sqlite-node`. */
export const layerTest: Layer.Layer<OutboxSchema | SqlClient.SqlClient> = Layer.unwrapEffect(
  Effect.map(
    // An optional peer: who keeps the outbox in PostgreSQL need not have it.
    Effect.promise(() => import("@effect/sql-sqlite-node/SqliteClient")),
    (SqliteClient) => Layer.orDie(Layer.provideMerge(layerMigrated(), SqliteClient.layer({ filename: ":memory:" })))
  )
)

/** The version of the tables that this version of the library works with. */
export const version = migrations("sqlite", "").length

// --- internal

const make = (
  { clock, prefix = "webhook_" }: Options
): Effect.Effect<Store.Store, OutboxUnavailable, SqlClient.SqlClient> =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    /^[a-z_][a-z0-9_]{0,31}$/.test(prefix)
      ? Store.make(sql, prefix, clock ?? "database")
      : Effect.dieMessage("OutboxSchema: prefix is lower-case letters, digits and _, at most 32 characters"))

type CheckError = OutboxUnavailable | SchemaMissing | SchemaTooNew | SchemaTooOld

const check = (store: Store.Store): Effect.Effect<void, CheckError> =>
  Effect.flatMap(current(store), (found): Effect.Effect<void, CheckError> => {
    if (found === 0) return Effect.fail(new SchemaMissing({ prefix: store.prefix }))
    if (found > version) return Effect.fail(new SchemaTooNew({ found, known: version }))
    return found < version ? Effect.fail(new SchemaTooOld({ found, known: version })) : Effect.void
  })

const current = (store: Store.Store): Effect.Effect<number, OutboxUnavailable> =>
  store.query(Effect.flatMap(exists(store), (there) => there ? found(store) : Effect.succeed(0)))

// Without a lock at first: a database that is up to date and read-only is as good as any.
const migrateStore = (store: Store.Store): Effect.Effect<Migrated, OutboxUnavailable | SchemaTooNew> =>
  Effect.flatMap(
    Effect.orElseSucceed(current(store), () => 0),
    (found): Effect.Effect<Migrated, OutboxUnavailable | SchemaTooNew> =>
      found === version ?
        Effect.succeed({ from: found, to: found }) : // An index of a large table takes its time.
        store.transaction(locked(store), { limit: "24 hours" })
  )

const locked = (store: Store.Store): Effect.Effect<Migrated, SchemaTooNew | SqlError> =>
  Effect.gen(function*() {
    const { dialect, prefix, execute, sql } = store
    // SQLite's transaction is the lock; PostgreSQL's is named after the tables, and ends with the transaction.
    if (dialect === "pg") {
      yield* execute`SELECT pg_advisory_xact_lock(hashtextextended(${`effect-webhooks ${prefix}`}, 0))`
    }
    yield* sql.unsafe(metaTable(prefix)).unprepared
    const from = yield* found(store)
    if (from > version) return yield* new SchemaTooNew({ found: from, known: version })
    for (const statements of migrations(dialect, prefix).slice(from)) {
      for (const statement of statements) yield* sql.unsafe(statement).unprepared
    }
    yield* execute`INSERT INTO ${store.tables.meta} (key, value) VALUES ('version', ${String(version)})
      ON CONFLICT (key) DO UPDATE SET value = excluded.value`
    return { from, to: version }
  })

/** The version of the tables; 0 without any. */
const found = ({ execute, tables }: Store.Store): Effect.Effect<number, SqlError> =>
  Effect.map(
    execute<{ readonly value: string }>`SELECT value FROM ${tables.meta} WHERE key = 'version'`,
    ([row]) => Number(row?.value ?? 0)
  )

const exists = ({ dialect, prefix, execute }: Store.Store): Effect.Effect<boolean, SqlError> =>
  Effect.map(
    dialect === "pg"
      ? execute`SELECT 1 WHERE to_regclass(${`${prefix}meta`}) IS NOT NULL`
      : execute`SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ${`${prefix}meta`}`,
    (rows) => rows.length > 0
  )
