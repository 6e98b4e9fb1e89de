/**
 * The outbox's hold on the host's database: statements and transactions with typed failures, one clock, one signal for workers.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as FiberClock from "../../FiberClock.js"
import { monotonicNow } from "../../http/internal/monotonic.js"
import { alphanumeric } from "../../SecureRandom.js"
import { OutboxUnavailable } from "../OutboxError.js"
import { isSqlError, toUnavailable } from "./driverErrors.js"
import * as SqliteFile from "./sqliteFile.js"
import * as Watching from "./watching.js"

/** Names of the tables, to be put into statements. */
export interface Tables {
  readonly messages: Fragment
  readonly deliveries: Fragment
  readonly attempts: Fragment
  readonly endpoints: Fragment
  readonly meta: Fragment
}

export type Dialect = "pg" | "sqlite"

export interface Store {
  /** The host's client, without its renaming of columns. */
  readonly sql: SqlClient.SqlClient
  readonly dialect: Dialect
  readonly prefix: string
  readonly tables: Tables
  /**
   * Milliseconds since the epoch, whole: the clock that rules leases and due times. It is read from the wall (the database's or the process's)
   * once, and goes on by the monotonic clock, so that a jump of the wall clock is nothing to a running worker.
   */
  readonly now: Effect.Effect<number>
  /** Follows the drift of the database's clock, by at most 50 ms a call. Nothing where the process's clock rules. */
  readonly resync: Effect.Effect<void, OutboxUnavailable>
  /** Runs statements that only read; the driver's failures become ours. A PostgreSQL that gives no connection or says nothing for 15 seconds is `unreachable`. */
  readonly query: <A, E, R>(
    effect: Effect.Effect<A, E | SqlError, R>
  ) => Effect.Effect<A, Exclude<E, SqlError> | OutboxUnavailable, R>
  /**
   * Runs statements as one: in a transaction of its own (a failing COMMIT is typed, too; a SQLite that another process is writing to is waited for
   * without blocking; a PostgreSQL that gives no connection in 15 seconds, or hasn't done it in 15 seconds or in `limit`, is `unreachable`), or in a
   * savepoint of the caller's. What is run may be run again.
   */
  readonly transaction: <A, E, R>(
    effect: Effect.Effect<A, E | SqlError, R>,
    limit?: Duration.DurationInput
  ) => Effect.Effect<A, Exclude<E, SqlError> | OutboxUnavailable, R>
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
  /** A table `v` of the given rows to select or update from: one JSON parameter, so the statement's text stays the same. */
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
    const dialect: Dialect = sql.onDialectOrElse({
      sqlite: () => "sqlite" as const,
      pg: () => "pg" as const,
      orElse: () => {
        throw new Error(
          "effect-webhooks keeps its outbox in SQLite or PostgreSQL: this SqlClient is for another database"
        )
      }
    })
    const table = (name: string) => sql.literal(`${prefix}${name}`)
    const time = yield* makeTime(sql, dialect === "pg" && clock === "database")
    const channel = `${prefix}due`
    const own = yield* alphanumeric(16)
    const joined = joining(sql)
    const owned = yield* owning(sql, dialect)

    let next = Deferred.unsafeMake<void>(FiberId.none)
    const signal = Effect.suspend(() => {
      const current = next
      next = Deferred.unsafeMake<void>(FiberId.none)
      return Effect.asVoid(Deferred.succeed(current, undefined))
    })

    return {
      sql,
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
      query: (effect) =>
        Effect.flatMap(inTransaction, (inside) =>
          mapErrors(inside || dialect === "sqlite" ? effect : alone(sql, effect))),
      inTransaction,
      transaction: (effect, limit = patience) =>
        Effect.flatMap(inTransaction, (inside) =>
          inside ? mapErrors(joined(effect)) : owned(effect, limit)),
      signal,
      awaitWake: () => Deferred.await(next),
      own,
      wake: Effect.flatMap(inOwnTransaction, (isOwn) =>
        Effect.zipRight(
          dialect === "pg" ? Effect.asVoid(sql`SELECT pg_notify(${channel}, ${isOwn ? own : ""})`) : Effect.void,
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

const inTransaction: Effect.Effect<boolean> = Effect.map(
  Effect.serviceOption(SqlClient.TransactionConnection),
  Option.isSome
)

const mapErrors = <A, E, R>(
  effect: Effect.Effect<A, E | SqlError, R>
): Effect.Effect<A, Exclude<E, SqlError> | OutboxUnavailable, R> =>
  Effect.catchAllDefect(
    Effect.mapError(effect, (error) => isSqlError(error) ? toUnavailable(error) : error as Exclude<E, SqlError>),
    // @effect/sql gives up with a defect where COMMIT or ROLLBACK fails.
    (defect) => isSqlError(defect) ? Effect.fail(toUnavailable(defect)) : Effect.die(defect)
  )

/**
 * Within the caller's transaction: a savepoint, so that a caller who goes on after our failure has a transaction that still works
 * (PostgreSQL would turn its COMMIT into a silent ROLLBACK). One at a time on a connection, since savepoints are a stack: of two that overlap, one
 * that fails would take with it what the other has told as stored. The library's own nested `withTransaction` never releases its savepoints.
 */
const joining =
  (sql: SqlClient.SqlClient) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SqlError, R> =>
    Effect.flatMap(
      Effect.all([Effect.serviceOption(SqlClient.TransactionConnection), FiberRef.get(joinedOn)]),
      ([transaction, joined]) => {
        const connection = Option.getOrUndefined(transaction)?.[0]
        if (connection === undefined || joined === connection) return effect
        return turnsOf(connection).withPermits(1)(Effect.locally(inSavepoint(sql, effect), joinedOn, connection))
      }
    )

/** The connection in whose savepoint of ours the fiber is. */
const joinedOn: FiberRef.FiberRef<Connection | undefined> = FiberRef.unsafeMake<Connection | undefined>(undefined, {
  fork: () => undefined,
  join: (parent) => parent
})

const inOwnTransaction: Effect.Effect<boolean> = Effect.zipWith(
  inTransaction,
  FiberRef.get(joinedOn),
  (inside, joined) => inside && joined === undefined
)

const turns = new WeakMap<Connection, Effect.Semaphore>()

const turnsOf = (connection: Connection): Effect.Semaphore => {
  const known = turns.get(connection)
  if (known !== undefined) return known
  const made = Effect.unsafeMakeSemaphore(1)
  turns.set(connection, made)
  return made
}

const inSavepoint = <A, E, R>(
  sql: SqlClient.SqlClient,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqlError, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.zipRight(
      sql.unsafe("SAVEPOINT effect_webhooks"),
      Effect.matchCauseEffect(restore(effect), {
        onFailure: (cause) =>
          sql.unsafe("ROLLBACK TO SAVEPOINT effect_webhooks").pipe(
            Effect.zipRight(sql.unsafe("RELEASE SAVEPOINT effect_webhooks")),
            Effect.ignore,
            Effect.zipRight(Effect.failCause(cause))
          ),
        onSuccess: (value) => Effect.as(sql.unsafe("RELEASE SAVEPOINT effect_webhooks"), value)
      })
    )
  )

/** How long PostgreSQL may take. */
const patience = Duration.seconds(15)

/** Reads on a connection of their own, which is watched. */
const alone = <A, E, R>(sql: SqlClient.SqlClient, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SqlError, R> =>
  Effect.acquireUseRelease(
    Scope.make(),
    (scope) =>
      Effect.flatMap(Watching.reserve(sql, scope, patience), (connection) =>
        watch.start(connection, patience).pipe(
          Effect.zipRight(Effect.provideService(effect, SqlClient.TransactionConnection, [connection, 0])),
          Effect.ensuring(watch.stop(connection))
        )),
    (scope, exit) => Scope.close(scope, exit)
  )

const watch = Watching.make()

/** A transaction of our own. */
const owning = (sql: SqlClient.SqlClient, dialect: Dialect): Effect.Effect<Owned, OutboxUnavailable> =>
  dialect === "pg" ? Effect.succeed(owningPg(sql)) : owningSqlite(sql)

type Owned = <A, E, R>(
  effect: Effect.Effect<A, E | SqlError, R>,
  limit: Duration.DurationInput
) => Effect.Effect<A, Exclude<E, SqlError> | OutboxUnavailable, R>

// Put off: SQLite's driver prepares a statement when it is asked for the effect, and some pragmas take effect when they are prepared.
const run = (conn: Connection, text: string) => Effect.suspend(() => conn.executeUnprepared(text, [], undefined))

const makeOwned = (
  reserve: (scope: Scope.Scope) => Effect.Effect<Connection, SqlError>,
  begin: (conn: Connection) => Effect.Effect<unknown, SqlError>,
  done: (conn: Connection) => Effect.Effect<void>
) =>
  SqlClient.makeWithTransaction({
    transactionTag: SqlClient.TransactionConnection,
    spanAttributes: [],
    acquireConnection: Effect.flatMap(
      Scope.make(),
      (scope) =>
        Effect.map(reserve(scope), (conn) => [scope, conn] as const).pipe(
          Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
        )
    ),
    begin: (conn) => Effect.asVoid(Effect.tapError(begin(conn), () => done(conn))),
    savepoint: () => Effect.void,
    commit: (conn) =>
      Effect.ensuring(Effect.tapError(run(conn, "COMMIT"), () => Effect.ignore(run(conn, "ROLLBACK"))), done(conn)),
    // Where the connection is gone, so is the transaction.
    rollback: (conn) => Effect.ensuring(Effect.ignore(run(conn, "ROLLBACK")), done(conn)),
    rollbackSavepoint: () => Effect.void
  })

const owningPg = (sql: SqlClient.SqlClient): Owned => (effect, limit) =>
  retried(
    makeOwned(
      (scope) => Watching.reserve(sql, scope, patience),
      (conn) =>
        // Whatever the host's default: what orders deliveries must see what others have committed.
        Effect.zipRight(watch.start(conn, limit), run(conn, "BEGIN ISOLATION LEVEL READ COMMITTED")),
      watch.stop
    )(effect)
  )

const owningSqlite = (sql: SqlClient.SqlClient): Effect.Effect<Owned, OutboxUnavailable> =>
  Effect.map(mapErrors(SqliteFile.inPlace(sql)), (inPlace) => {
    const withTransaction = makeOwned(
      (scope) => Scope.extend(sql.reserve, scope),
      // While it waits for a lock, SQLite's driver blocks the whole process: so ours doesn't wait, and asks again.
      (conn) =>
        Effect.flatMap(Effect.zipRight(inPlace, busyTimeout(conn)), (hostTimeout) =>
          Effect.ensuring(
            Effect.zipRight(run(conn, "PRAGMA busy_timeout = 0"), run(conn, "BEGIN IMMEDIATE")),
            Effect.ignore(run(conn, `PRAGMA busy_timeout = ${hostTimeout}`))
          )),
      () => Effect.void
    )
    return (effect) => retried(withTransaction(effect))
  })

const retried = <A, E, R>(
  effect: Effect.Effect<A, E | SqlError, R>
): Effect.Effect<A, Exclude<E, SqlError> | OutboxUnavailable, R> => {
  const isBusy = (error: unknown): boolean => error instanceof OutboxUnavailable && error.reason === "busy"
  return Effect.retry(mapErrors(effect), whileBusy.pipe(Schedule.whileInput(isBusy)))
}

/** From 2 ms, doubling to 50 ms, with jitter; for ten seconds. */
const whileBusy = Schedule.exponential("2 millis").pipe(
  Schedule.union(Schedule.spaced("50 millis")),
  Schedule.jittered,
  Schedule.upTo("10 seconds")
)

/** The host's, which is given back. */
const busyTimeout = (conn: Connection): Effect.Effect<number, SqlError> =>
  Effect.map(run(conn, "PRAGMA busy_timeout"), ([row]) => {
    const timeout: unknown = Reflect.get(Object(row) as object, "timeout")
    return typeof timeout === "number" ? timeout : 5000
  })

const makeTime = (
  sql: SqlClient.SqlClient,
  ofDatabase: boolean
): Effect.Effect<Pick<Store, "now" | "resync">, OutboxUnavailable> =>
  Effect.gen(function*() {
    // Wall time minus monotonic time, in milliseconds.
    const measure = ofDatabase
      ? Effect.flatMap(monotonicNow, (before) =>
        Effect.zipWith(
          mapErrors(
            sql<{ readonly now: number }>`SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now`
          ),
          monotonicNow,
          ([row], after) => (row?.now ?? 0) - (before + after) / 2
        ))
      : Effect.zipWith(Clock.currentTimeMillis, monotonicNow, (wall, monotonic) => wall - monotonic)
    let offset = yield* measure
    return {
      now: Effect.withFiberRuntime((fiber) => Effect.succeed(Math.floor(FiberClock.monotonic(fiber) + offset))),
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
  dialect: Dialect,
  items: ReadonlyArray<object>,
  columns: Readonly<Record<string, ColumnType>>
): Fragment => {
  const names = Object.keys(columns)
  if (dialect === "pg") {
    return sql`jsonb_to_recordset(${JSON.stringify(items)}::text::jsonb) AS v(${
      sql.literal(names.map((name) => `${name} ${columns[name]}`).join(", "))
    })`
  }
  // By place: a look-up by name, which SQLite makes anew for each column, takes 10 µs more for a row of thirteen.
  const rows = items.map((item) => names.map((name): unknown => Reflect.get(item, name)))
  return sql`(SELECT ${
    sql.literal(names.map((name, index) => `json_extract(value, '$[${index}]') AS ${name}`).join(", "))
  } FROM json_each(${JSON.stringify(rows)})) AS v`
}
