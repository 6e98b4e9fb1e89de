/**
 * Statements with typed failures, alone and in transactions: our own, or a savepoint in the caller's.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as Statement from "@effect/sql/Statement"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { type Local, local, locallyAll } from "../../Locally.js"
import * as Masking from "../../Masking.js"
import * as Spans from "../../Spans.js"
import { OutboxUnavailable } from "../OutboxError.js"
import { isSqlError, toUnavailable } from "./driverErrors.js"
import type * as Preparing from "./preparing.js"
import * as SqliteFile from "./sqliteFile.js"
import * as Watching from "./watching.js"

export type Dialect = "pg" | "sqlite"

export interface Transacting {
  /** Runs statements that only read, or one that is a transaction by itself; the driver's failures become ours. A PostgreSQL that gives no connection or says nothing for 15 seconds is `unreachable`. */
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
    options?: Options
  ) => Effect.Effect<A, Exclude<E, SqlError> | OutboxUnavailable, R>
}

/** Of a transaction of our own. */
export interface Options {
  /** Default: 15 seconds. */
  readonly limit?: Duration.DurationInput
  /** Run right after its COMMIT, whatever becomes of who waits for it. */
  readonly committed?: Effect.Effect<void>
}

export const make = (sql: SqlClient.SqlClient, dialect: Dialect): Effect.Effect<Transacting, OutboxUnavailable> =>
  Effect.map(owning(sql, dialect), (owned) => {
    const joined = joining(sql)
    return {
      query: (effect) =>
        Effect.flatMap(
          inTransaction,
          (inside) => mapErrors(inside || dialect === "sqlite" ? effect : alone(sql, effect))
        ),
      transaction: (effect, options = {}) =>
        Effect.flatMap(inTransaction, (inside) => inside ? mapErrors(joined(effect)) : owned(effect, options))
    }
  })

/** Whether the fiber has a transaction open. */
export const inTransaction: Effect.Effect<boolean> = Effect.map(
  Effect.serviceOption(SqlClient.TransactionConnection),
  Option.isSome
)

/** The connection in whose savepoint of ours the fiber is. */
const joinedOn: FiberRef.FiberRef<Connection | undefined> = FiberRef.unsafeMake<Connection | undefined>(undefined, {
  fork: () => undefined,
  join: (parent) => parent
})

/** Whether the transaction that the fiber has open is one of ours, and no host's. */
export const inOwnTransaction: Effect.Effect<boolean> = Effect.zipWith(
  inTransaction,
  FiberRef.get(joinedOn),
  (inside, joined) => inside && joined === undefined
)

/** The driver's failures as ours. */
export const mapErrors = <A, E, R>(
  effect: Effect.Effect<A, E | SqlError, R>
): Effect.Effect<A, Exclude<E, SqlError> | OutboxUnavailable, R> =>
  Effect.mapError(effect, (error) => isSqlError(error) ? toUnavailable(error) : error as Exclude<E, SqlError>)

/** A tag for statements that are run: in a transaction on its connection at once, without the span and the scope that `@effect/sql` makes for each (14 and 70 steps of the fiber). */
export type Execute = <A extends object>(
  strings: TemplateStringsArray,
  ...args: ReadonlyArray<unknown>
) => Effect.Effect<ReadonlyArray<A>, SqlError>

export const executing = (sql: SqlClient.SqlClient, run: Preparing.Run = asItIs): Execute =>
<A extends object>(
  strings: TemplateStringsArray,
  ...args: ReadonlyArray<unknown>
) =>
  Effect.withFiberRuntime<ReadonlyArray<A>, SqlError>((fiber) => {
    const statement = sql<A>(strings, ...args)
    const transaction = Context.getOption(fiber.currentContext, SqlClient.TransactionConnection)
    // A host that looks at statements, or changes them, sees ours.
    const isSeen = Option.isSome(fiber.getFiberRef(Statement.currentTransformer))
    if (Option.isNone(transaction) || isSeen) return statement
    const [text, parameters] = statement.compile()
    return run(transaction.value[0], text, parameters)
  })

// --- internal

const asItIs: Preparing.Run = (connection, text, parameters) => connection.execute(text, parameters, undefined)

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
  Masking.uninterruptibleMask((restore) =>
    connected(
      { reserve: (scope) => restore(Watching.reserve(sql, scope, patience)), done: watch.stop },
      (conn) => Effect.zipRight(watch.start(conn, patience), locallyAll(restore(effect), [on(conn)]))
    )
  )

const watch = Watching.make()

/** A transaction of our own. */
const owning = (sql: SqlClient.SqlClient, dialect: Dialect): Effect.Effect<Owned, OutboxUnavailable> =>
  dialect === "pg" ? Effect.succeed(owningPg(sql)) : owningSqlite(sql)

type Owned = <A, E, R>(
  effect: Effect.Effect<A, E | SqlError, R>,
  options: Options
) => Effect.Effect<A, Exclude<E, SqlError> | OutboxUnavailable, R>

