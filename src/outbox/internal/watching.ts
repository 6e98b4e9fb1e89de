/**
 * Ends a connection to PostgreSQL that has stopped answering (a firewall that forgot it, a machine that went away without a word): the
 * system would wait for a quarter of an hour, and whoever uses the connection with it.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"

/** Gives what is done with a connection its time; `stop` when it is done. */
export interface Watch {
  readonly start: (connection: Connection, limit: Duration.DurationInput) => Effect.Effect<void>
  readonly stop: (connection: Connection) => Effect.Effect<void>
}

/** A watch over any number of connections. What runs when time is up fails as if the connection had broken. */
export const make = (): Watch => {
  const watching = new WeakMap<Connection, Fiber.RuntimeFiber<void>>()
  const stop = (connection: Connection): Effect.Effect<void> =>
    Effect.suspend(() => {
      const fiber = watching.get(connection)
      watching.delete(connection)
      return fiber === undefined ? Effect.void : Fiber.interruptFork(fiber)
    })
  return {
    stop,
    start: (connection, limit) =>
      Effect.zipRight(Effect.sleep(limit), Effect.sync(() => destroy(connection))).pipe(
        // A transaction begins where nothing is interruptible, which a fiber inherits: it could not be stopped, and would end whoever has the connection then.
        Effect.interruptible,
        // A socket's silence is real, whatever clock a test has set.
        Effect.withClock(live),
        Effect.forkDaemon,
        Effect.map((fiber) => {
          watching.set(connection, fiber)
        })
      )
  }
}

/**
 * A connection for as long as the scope is open. A client that was made without `connectTimeout` waits for ever for a server that accepts one and then
 * says nothing, and can't be told that nobody waits any more: what comes when the scope is closed goes back at once.
 */
export const reserve = (
  sql: SqlClient,
  scope: Scope.Scope,
  limit: Duration.DurationInput
): Effect.Effect<Connection, SqlError> =>
  Effect.flatMap(
    Effect.forkDaemon(Scope.extend(sql.reserve, scope)),
    (reserving) =>
      Effect.timeoutFail(Effect.interruptible(Fiber.join(reserving)), {
        duration: limit,
        onTimeout: () => new SqlError({ cause: { code: "ETIMEDOUT" }, message: "no connection in time" })
      })
  ).pipe(
    Effect.withClock(live),
    // The failure is told by who waits for it; that of the fiber would be logged at level DEBUG, in the words of the driver.
    Effect.withUnhandledErrorLogLevel(Option.none())
  )

// --- internal

const live = Clock.make()

// The driver's client has no way to end a connection without asking the other side.
const destroy = (connection: Connection): void => {
  const stream = member(member(member(connection, "pg"), "connection"), "stream")
  const end = member(stream, "destroy")
  if (typeof end === "function") Reflect.apply(end, stream, [])
}

const member = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined
