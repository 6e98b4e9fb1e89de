/**
 * Ends a connection to PostgreSQL that has stopped answering (a firewall that forgot it, a machine that went away without a word): the
 * system would wait for a quarter of an hour, and whoever uses the connection with it.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { type Change, forkFrom } from "../../Forking.js"
import * as Preparing from "./preparing.js"

/** Gives what is done with a connection its time; `stop` when it is done. */
export interface Watch {
  readonly start: (connection: Connection, limit: Duration.DurationInput) => Effect.Effect<void>
  readonly stop: (connection: Connection) => Effect.Effect<void>
}

/** A watch over any number of connections. What runs when time is up fails as if the connection had broken. */
export const make = (): Watch => {
  const watching = new WeakMap<Connection, Timer>()
  return {
    start: (connection, limit) =>
      Effect.sync(() => {
        watching.set(connection, after(limit, () => destroy(connection)))
      }),
    stop: (connection) => Effect.sync(() => clearTimeout(watching.get(connection)))
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
  Effect.withFiberRuntime((fiber) => {
    // All that it has is handed over as it starts: to set it for the time of an effect took four times as many steps as all else.
    const reserving = forkFrom(fiber, Context.add(fiber.currentContext, Scope.Scope, scope), sql.reserve, apart)
    return Effect.async<Connection, SqlError>((resume) => {
      const timer = after(limit, () => {
        resume(Effect.fail(new SqlError({ cause: { code: "ETIMEDOUT" }, message: "no connection in time" })))
      })
      reserving.addObserver((exit) => {
        clearTimeout(timer)
        resume(Exit.map(exit, Preparing.own))
      })
      return Effect.sync(() => clearTimeout(timer))
    })
  })

// --- internal

/** A socket's silence is real, whatever clock a test has set. */
const live = Clock.make()

type Timer = ReturnType<typeof setTimeout>

const after = (time: Duration.DurationInput, onTime: () => void): Timer =>
  // @effect-diagnostics-next-line globalTimers:off -- real time, as said; a sleep takes a fiber, which lives until the next full collection
  setTimeout(onTime, Duration.toMillis(time))

/** By that clock; and its failure is told by who waits for it: that of a fiber would be logged at level DEBUG, in the words of the driver. */
const apart: Change = (refs, fiberId) => {
  const services = FiberRefs.getOrDefault(refs, DefaultServices.currentServices)
  const timed = FiberRefs.updateAs(refs, {
    fiberId,
    fiberRef: DefaultServices.currentServices,
    value: Context.add(services, Clock.Clock, live)
  })
  return FiberRefs.updateAs(timed, { fiberId, fiberRef: FiberRef.unhandledErrorLogLevel, value: Option.none() })
}

// The driver's client has no way to end a connection without asking the other side.
const destroy = (connection: Connection): void => {
  const stream = Preparing.member(Preparing.member(Preparing.member(connection, "pg"), "connection"), "stream")
  const end = Preparing.member(stream, "destroy")
  if (typeof end === "function") Reflect.apply(end, stream, [])
}
