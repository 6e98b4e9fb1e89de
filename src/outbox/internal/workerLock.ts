/**
 * One worker for an SQLite database: a row that says which process has it. PostgreSQL needs none.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { readFileSync, readlinkSync } from "node:fs"
import { hostname } from "node:os"
import { alphanumeric } from "../../SecureRandom.js"
import type { OutboxUnavailable } from "../OutboxError.js"
import type { Store } from "./store.js"

/** Another worker has the database; this one was not started. */
export class WorkerAlreadyRunning
  extends Schema.TaggedError<WorkerAlreadyRunning>("effect-webhooks/WorkerAlreadyRunning")("WorkerAlreadyRunning", {
    pid: Schema.Number,
    host: Schema.String,
    /** Milliseconds after which its lock is free, unless it renews it. */
    endsIn: Schema.Number
  })
{
  override get message(): string {
    return `a worker is already running on this database (process ${this.pid} on ${this.host}); SQLite has one worker at a time: ` +
      `stop the other, or use PostgreSQL for several. If that process is gone, its lock ends in ${
        Math.ceil(this.endsIn / 1000)
      } s`
  }
}

/** Keeps the lock while the scope is open. */
export interface WorkerLock {
  /** Whether it is still ours, or free again; renews it when a third of its time is over. */
  readonly check: Effect.Effect<boolean, OutboxUnavailable>
}

/**
 * Takes the lock for `length` milliseconds at a time; one that isn't renewed is free then. One whose process has surely died is taken over at once, so that a
 * restart after a crash doesn't wait.
 */
export const acquire = (
  store: Store,
  length: number
): Effect.Effect<WorkerLock, OutboxUnavailable | WorkerAlreadyRunning, Scope.Scope> =>
  store.dialect === "pg" ? Effect.succeed({ check: Effect.succeed(true) }) : Effect.gen(function*() {
    const token = yield* alphanumeric(16)
    const self = {
      token,
      pid: process.pid,
      host: hostname(),
      place: placeOf(),
      started: statusOf(process.pid)?.started
    }
    const attempt = store.transaction(Effect.gen(function*() {
      const now = yield* store.now
      const other = yield* holder(store)
      if (other !== undefined && other.token !== token && other.until > now && !hasDied(other, self)) {
        return new WorkerAlreadyRunning({ pid: other.pid, host: other.host, endsIn: other.until - now })
      }
      yield* put(store, { ...self, until: now + length })
      return undefined
    }))
    yield* Effect.acquireRelease(
      Effect.flatMap(attempt, (other) => other === undefined ? Effect.sync(() => held.add(token)) : Effect.fail(other)),
      () =>
        store.transaction(
          store.execute`DELETE FROM ${store.tables.meta} WHERE key = 'worker' AND value LIKE ${`%"${token}"%`}`
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

interface Self {
  readonly token: string
  readonly pid: number
  readonly host: string
  /** Where `pid` means something; `undefined`: it can't be told. */
  readonly place?: string | undefined
  /** When the process began, in the system's own terms: another of the same id began later. */
  readonly started?: string | undefined
}

interface Holder extends Self {
  /** Milliseconds since the epoch. */
  readonly until: number
}

const HolderJson = Schema.parseJson(
  Schema.Struct({
    token: Schema.String,
    pid: Schema.Int,
    host: Schema.String,
    until: Schema.Number,
    place: Schema.optional(Schema.String),
    started: Schema.optional(Schema.String)
  })
)

const holder = ({ execute, tables }: Store): Effect.Effect<Holder | undefined, SqlError> =>
  Effect.flatMap(
    execute<{ readonly value: string }>`SELECT value FROM ${tables.meta} WHERE key = 'worker'`,
    ([row]) => Effect.orElseSucceed(Schema.decodeUnknown(HolderJson)(row?.value), () => undefined)
  )

const put = ({ execute, tables }: Store, value: Holder): Effect.Effect<void, SqlError> =>
  Effect.asVoid(execute`INSERT INTO ${tables.meta} (key, value) VALUES ('worker', ${JSON.stringify(value)})
    ON CONFLICT (key) DO UPDATE SET value = excluded.value`)

/**
 * Whether the process is surely gone. Of an id from elsewhere nobody can tell: containers share the name of a machine, and each has a process 1.
 */
const hasDied = ({ pid, place, started, token }: Holder, self: Self): boolean => {
  if (place === undefined || place !== self.place) return false
  if (pid === self.pid && started === self.started) return !held.has(token)
  try {
    process.kill(pid, 0)
  } catch (error) {
    // Somebody else's process (`EPERM`) is one, too.
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return true
  }
  const found = statusOf(pid)
  // Killed, and not yet asked after by its parent, a process still answers to its id.
  if (found?.state === "Z" || found?.state === "X") return true
  return found !== undefined && started !== undefined && found.started !== started
}

/** On Linux the boot of the machine and the namespace of process ids; other systems have one for all, and their name. */
const placeOf = (): string | undefined => {
  if (process.platform !== "linux") return `${process.platform} ${hostname()}`
  try {
    // Mounted in another namespace, it shows other ids.
    if (readlinkSync("/proc/self") !== String(process.pid)) return undefined
    return `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()} ${readlinkSync("/proc/self/ns/pid")}`
  } catch {
    return undefined
  }
}

/** The third and the 22nd field of `/proc/[pid]/stat` (proc_pid_stat(5)); the second, a name in parentheses, may hold anything. */
const statusOf = (
  pid: number
): { readonly state: string | undefined; readonly started: string | undefined } | undefined => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return { state: fields[0], started: fields[19] }
  } catch {
    return undefined
  }
}
