/**
 * Statements that PostgreSQL parses and plans once a connection, under a name that then goes there in place of the text: of the 2 ms that the one which stores an event
 * took, these were 0.8; and a worker with one statement for each batch delivers a sixth more. A plan is kept, though the tables may grow: a plan for a few rows reads them
 * all, and PostgreSQL itself makes another when it analyzes them, within a minute mostly. So what takes long is planned anew, under another name. Only on connections of
 * our own: what goes wrong with a name must not end a host's transaction.
 */
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import * as FiberClock from "../../FiberClock.js"

/** Runs a statement on a connection. */
export type Run = <A extends object>(
  connection: Connection,
  text: string,
  parameters: ReadonlyArray<unknown>
) => Effect.Effect<ReadonlyArray<A>, SqlError>

/** Says that nobody else uses the connection. */
export const own = (connection: Connection): Connection => {
  if (takesNames(connection)) owned.add(connection)
  return connection
}

/**
 * Gives statements names, until one goes wrong: behind a pooler that hands out another connection for each transaction and doesn't know of them, say. That is told as
 * PostgreSQL's own 40001 is: nothing was done, try again.
 */
export const make = (): Run => {
  const names = new Map<string, Name>()
  let isNaming = true
  const nameOf = (text: string): Name => {
    const known = names.get(text)
    if (known !== undefined) return known
    const name = `effect_webhooks_${createHash("sha256").update(text).digest("base64url").slice(0, 22)}`
    const made = { name, renewals: 0, renewableAt: -Infinity }
    names.set(text, made)
    return made
  }
  return (connection, text, parameters) => {
    if (!isNaming || !isOwn(connection)) return connection.execute(text, parameters, undefined)
    const of = nameOf(text)
    const name = of.renewals === 0 ? of.name : `${of.name}_${of.renewals}`
    const named = timed(connection.execute({ name, text }, parameters, undefined), (time, now) => {
      if (time < slow || now < of.renewableAt) return
      of.renewableAt = now + Math.min(longestPause, firstPause * 2 ** of.renewals++)
    })
    return Effect.catchAll(named, (error) => {
      if (!isOfName(error)) return Effect.fail(error)
      isNaming = false
      return Effect.fail(new SqlError({ cause: { code: "40001" }, message: "a prepared statement is gone" }))
    })
  }
}

/** What is within a value that may not have it. */
export const member = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined

// --- internal

const owned = new WeakSet<Connection>()

interface Name {
  readonly name: string
  /** Names of it that were given up. What these stand for stays in the server's memory as long as the connection: so each takes twice the wait of the one before. */
  renewals: number
  /** Monotonic milliseconds. */
  renewableAt: number
}

/** Milliseconds: what a statement takes that reads some ten thousand rows in vain; and between two renewals. */
const slow = 20
const firstPause = 1000
const longestPause = 86_400_000

/** Tells how long the effect took, and when it ended, in monotonic milliseconds. */
const timed = <A, E>(effect: Effect.Effect<A, E>, tell: (time: number, now: number) => void): Effect.Effect<A, E> =>
  Effect.withFiberRuntime((fiber) => {
    const from = FiberClock.monotonic(fiber)
    return Effect.map(effect, (value) => {
      const now = FiberClock.monotonic(fiber)
      tell(now - from, now)
      return value
    })
  })

/** What `@effect/sql-pg` hands on to node-postgres as it is. */
interface TakesNames {
  readonly execute: (
    query: { readonly name: string; readonly text: string },
    parameters: ReadonlyArray<unknown>,
    transform: undefined
  ) => Effect.Effect<ReadonlyArray<never>, SqlError>
}

const isOwn = (connection: Connection): connection is Connection & TakesNames => owned.has(connection)

/** Whether it is `@effect/sql-pg`'s own, over node-postgres: one that a host has put around that takes no more than it says. */
const takesNames = (connection: Connection): boolean =>
  typeof member(member(member(connection, "pg"), "connection"), "parsedStatements") === "object" &&
  !Object.hasOwn(connection, "execute") && Object.hasOwn(Object.getPrototypeOf(connection) as object, "execute")

/** There is no such statement; there is one already; what it returns has changed; its text has, in the hands of a host's pool. */
const isOfName = ({ cause }: SqlError): boolean =>
  codes.has(member(cause, "code")) || String(member(cause, "message")).startsWith("Prepared statements must be unique")

const codes: ReadonlySet<unknown> = new Set(["26000", "42P05", "0A000"])
