/** Databases for the command line's tests: fresh ones, and one table's worth of look inside. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { afterAll } from "vitest"
import { backends, type Database } from "../support/backends.js"

const scope = Effect.runSync(Scope.make())
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

/** A fresh, empty database that is there as long as the test file is. */
export const fresh = (name: "postgres" | "sqlite"): Promise<Database> =>
  Effect.runPromise(Scope.extend(backends.find((backend) => backend.name === name)!.database, scope))

/** The rows of a query, over a connection of its own. */
export const query = (database: Database, text: string): Promise<ReadonlyArray<Record<string, unknown>>> =>
  Effect.runPromise(
    Effect.provide(
      Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<Record<string, unknown>>(text)),
      database.client
    )
  )

/** Keeps a table of PostgreSQL to itself until it is released. */
export const locking = async (
  database: Database,
  table: string
): Promise<{ readonly release: () => Promise<void> }> => {
  let release = () => {}
  const released = new Promise<void>((resolve) => (release = resolve))
  let locked = () => {}
  const held = new Promise<void>((resolve) => (locked = resolve))
  const ended = Effect.runPromise(
    Effect.provide(
      Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql.withTransaction(
          Effect.zipRight(
            Effect.tap(sql.unsafe(`LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`), () => Effect.sync(locked)),
            Effect.promise(() => released)
          )
        )),
      database.client
    )
  )
  await Promise.race([held, ended])
  return {
    release: () => {
      release()
      return ended
    }
  }
}
