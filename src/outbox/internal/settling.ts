/**
 * What an attempt makes of its delivery (pure), and writing that down: deliveries, attempts and the health of endpoints in one transaction.
 */
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { defaults } from "../../Defaults.js"
import { EgressBlocked, transportFailure } from "../../http/ResilientHttpClientError.js"
import * as Outcome from "../../webhooks/Outcome.js"
import type { DeliveryReport } from "../../webhooks/WebhookSender.js"
import type { OutboxUnavailable } from "../OutboxError.js"
import type { Claimed } from "./claiming.js"
import type * as Folding from "./folding.js"
import * as Ordering from "./ordering.js"
import type { Store } from "./store.js"

/** An attempt that has ended, or a delivery that ends without one. */
export interface Ended {
  readonly claimed: Claimed
  /** Absent: no attempt was made … */
  readonly report: DeliveryReport | undefined
  /** … since its leases have lapsed too often, and not because the worker was stopped. */
  readonly crashed: boolean
  /** When the attempt began, in milliseconds since the epoch. */
  readonly startedAt: number
  /** Chance, 0 to 1, for the jitter of the next delay. */
  readonly chance: number
}

/** What becomes of a delivery. */
export interface Settlement {
  readonly state: "delivered" | "discarded" | "exhausted" | "pending"
  /** Why it ended, unless delivered in the ordinary way. */
  readonly reason: string | undefined
  /** Of a pending one: the attempt of the schedule that is next, and when it is due (0: at once). */
  readonly step: number
  readonly dueAt: number
  /** What the endpoint's row is told. */
  readonly disable: "gone" | "receiver" | undefined
}

/** The delays of the attempts, in milliseconds, the first included. */
export type Schedule = ReadonlyArray<number>

/** What an attempt that ended at `now` makes of its delivery. */
export const decide = ({ chance, claimed, crashed, report }: Ended, schedule: Schedule, now: number): Settlement => {
  const ends = (state: Settlement["state"], reason: string | undefined, disable?: "gone" | "receiver"): Settlement => ({
    state,
    reason,
    step: claimed.step,
    dueAt: 0,
    disable
  })
  if (crashed) return claimed.once ? ends("delivered", undefined) : ends("exhausted", "crashed")
  // Given back, as if it had not been claimed.
  if (report === undefined || report.class === "interrupted") return ends("pending", undefined)
  if (report.outcome === "delivered") return ends("delivered", undefined)
  const { directive, status } = report
  const disable = status === 410 ? "gone" : directive === "disable" ? "receiver" : undefined
  if (claimed.once) return ends("delivered", undefined, disable)
  if (disable !== undefined) return ends("discarded", disable === "gone" ? "gone" : "disabled", disable)
  if (directive === "abort-message") return ends("discarded", "aborted")
  // A name may have other addresses tomorrow; what a URL says stays.
  if (report.class === "blocked" && !isBlockedByName(report)) return ends("exhausted", "rejected")
  const step = claimed.step + 1
  const delay = schedule[step]
  if (delay === undefined) return ends("exhausted", "attempts")
  // A kept connection that had been closed: most likely the receiver never saw it, and there is nothing to wait for.
  const own = isStale(report) ? 0 : delay * (1 + chance * defaults.durableJitter)
  return {
    state: "pending",
    reason: undefined,
    step,
    dueAt: Math.ceil(now + Math.max(own, report.retryAfter ?? 0)),
    disable: undefined
  }
}

/** An attempt, and what it makes of its delivery. */
export interface Decided {
  readonly ended: Ended
  readonly settlement: Settlement
}

/** What an endpoint's row is told. */
export const toldOf = ({ ended: { claimed, report }, settlement }: Decided): Folding.Told => ({
  claimed,
  report,
  disable: settlement.disable,
  // One that was not sent gives its permit back; and that a receiver closes connections which nobody uses is no fault of it.
  circuitResult: report === undefined || isStale(report) ? "Neutral" : Outcome.forCircuit(report)
})

