/**
 * Statements that PostgreSQL parses and plans once a connection, under a name that then goes there in place of the text: of the 2 ms that the one which stores an event
 * took, these were 0.8. A plan is kept, so only those that insert, or find rows by their key: what they join is the rows of the endpoints, which are few (while these
 * grow, a plan of before reads them all until PostgreSQL analyzes them). And only on connections of our own: what goes wrong with a name must not end a host's
 * transaction.
 */
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"

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
  const names = new Map<string, string>()
  let isNaming = true
  const nameOf = (text: string): string => {
    const known = names.get(text)
    if (known !== undefined) return known
    const name = `effect_webhooks_${createHash("sha256").update(text).digest("base64url").slice(0, 22)}`
    names.set(text, name)
    return name
  }
  return (connection, text, parameters) => {
    if (!isNaming || !isOwn(connection)) return connection.execute(text, parameters, undefined)
    const named = connection.execute({ name: nameOf(text), text }, parameters, undefined)
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
