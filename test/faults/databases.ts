/** The databases under test, and a look into them beside the programs that use them. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { randomBytes } from "node:crypto"
import { join } from "node:path"
import { type PostgresServer, startPostgres } from "../support/postgres.js"

export type Dialect = "sqlite" | "postgres"

export type Row = Readonly<Record<string, unknown>>

export interface Database {
  readonly dialect: Dialect
  /** For `WEBHOOKS_DATABASE_URL`. */
  readonly url: string
  readonly client: Layer.Layer<SqlClient.SqlClient>
  /** Runs one statement on a connection of its own; `bigint`s come as text from PostgreSQL. */
  readonly query: (statement: string) => Promise<ReadonlyArray<Row>>
  /** The number that a statement selects as `n`. */
  readonly count: (statement: string) => Promise<number>
}

/** A SQLite file that isn't there yet. */
export const sqlite = (folder: string, name = "webhooks.db"): Database => {
  const filename = join(folder, name)
  return database("sqlite", `file:${filename}`, SqliteClient.layer({ filename }))
}

/** An empty database on a server. */
export const postgres = async (server: PostgresServer): Promise<Database> => {
  const name = `t_${randomBytes(6).toString("hex")}`
  await connected(server.url).query(`CREATE DATABASE ${name}`)
  const url = new URL(server.url)
  url.pathname = `/${name}`
  return connected(url.href)
}

/** A database that there is, at another address if need be. */
export const connected = (url: string): Database =>
  database("postgres", url, PgClient.layer({ url: Redacted.make(url), maxConnections: 1 }))

let shared: Promise<PostgresServer> | undefined

/** The server that cases share which leave it in peace: what is killed are its clients. */
export const sharedServer = (): Promise<PostgresServer> => (shared ??= startPostgres({ fsync: false }))

export const stopSharedServer = async (): Promise<void> => (await shared)?.stop()

// --- internal

const database = (
  dialect: Dialect,
  url: string,
  layer: Layer.Layer<SqlClient.SqlClient, ConfigError | SqlError>
): Database => {
  const client = Layer.orDie(layer)
  const query = (statement: string) =>
    Effect.runPromise(
      Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<Row>(statement).unprepared).pipe(
        Effect.provide(client),
        Effect.scoped
      )
    )
  return { dialect, url, client, query, count: async (statement) => Number((await query(statement))[0]?.n ?? NaN) }
}