/** What is kept of an answer's body: cut where it may have been in the middle of a character, which JSON columns refuse. */
export const excerptOf = ({ excerpt }: DeliveryReport): string | null => excerpt?.replace(/\p{Cs}/gu, "\uFFFD") ?? null

/** What has been written. */
export interface Settled {
  /** Those that were still ours, with what has become of them. */
  readonly settled: ReadonlyArray<Decided>
  /** Those whose lease had been lost: nothing was changed. */
  readonly lost: ReadonlyArray<Ended>
  readonly events: ReadonlyArray<Folding.Event>
  readonly at: number
}

/** Writes down how attempts ended. A delivery whose fence is another's by now stays as it is. */
export const settle = (
  store: Store,
  batch: ReadonlyArray<Ended>,
  schedule: Schedule,
  folding: Folding.Folding
): Effect.Effect<Settled, OutboxUnavailable> => {
  const written = store.transaction(Effect.gen(function*() {
    const now = yield* store.now
    const decided = batch.map((ended) => ({ ended, settlement: decide(ended, schedule, now) }))
    const pairs = decided.flatMap(({ ended: { claimed: { endpoint, orderKey } }, settlement }) =>
      orderKey !== undefined && settlement.state !== "pending" ? [{ endpointId: endpoint.id, orderKey }] : []
    )
    // Without waiting: a host's transaction that holds one must not stop everybody's results. Whose turn it is then, a sweep finds.
    const locked = yield* Ordering.tryLock(store, pairs)
    const ours = yield* record(store, decided, now)
    const settled = decided.filter(({ ended }) => ours.has(ended.claimed.id))
    yield* Ordering.release(store, locked)
    const { committed, events } = yield* folding.fold(store, settled.map(toldOf), now)
    const lost = batch.filter(({ claimed }) => !ours.has(claimed.id))
    return { committed, result: { settled, lost, events, at: now } }
  }))
  const known = Effect.tapError(written, ({ reason }) => reason === "unreachable" ? folding.lost : Effect.void)
  return Effect.flatMap(known, ({ committed, result }) => Effect.as(committed, result))
}

/** Renews the leases that are still ours. */
export const renew = (
  { now, rows, execute, tables: { deliveries }, transaction }: Store,
  held: ReadonlyArray<Claimed>,
  length: number
): Effect.Effect<void, OutboxUnavailable> =>
  held.length === 0 ?
    Effect.void :
    transaction(Effect.flatMap(now, (now) =>
      Effect.asVoid(execute`UPDATE ${deliveries} SET due_at = ${now + length}
      FROM ${rows(held.map(({ fence, id }) => ({ id, fence })), { id: "bigint", fence: "text" })}
      WHERE ${deliveries}.id = v.id AND ${deliveries}.fence = v.fence AND ${deliveries}.lane = 'leased'`)))

// --- internal

const isStale = (report: DeliveryReport): boolean => transportFailure(report.error)?.stale === true

const isBlockedByName = (report: DeliveryReport): boolean =>
  report.error instanceof EgressBlocked && report.error.by === "name"

interface Id {
  readonly id: number | string
}

/** Writes what became of the deliveries, and their attempts; gives the ids of those that were still ours. */
const record = (store: Store, decided: ReadonlyArray<Decided>, now: number): Effect.Effect<Set<number>, SqlError> => {
  const { dialect, execute, sql } = store
  const ends = decided.map(({ ended }) => ended)
  const idsOf = (rows: ReadonlyArray<Id>) => new Set(rows.map(({ id }) => Number(id)))
  if (dialect === "pg") {
    // In one statement: each takes the way to the server and back.
    const attempts = insertAttempts(store, ends, sql.literal("delivery_id IN (SELECT id FROM u)"))
    const inserted = attempts === undefined ? sql`` : sql`, a AS (${attempts})`
    return Effect.map(execute<Id>`WITH u AS (${update(store, decided, now)})${inserted} SELECT id FROM u`, idsOf)
  }
  return Effect.gen(function*() {
    const ours = idsOf(yield* execute<Id>`${update(store, decided, now)}`)
    const attempts = insertAttempts(
      store,
      ends.filter(({ claimed }) => ours.has(claimed.id)),
      sql.literal("delivery_id IS NOT NULL")
    )
    if (attempts !== undefined) yield* execute`${attempts}`
    return ours
  })
}

