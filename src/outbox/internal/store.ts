/**
 * The outbox's hold on the host's database: statements and transactions with typed failures, one clock, one signal for workers.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import { monotonicNow } from "../../http/internal/monotonic.js"
import { alphanumeric } from "../../SecureRandom.js"
import type { OutboxUnavailable } from "../OutboxError.js"
import * as Preparing from "./preparing.js"
import * as Transacting from "./transacting.js"

/** Names of the tables, to be put into statements. */
export interface Tables {
  readonly messages: Fragment
  readonly deliveries: Fragment
  readonly attempts: Fragment
  readonly endpoints: Fragment
  readonly meta: Fragment
}

export interface Store extends Transacting.Transacting {
  /** The host's client, without its renaming of columns: for parts of statements. */
  readonly sql: SqlClient.SqlClient
  /** Runs a statement. */
  readonly execute: Transacting.Execute
  /** The same for one that has but a few texts, and whose plan may be kept: see `Preparing`. */
  readonly executePrepared: Transacting.Execute
  readonly dialect: Transacting.Dialect
  readonly prefix: string
  readonly tables: Tables
  /**
   * Milliseconds since the epoch, whole: the clock that rules leases and due times. It is read from the wall (the database's or the process's)
   * once, and goes on by the monotonic clock, so that a jump of the wall clock is nothing to a running worker.
   */
  readonly now: Effect.Effect<number>
  /** Follows the drift of the database's clock, by at most 50 ms a call. Nothing where the process's clock rules. */
  readonly resync: Effect.Effect<void, OutboxUnavailable>
  /** Whether the caller has a transaction open. */
  readonly inTransaction: Effect.Effect<boolean>
  /**
   * Says that something is due: to all that listen (PostgreSQL) when the transaction commits, and to workers of this process at once, unless the transaction is one
   * of ours: those would see nothing of it yet, so whoever has called `transaction` calls `signal` when it has committed.
   */
  readonly wake: Effect.Effect<void, SqlError>
  /** Waits for a `wake` in this process that comes after this effect was made. */
  readonly awaitWake: () => Effect.Effect<void>
  /** Wakes workers of this process only. */
  readonly signal: Effect.Effect<void>
  /** A table `v` of the given rows to select or update from; what they don't have is `NULL`. The statement's text stays the same, however many there are. */
  readonly rows: (items: ReadonlyArray<object>, columns: Readonly<Record<string, ColumnType>>) => Fragment
  /** PostgreSQL's channel for `wake`. */
  readonly channel: string
  /** What a notification says whose workers in this process are told by `signal`. */
  readonly own: string
}

export type ColumnType = "bigint" | "double precision" | "integer" | "text"

export const make = (
  client: SqlClient.SqlClient,
  prefix: string,
  clock: "database" | "process"
): Effect.Effect<Store, OutboxUnavailable> =>
  Effect.gen(function*() {
    const sql = client.withoutTransforms()
    const dialect: Transacting.Dialect = sql.onDialectOrElse({
      sqlite: () => "sqlite" as const,
      pg: () => "pg" as const,
      orElse: () => {
        throw new Error(
          "effect-webhooks keeps its outbox in SQLite or PostgreSQL: this SqlClient is for another database"
        )
      }
    })
    const execute = Transacting.executing(sql)
    const table = (name: string) => sql.literal(`${prefix}${name}`)
    const time = yield* makeTime(sql, dialect === "pg" && clock === "database")
    const channel = `${prefix}due`
    const own = yield* alphanumeric(16)
    const transacting = yield* Transacting.make(sql, dialect)

    let next = Deferred.unsafeMake<void>(FiberId.none)
    const signal = Effect.suspend(() => {
      const current = next
      next = Deferred.unsafeMake<void>(FiberId.none)
      return Effect.asVoid(Deferred.succeed(current, undefined))
    })

    return {
      sql,
      execute,
      executePrepared: Transacting.executing(sql, Preparing.make()),
      dialect,
      prefix,
      channel,
      tables: {
        messages: table("messages"),
        deliveries: table("deliveries"),
        attempts: table("attempts"),
        endpoints: table("endpoints"),
        meta: table("meta")
      },
      ...time,
      ...transacting,
      inTransaction: Transacting.inTransaction,
      signal,
      awaitWake: () => Deferred.await(next),
      own,
      wake: Effect.flatMap(Transacting.inOwnTransaction, (isOwn) =>
        Effect.zipRight(
          dialect === "pg" ? Effect.asVoid(execute`SELECT pg_notify(${channel}, ${isOwn ? own : ""})`) : Effect.void,
          isOwn ? Effect.void : signal
        )),
      rows: (items, columns) => rowsOf(sql, dialect, items, columns)
    }
  })

