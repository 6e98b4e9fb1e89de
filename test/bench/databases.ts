/** Databases of the benchmarks: as durable as they come, with the library's own tables. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import { OutboxSchema } from "effect-webhooks"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { newDatabase, startPostgres } from "../support/postgres.js"

export type Dialect = "postgres" | "sqlite"

export interface Databases {
  /** The URL of a database with empty tables: `file:…` or `postgres://…`. */
  readonly fresh: () => Promise<string>
  readonly close: () => Promise<void>
}

/** SQLite in a folder of files, or a PostgreSQL server with `fsync` and `synchronous_commit` on. */
export const startDatabases = async (dialect: Dialect): Promise<Databases> => {
  const migrated = async (url: string): Promise<string> => {
    await Effect.runPromise(Effect.provide(OutboxSchema.migrate(), client(url)))
    return url
  }
  if (dialect === "postgres") {
    const server = await startPostgres()
    return {
      fresh: async () => migrated(await Effect.runPromise(newDatabase(server.url))),
      close: server.stop
    }
  }
  const folder = mkdtempSync(join(tmpdir(), "effect-webhooks-bench-"))
  const remove = () => rmSync(folder, { recursive: true, force: true })
  const stop = removingAtStop(remove)
  let files = 0
  return {
    fresh: () => migrated(`file:${join(folder, `${files++}.db`)}`),
    close: () => {
      stop()
      return Promise.resolve(remove())
    }
  }
}

/** A client as the command line makes it: WAL with `synchronous = FULL`, or ten connections. */
export const client = (url: string): Layer.Layer<SqlClient.SqlClient> =>
  url.startsWith("file:") ? sqlite(url) : postgres(url)

export type Row = Readonly<Record<string, unknown>>

/** Runs statements one after the other on a connection of their own; gives the rows of the last. */
export const query = (url: string, ...statements: ReadonlyArray<string>): Promise<ReadonlyArray<Row>> =>
  Effect.runPromise(
    Effect.flatMap(
      SqlClient.SqlClient,
      (sql) => Effect.reduce(statements, [] as ReadonlyArray<Row>, (_, text) => sql.unsafe<Row>(text).unprepared)
    ).pipe(
      Effect.provide(client(url))
    )
  )

/** How many deliveries of the first lane are pending. */
export const pending = async (url: string): Promise<number> => {
  const [row] = await query(
    url,
    "SELECT count(*) AS n FROM webhook_deliveries WHERE state = 'pending' AND held = 0 AND lane <> 'retry' AND endpoint_id < 'f'"
  )
  return Number(row?.["n"])
}

/** What `fill` stores. */
export interface Filling {
  /** Begins the ids of the messages, so that they are new. */
  readonly prefix: string
  readonly messages: number
  /** Deliveries of each message, each to another endpoint, by turns over the endpoints. */
  readonly deliveries: number
  readonly endpoints: number
  /** What the endpoints' ids begin with; the rest is a number from 0. */
  readonly endpoint: string
  readonly lane: "first" | "retry"
  /** Milliseconds since the epoch; 0: at once. */
  readonly dueAt: number
  readonly body: Buffer
}

/** Stores messages and deliveries without the library, in two statements: many take seconds. */
export const fill = async (url: string, filling: Filling): Promise<void> => {
  const { body, deliveries, dueAt, endpoint, endpoints, lane, messages, prefix } = filling
  const pg = !url.startsWith("file:")
  const now = Date.now()
  const bytes = pg ? `'\\x${body.toString("hex")}'::bytea` : `x'${body.toString("hex")}'`
  const series = (last: number, name: string) =>
    pg
      ? `generate_series(0, ${last - 1}) AS ${name}(${name})`
      : `(WITH RECURSIVE s(g) AS (SELECT 0 UNION ALL SELECT g + 1 FROM s WHERE g < ${
        last - 1
      }) SELECT g AS ${name} FROM s) AS ${name}`
  await query(
    url,
    pg ? "BEGIN" : "BEGIN IMMEDIATE",
    `INSERT INTO webhook_messages (id, digest, event_type, occurred_at, correlation_id, deliveries, created_at, body_event)
     SELECT '${prefix}' || m, '', 'Bench', '2026-01-01T00:00:00Z', 'bench', ${deliveries}, ${now}, ${bytes}
     FROM ${series(messages, "m")}`,
    `INSERT INTO webhook_deliveries (message_id, endpoint_id, event_type, format, state, lane, due_at, created_at)
     SELECT '${prefix}' || m, '${endpoint}' || ((m + d) % ${endpoints}), 'Bench', 'event', 'pending', '${lane}', ${dueAt}, ${now}
     FROM ${series(messages, "m")} CROSS JOIN ${series(deliveries, "d")}`,
    ...(pg ? ["SELECT pg_notify('webhook_due', '')"] : []),
    "COMMIT"
  )
}

// --- internal

/** A program that is told to stop in the middle leaves nothing behind. Gives what ends this. */
const removingAtStop = (remove: () => void): () => void => {
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const
  const onSignal = (signal: NodeJS.Signals): void => {
    remove()
    end()
    process.kill(process.pid, signal)
  }
  const end = (): void => {
    for (const signal of signals) process.off(signal, onSignal)
    process.off("exit", remove)
  }
  for (const signal of signals) process.on(signal, onSignal)
  process.on("exit", remove)
  return end
}

const sqlite = (url: string): Layer.Layer<SqlClient.SqlClient> =>
  SqliteClient.layer({ filename: url.slice("file:".length) }).pipe(
    Layer.tap((context) => Context.get(context, SqlClient.SqlClient).unsafe("PRAGMA synchronous = FULL").unprepared),
    Layer.orDie
  )

const postgres = (url: string): Layer.Layer<SqlClient.SqlClient> =>
  Layer.orDie(PgClient.layer({ url: Redacted.make(url), maxConnections: 10 }))
