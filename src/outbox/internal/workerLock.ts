/**
 * One worker for an SQLite database: a row that says which process has it. PostgreSQL needs none.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { hostname } from "node:os"
import { alphanumeric } from "../../SecureRandom.js"
import type { OutboxUnavailable } from "../OutboxError.js"
import type { Store } from "./store.js"

/** Another worker has the database; this one was not started. */
export class WorkerAlreadyRunning
  extends Schema.TaggedError<WorkerAlreadyRunning>("effect-webhooks/WorkerAlreadyRunning")("WorkerAlreadyRunning", {
    pid: Schema.Number,
    host: Schema.String
  })
{
  override get message(): string {
    return `a worker is already running on this database (process ${this.pid} on ${this.host}); SQLite has one worker at a time: ` +
      `stop the other, or use PostgreSQL for several`
  }
}

/** Keeps the lock while the scope is open. */
export interface WorkerLock {
  /** Whether it is still ours, or free again; renews it when a third of its time is over. */
  readonly check: Effect.Effect<boolean, OutboxUnavailable>
}

/** Takes the lock for `length` milliseconds at a time. A lock whose process has died is taken over at once. */
export const acquire = (
  store: Store,
  length: number
): Effect.Effect<WorkerLock, OutboxUnavailable | WorkerAlreadyRunning, Scope.Scope> =>
  store.dialect === "pg" ? Effect.succeed({ check: Effect.succeed(true) }) : Effect.gen(function*() {
    const token = yield* alphanumeric(16)
    const attempt = store.transaction(Effect.gen(function*() {
      const now = yield* store.now
      const other = yield* holder(store)
      if (other !== undefined && other.token !== token && isAlive(other, now)) return other
      yield* put(store, { token, pid: process.pid, host: hostname(), until: now + length })
      return undefined
    }))
    yield* Effect.acquireRelease(
      Effect.flatMap(attempt, (other) =>
        other === undefined
          ? Effect.sync(() => held.add(token))
          : Effect.fail(new WorkerAlreadyRunning({ pid: other.pid, host: other.host }))),
      () =>
        store.transaction(
          store.sql`DELETE FROM ${store.tables.meta} WHERE key = 'worker' AND value LIKE ${`%"${token}"%`}`
        ).pipe(Effect.ignore, Effect.ensuring(Effect.sync(() => held.delete(token))))
    )
    let renewAt = (yield* store.now) + length / 3
    return {
      check: Effect.flatMap(store.now, (now) =>
        now < renewAt ? Effect.succeed(true) : Effect.map(attempt, (other) => {
          if (other === undefined) renewAt = now + length / 3
          return other === undefined
        }))
    }
  })

// --- internal

/** Tokens of the locks that this very process holds. */
const held = new Set<string>()

interface Holder {
  readonly token: string
  readonly pid: number
  readonly host: string
  /** Milliseconds since the epoch. */
  readonly until: number
}

const HolderJson = Schema.parseJson(
  Schema.Struct({ token: Schema.String, pid: Schema.Int, host: Schema.String, until: Schema.Number })
)

const holder = ({ sql, tables }: Store): Effect.Effect<Holder | undefined, SqlError> =>
  Effect.flatMap(
    sql<{ readonly value: string }>`SELECT value FROM ${tables.meta} WHERE key = 'worker'`,
    ([row]) => Effect.orElseSucceed(Schema.decodeUnknown(HolderJson)(row?.value), () => undefined)
  )

const put = ({ sql, tables }: Store, value: Holder): Effect.Effect<void, SqlError> =>
  Effect.asVoid(sql`INSERT INTO ${tables.meta} (key, value) VALUES ('worker', ${JSON.stringify(value)})
    ON CONFLICT (key) DO UPDATE SET value = excluded.value`)

// On one machine the process itself is asked: by the time alone a restart after a crash would wait, and a clock that jumped would let two work.
const isAlive = ({ host, pid, token, until }: Holder, now: number): boolean => {
  if (host !== hostname()) return until > now
  if (pid === process.pid) return held.has(token)
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // Somebody else's process: there is one.
    return (error as NodeJS.ErrnoException).code === "EPERM"
  }
}
