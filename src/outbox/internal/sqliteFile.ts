/**
 * Whether the file that SQLite writes to is still the one that its name leads to: one that was removed or replaced goes on taking commits, which are
 * gone with the process.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { statSync } from "node:fs"

/** An effect that fails once the file is no longer where it was. In memory there is none. */
export const inPlace = (sql: SqlClient): Effect.Effect<Effect.Effect<void, SqlError>, SqlError> =>
  Effect.map(sql<{ readonly file: string | null }>`PRAGMA database_list`, ([main]) => {
    const file = main?.file ?? ""
    const first = identity(file)
    return first === undefined
      ? Effect.void
      : Effect.suspend(() =>
        identity(file) === first
          ? Effect.void
          // SQLite's own code for it, which it uses in some modes.
          : Effect.fail(new SqlError({ cause: { code: "SQLITE_READONLY_DBMOVED" }, message: "the file was moved" }))
      )
  })

// --- internal

const identity = (file: string): string | undefined => {
  if (file === "") return undefined
  try {
    const { dev, ino } = statSync(file)
    return `${dev}:${ino}`
  } catch {
    return undefined
  }
}