// Put off: SQLite's driver prepares a statement when it is asked for the effect, and some pragmas take effect when they are prepared.
const run = (conn: Connection, text: string) => Effect.suspend(() => conn.executeUnprepared(text, [], undefined))

/** How to come by a connection, and what is done when it isn't needed any more. */
interface Connecting {
  readonly reserve: (scope: Scope.Scope) => Effect.Effect<Connection, SqlError>
  readonly done: (conn: Connection) => Effect.Effect<void>
}

/** Uses a connection. Must run uninterruptibly. */
const connected = <A, E, R>(
  { done, reserve }: Connecting,
  use: (conn: Connection) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqlError, R> =>
  Effect.flatMap(Scope.make(), (scope) =>
    Masking.onExit(
      Effect.flatMap(reserve(scope), (conn) => Masking.onExit(use(conn), () => done(conn))),
      (exit) => Scope.close(scope, exit)
    ))

/** Says that statements go by a connection. */
const on = (conn: Connection): Local =>
  local(FiberRef.currentContext, Context.add(SqlClient.TransactionConnection, [conn, 0]))

/** What makes a transaction of ours. */
interface Begun extends Connecting {
  readonly begin: (conn: Connection) => Effect.Effect<unknown, SqlError>
}

// By hand: `@effect/sql`'s own takes 225 steps of the fiber, this one less than 70, and most transactions are about one event.
const inOwn = <A, E, R>(
  { begin, ...connecting }: Begun,
  effect: Effect.Effect<A, E, R>,
  after: Effect.Effect<void> = Effect.void
): Effect.Effect<A, E | SqlError, R> =>
  Spans.around(
    "sql.transaction",
    { kind: "client", attributes: {} },
    (span, _, restore) =>
      Effect.zipLeft(
        connected(connecting, (conn) => {
          const within = locallyAll(restore(effect), [on(conn), Spans.under(span)])
          return Effect.zipRight(
            begin(conn),
            Effect.matchCauseEffect(within, {
              onFailure: (cause) => Effect.zipRight(rollback(conn), Effect.failCause(cause)),
              onSuccess: (value) => Effect.as(Effect.tapError(run(conn, "COMMIT"), () => rollback(conn)), value)
            })
          )
        }),
        after
      )
  )

// Where the connection is gone, so is the transaction.
const rollback = (conn: Connection): Effect.Effect<void> => Effect.ignore(run(conn, "ROLLBACK"))

const owningPg = (sql: SqlClient.SqlClient): Owned => (effect, { committed, limit = patience }) =>
  retried(inOwn(
    {
      reserve: (scope) => Watching.reserve(sql, scope, patience),
      // Whatever the host's default: what orders deliveries must see what others have committed.
      begin: (conn) => Effect.zipRight(watch.start(conn, limit), run(conn, "BEGIN ISOLATION LEVEL READ COMMITTED")),
      done: watch.stop
    },
    effect,
    committed
  ))

const owningSqlite = (sql: SqlClient.SqlClient): Effect.Effect<Owned, OutboxUnavailable> =>
  Effect.map(mapErrors(SqliteFile.inPlace(sql)), (inPlace) => {
    const begun: Begun = {
      reserve: (scope) => Scope.extend(sql.reserve, scope),
      // While it waits for a lock, SQLite's driver blocks the whole process: so ours doesn't wait, and asks again.
      begin: (conn) =>
        Effect.flatMap(Effect.zipRight(inPlace, busyTimeout(conn)), (hostTimeout) =>
          Effect.ensuring(
            Effect.zipRight(run(conn, "PRAGMA busy_timeout = 0"), run(conn, "BEGIN IMMEDIATE")),
            Effect.ignore(run(conn, `PRAGMA busy_timeout = ${hostTimeout}`))
          )),
      done: () => Effect.void
    }
    return (effect, { committed }) => retried(inOwn(begun, effect, committed))
  })

const retried = <A, E, R>(
  effect: Effect.Effect<A, E | SqlError, R>
): Effect.Effect<A, Exclude<E, SqlError> | OutboxUnavailable, R> => {
  const once = mapErrors(effect)
  // The schedule is for who needs it: its driver takes 30 steps of the fiber.
  return Effect.catchAll(once, (error) => isBusy(error) ? Effect.retry(once, whileBusy) : Effect.fail(error))
}

const isBusy = (error: unknown): boolean => error instanceof OutboxUnavailable && error.reason === "busy"

/** From 2 ms, doubling to 50 ms, with jitter; for ten seconds. */
const whileBusy = Schedule.exponential("2 millis").pipe(
  Schedule.union(Schedule.spaced("50 millis")),
  Schedule.jittered,
  Schedule.upTo("10 seconds"),
  Schedule.whileInput(isBusy)
)

/** The host's, which is given back. */
const busyTimeout = (conn: Connection): Effect.Effect<number, SqlError> =>
  Effect.map(run(conn, "PRAGMA busy_timeout"), ([row]) => {
    const timeout: unknown = Reflect.get(Object(row) as object, "timeout")
    return typeof timeout === "number" ? timeout : 5000
  })