const update = ({ rows, sql, tables }: Store, decided: ReadonlyArray<Decided>, now: number): Fragment => {
  const items = decided.map(({ ended: { claimed, report }, settlement }) => {
    const attempts = claimed.attempts + (report?.attempts ?? 0)
    const givenBack = settlement.state === "pending" && (report === undefined || report.class === "interrupted")
    // What may kill a process is still to be tried alone: as a lease that has lapsed, which whoever finds it counts.
    const suspect = givenBack && claimed.lapses > 0
    return {
      id: claimed.id,
      fence: claimed.fence,
      state: settlement.state,
      reason: settlement.reason ?? null,
      lane: suspect ? "leased" : attempts === 0 && settlement.step === 0 ? "first" : "retry",
      due_at: settlement.dueAt,
      step: settlement.step,
      lapses: suspect ? claimed.lapses - 1 : 0,
      once: claimed.once && settlement.state === "pending" ? 1 : 0,
      attempts,
      last_status: report?.status ?? null,
      last_class: report?.class ?? null,
      ended_at: settlement.state === "pending" ? null : now
    }
  })
  const table = rows(items, {
    id: "bigint",
    fence: "text",
    state: "text",
    reason: "text",
    lane: "text",
    due_at: "bigint",
    step: "integer",
    lapses: "integer",
    once: "integer",
    attempts: "integer",
    last_status: "integer",
    last_class: "text",
    ended_at: "bigint"
  })
  return sql`
    UPDATE ${tables.deliveries} SET
      state = v.state, reason = v.reason, lane = v.lane, due_at = v.due_at, fence = NULL, lapses = v.lapses, once = v.once, step = v.step,
      attempts = v.attempts, last_status = v.last_status, last_class = v.last_class, ended_at = v.ended_at
    FROM ${table} WHERE ${tables.deliveries}.id = v.id AND ${tables.deliveries}.fence = v.fence
    RETURNING ${tables.deliveries}.id AS id`
}

/** Of those attempts that were made, and whose deliveries `which` takes. */
const insertAttempts = (
  { rows, sql, tables }: Store,
  batch: ReadonlyArray<Ended>,
  which: Fragment
): Fragment | undefined => {
  const items = batch.flatMap(({ claimed, report, startedAt }) =>
    report === undefined || report.attempts === 0 ? [] : [{
      delivery_id: claimed.id,
      number: claimed.attempts + 1,
      started_at: startedAt,
      duration: Math.round(report.duration),
      outcome: report.outcome,
      class: report.class ?? null,
      status: report.status ?? null,
      excerpt: excerptOf(report)
    }]
  )
  return items.length === 0 ? undefined : sql`
    INSERT INTO ${tables.attempts} (delivery_id, number, started_at, duration, outcome, class, status, excerpt)
    SELECT delivery_id, number, started_at, duration, outcome, class, status, excerpt
    FROM ${
    rows(items, {
      delivery_id: "bigint",
      number: "integer",
      started_at: "bigint",
      duration: "bigint",
      outcome: "text",
      class: "text",
      status: "integer",
      excerpt: "text"
    })
  } WHERE ${which} ON CONFLICT DO NOTHING`
}

/** Days and hours after which an endpoint with nothing but failures is disabled. */
export const disabling = {
  disableAfter: Duration.toMillis(defaults.failing.period),
  disableSpread: Duration.toMillis(defaults.failing.spread)
}
