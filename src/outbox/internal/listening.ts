/**
 * Hears what other processes enqueue: PostgreSQL's LISTEN on a connection of its own. A connection that breaks, or that
 * no longer answers, is replaced within seconds; the client of `@effect/sql-pg` would go deaf without a word.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Client, ClientConfig } from "pg"
import type { Store } from "./store.js"

/**
 * Listens for as long as the scope is open, and calls `store.signal` for each notification of another's and after each reconnection (what came meanwhile
 * was not heard). Ends never; failures are logged once a break.
 */
export const listen = (store: Store): Effect.Effect<never> => {
  const client = asPgClient(store)
  if (client === undefined) return Effect.never
  const heard = Effect.scoped(Effect.flatMap(connect(client, store), () => Effect.never))
  return heard.pipe(
    Effect.tapError((reason) =>
      Effect.annotateLogs(Effect.logWarning("webhook_listen_lost"), { channel: store.channel, reason })
    ),
    Effect.retry(reconnecting),
    Effect.orElse(() => Effect.never)
  )
}

// --- internal

/** For ever. */
const reconnecting = Schedule.spaced("500 millis")

/** How often the connection is asked whether it is there, and how long it has to say so. */
const heartbeat = { every: Duration.seconds(2), within: Duration.seconds(2) }

type Lost = "connection lost" | "no answer" | "not connected"

// The tag's key, read off the service itself: a host on SQLite need not have the package.
const asPgClient = ({ sql }: Store): PgClient | undefined =>
  "~@effect/sql-pg/PgClient" in sql ? sql as PgClient : undefined

const connect = ({ config }: PgClient, store: Store): Effect.Effect<never, Lost, Scope.Scope> =>
  Effect.gen(function*() {
    const { default: pg } = yield* Effect.promise(() => import("pg"))
    const runtime = yield* Effect.runtime<never>()
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => new pg.Client(options(config))),
      (client) =>
        Effect.promise(() => client.end().catch(() => undefined)).pipe(
          Effect.interruptible,
          Effect.timeoutOption("1 second")
        )
    )
    const lost = Effect.async<never, Lost>((resume) => {
      client.on("error", () => resume(Effect.fail("connection lost")))
      client.on("end", () => resume(Effect.fail("connection lost")))
    })
    const watching = yield* Effect.forkScoped(lost)
    // Of what this process has committed itself its workers are told already.
    client.on("notification", ({ payload }) => {
      if (payload !== store.own) Runtime.runFork(runtime)(store.signal)
    })
    yield* ask(() => client.connect(), "not connected")
    yield* ask(() => client.query(`LISTEN ${client.escapeIdentifier(store.channel)}`), "not connected")
    yield* store.signal
    return yield* Effect.raceFirst(watching.await.pipe(Effect.flatten), beating(client))
  })

const beating = (client: Client): Effect.Effect<never, Lost> =>
  Effect.forever(Effect.zipRight(Effect.sleep(heartbeat.every), ask(() => client.query("SELECT 1"), "no answer")))

const ask = (call: () => Promise<unknown>, lost: Lost): Effect.Effect<void, Lost> =>
  Effect.timeoutFail(Effect.asVoid(Effect.tryPromise({ try: call, catch: () => lost })), {
    duration: heartbeat.within,
    onTimeout: () => lost
  })

const options = (config: PgClient["config"]): ClientConfig => ({
  connectionString: config.url === undefined ? undefined : Redacted.value(config.url),
  host: config.host,
  port: config.port,
  database: config.database,
  user: config.username,
  password: config.password === undefined ? undefined : Redacted.value(config.password),
  ssl: config.ssl,
  ...(config.stream === undefined ? {} : { stream: config.stream }),
  application_name: config.applicationName ?? "effect-webhooks",
  keepAlive: true
} as ClientConfig)
