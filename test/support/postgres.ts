/** A real PostgreSQL on loopback, for tests and for scripts. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { type ChildProcess, fork } from "node:child_process"
import { randomBytes } from "node:crypto"
import { fileURLToPath } from "node:url"

/** A server that runs until it is stopped or this process ends, however it ends; its data go with it. */
export interface PostgresServer {
  /** `postgres://USER:PASSWORD@127.0.0.1:PORT/postgres`; the same after a restart. */
  readonly url: string
  /** Stops the server and removes its data. */
  readonly stop: () => Promise<void>
  /**
   * Stops the server, waits for `whileDown`, and starts it again on the same port with the same data. `fast` ends every connection and
   * writes a checkpoint; `crash` does not, so that the log has to be played back.
   */
  readonly restart: (options?: {
    readonly mode?: "fast" | "crash" | undefined
    readonly whileDown?: (() => Promise<void>) | undefined
  }) => Promise<void>
  /** Ends every connection, or those to one database, and tells how many. */
  readonly terminateBackends: (database?: string) => Promise<number>
}

/** Starts a server, in about a second. `fsync` (default: on) may be off where no crash is part of the test. */
export const startPostgres = async (options: { readonly fsync?: boolean } = {}): Promise<PostgresServer> => {
  const child = fork(
    fileURLToPath(new URL("./postgres-server.mjs", import.meta.url)),
    [JSON.stringify({ fsync: options.fsync ?? true })],
    // In a group of its own: a Ctrl-C is for this process, which then stops the server or leaves it to the closing channel.
    { detached: true, stdio: ["ignore", "ignore", "inherit", "ipc"], execArgv: [] }
  )
  const { url } = await answer<{ readonly url: string }>(child, (message) => "url" in message || "error" in message)
  let requests = 0
  const ask = async (command: string, rest: object = {}): Promise<unknown> => {
    const id = ++requests
    const answered = answer<{ readonly value: unknown }>(child, (message) => "id" in message && message.id === id)
    child.send({ command, id, ...rest })
    return (await answered).value
  }
  return {
    url,
    stop: () =>
      new Promise((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null) return resolve()
        child.once("exit", () => resolve())
        child.disconnect()
      }),
    restart: async ({ mode = "fast", whileDown } = {}) => {
      await ask("halt", { mode })
      await whileDown?.()
      await ask("start")
    },
    terminateBackends: async (database) => Number(await ask("terminateBackends", { database }))
  }
}

/** The URL of a new database on a server, which goes with the server. */
export const newDatabase = (server: string): Effect.Effect<string> => {
  const name = `t_${randomBytes(8).toString("hex")}`
  const url = new URL(server)
  url.pathname = `/${name}`
  return Effect.as(execute(server, (sql) => sql`CREATE DATABASE ${sql(name)} TEMPLATE template0`), url.href)
}

/** The same, dropped with the scope, whoever is connected to it. */
export const freshDatabase = (server: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    newDatabase(server),
    (url) => execute(server, (sql) => sql`DROP DATABASE ${sql(new URL(url).pathname.slice(1))} WITH (FORCE)`)
  )

// --- internal

const execute = (url: string, statement: (sql: SqlClient.SqlClient) => Effect.Effect<unknown, unknown>) =>
  Effect.flatMap(SqlClient.SqlClient, statement).pipe(
    Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })),
    Effect.orDie,
    Effect.asVoid
  )

const answer = <A>(child: ChildProcess, isAnswer: (message: object) => boolean): Promise<A> =>
  new Promise((resolve, reject) => {
    const end = (settle: () => void) => {
      child.off("message", onMessage)
      child.off("exit", onExit)
      settle()
    }
    const onMessage = (message: object) => {
      if (!isAnswer(message)) return
      end(() => "error" in message ? reject(new Error(String(message.error))) : resolve(message as A))
    }
    const onExit = () => end(() => reject(new Error("the process that owns PostgreSQL has ended")))
    child.on("message", onMessage)
    child.on("exit", onExit)
  })