/**
 * What a work in many transactions does between two of them. SQLite's lock goes to whoever asks at the right moment, and a process that has just let go of it
 * would always be the first: so it stays away for as long as it has held it. (A recovery of 15 000 deliveries kept the worker out for 4 s.)
 */
export const giveWay = (store: Pick<Store, "dialect">, held: Duration.Duration): Effect.Effect<void> =>
  Effect.zipRight(Effect.yieldNow(), store.dialect === "sqlite" ? Effect.sleep(held) : Effect.void)

// --- internal

const makeTime = (
  sql: SqlClient.SqlClient,
  ofDatabase: boolean
): Effect.Effect<Pick<Store, "now" | "resync">, OutboxUnavailable> =>
  Effect.gen(function*() {
    // Wall time minus monotonic time, in milliseconds.
    const measure = ofDatabase
      ? Effect.flatMap(monotonicNow, (before) =>
        Effect.zipWith(
          Transacting.mapErrors(
            sql<{ readonly now: number }>`SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now`
          ),
          monotonicNow,
          ([row], after) => (row?.now ?? 0) - (before + after) / 2
        ))
      : Effect.zipWith(Clock.currentTimeMillis, monotonicNow, (wall, monotonic) => wall - monotonic)
    let offset = yield* measure
    return {
      now: Effect.map(monotonicNow, (monotonic) => Math.floor(monotonic + offset)),
      resync: ofDatabase
        ? Effect.map(measure, (measured) => {
          offset += Math.max(-maxDrift, Math.min(maxDrift, measured - offset))
        })
        : Effect.void
    }
  })

/** Milliseconds. */
const maxDrift = 50

const rowsOf = (
  sql: SqlClient.SqlClient,
  dialect: Transacting.Dialect,
  items: ReadonlyArray<object>,
  columns: Readonly<Record<string, ColumnType>>
): Fragment => {
  const names = Object.keys(columns)
  if (dialect === "pg") {
    // An array a column, not JSON: a batch of 100 events took an eighth less time with them, and a stored delivery a tenth.
    const arrays = names.map((name) => sql`CAST(${arrayOf(items, name)} AS ${sql.literal(columns[name]!)}[])`)
    return sql`unnest(${sql.csv(arrays)}) AS v(${sql.literal(names.join(", "))})`
  }
  // By place: a look-up by name, which SQLite makes anew for each column, takes 10 µs more for a row of thirteen.
  const rows = items.map((item) => names.map((name): unknown => Reflect.get(item, name)))
  return sql`(SELECT ${
    sql.literal(names.map((name, index) => `json_extract(value, '$[${index}]') AS ${name}`).join(", "))
  } FROM json_each(${JSON.stringify(rows)})) AS v`
}

/** A column as PostgreSQL writes an array. */
const arrayOf = (items: ReadonlyArray<object>, name: string): string =>
  `{${items.map((item) => elementOf(Reflect.get(item, name))).join(",")}}`

const elementOf = (value: unknown): string => {
  if (value === null || value === undefined) return "NULL"
  if (typeof value === "number") return String(value)
  const text = String(value)
  return `"${/["\\]/.test(text) ? text.replaceAll(/["\\]/g, "\\$&") : text}"`
}
