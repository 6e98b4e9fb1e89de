/**
 * What results make of their endpoints' rows. Those of an endpoint that has no failures are written once a second, not with each batch: a row that is written is locked
 * until the commit, and claims, and other workers' results, wait for it (on PostgreSQL one worker delivered 7 % more without, four a quarter). The row is behind by what a
 * worker did in less than a second, until its next look after that; in a backlog until the next time that some are written together, a thousand at most.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { defaults } from "../../Defaults.js"
import { EgressBlocked } from "../../http/ResilientHttpClientError.js"
import type { DeliveryReport } from "../../webhooks/WebhookSender.js"
import type { Claimed } from "./claiming.js"
import * as EndpointRows from "./endpointRows.js"
import * as Health from "./health.js"
import { rowOf } from "./planning.js"
import type { Store } from "./store.js"

/** How an attempt ended, as far as the endpoint goes. */
export interface Told extends Pick<Health.Result, "circuitResult" | "disable"> {
  readonly claimed: Pick<Claimed, "endpoint" | "generation">
  readonly report: DeliveryReport | undefined
}

/** What there is to tell of an endpoint. */
export interface Event {
  readonly endpointId: string
  readonly type: Health.HealthEvent | "endpoint.blocked"
  readonly reason?: string
}

export interface Folded {
  readonly events: ReadonlyArray<Event>
  /** To be run when the transaction has committed. */
  readonly committed: Effect.Effect<void>
}

export interface Folding {
  /** Folds the results in, in their order. Must run in a transaction, and once in it; not twice at a time. */
  readonly fold: (store: Store, results: ReadonlyArray<Told>, now: number) => Effect.Effect<Folded, SqlError>
  /** Whether, by what was seen last and less than `age` milliseconds ago, none of the results makes a difference to its endpoint's row but when it is written. */
  readonly mayWait: (results: ReadonlyArray<Told>, now: number, age?: number) => boolean
  /** Counts results that wait and have been written down; gives the endpoints whose `rows` say by now that they must not: to be flushed. */
  readonly wait: (
    results: ReadonlyArray<Told>,
    rows: ReadonlyMap<string, EndpointRows.EndpointRow>,
    now: number
  ) => ReadonlyArray<string>
  /** Endpoints whose successes have waited for long enough at `now`, at most a thousand; without a time, all that wait. */
  readonly waiting: (now?: number) => ReadonlyArray<string>
  /** Writes what waits of the endpoints whose rows nobody has locked, in a transaction of its own. The rest waits on. Not while a `fold` is under way. */
  readonly flush: (store: Store, ids: ReadonlyArray<string>) => Effect.Effect<void>
  /** To be run where nobody knows whether the last transaction has committed: what it wrote of successes that had waited is not written again. */
  readonly lost: Effect.Effect<void>
}

export const make = (settings: Health.Settings): Folding => {
  // By endpoint: those that were written the longest time ago come first.
  const kept = new Map<string, Kept>()
  let writing: ReadonlyArray<string> = []

  const mayWait = (id: string, results: ReadonlyArray<Told>, now: number, age = longest): boolean => {
    const { generation, writtenAt } = kept.get(id) ?? never
    return now < writtenAt + age && results.every((one) => isSuccess(one, generation))
  }

  const count = (id: string, more: number, now: number): void => {
    const before = kept.get(id)!
    kept.set(id, { ...before, count: before.count + more, lastAt: now })
  }

  /** Rows with what has waited counted, and the `results` after it. */
  const write = (
    store: Store,
    locked: ReadonlyMap<string, EndpointRows.EndpointRow>,
    results: ReadonlyArray<Told>,
    now: number
  ): Effect.Effect<Folded, SqlError> =>
    Effect.gen(function*() {
      writing = [...locked.keys()]
      const rows = new Map(locked)
      for (const [id, row] of locked) {
        const { count, generation, lastAt } = kept.get(id) ?? never
        if (count > 0) rows.set(id, Health.succeeded(row, count, generation, lastAt))
      }
      const events: Array<Event> = []
      for (const one of results) foldOne(one, rows, events, now, settings)
      yield* EndpointRows.write(store, rows.values(), now)
      const committed = Effect.sync(() => {
        for (const [id, row] of rows) {
          const { generation } = row.circuit
          kept.delete(id)
          kept.set(id, { writtenAt: now, count: 0, generation, lastAt: now, calm: isCalm(row, generation) })
        }
        for (const id of kept.keys()) {
          if (kept.size <= defaults.maxKeys) break
          kept.delete(id)
        }
      })
      return { events, committed }
    })

  const lost = Effect.sync(() => {
    for (const id of writing) kept.delete(id)
  })

  return {
    fold: (store, results, now) =>
      Effect.gen(function*() {
        const byEndpoint = group(results)
        const recent = [...byEndpoint].flatMap(([id, list]) => mayWait(id, list, now) ? [id] : [])
        const seen = yield* EndpointRows.see(store, recent, settings.circuit)
        const waiting = new Set(recent.filter((id) => isCalm(seen.get(id), kept.get(id)!.generation)))
        const ids = [...byEndpoint.keys()].filter((id) => !waiting.has(id))
        const { committed, events } = yield* write(
          store,
          yield* EndpointRows.lock(store, ids, now, settings.circuit),
          results.filter(({ claimed }) => !waiting.has(claimed.endpoint.id)),
          now
        )
        const counted = Effect.sync(() => {
          for (const id of waiting) count(id, byEndpoint.get(id)!.length, now)
        })
        return { events, committed: Effect.zipRight(counted, committed) }
      }),
    mayWait: (results, now, age) => {
      for (const [id, list] of group(results)) {
        if (kept.get(id)?.calm !== true || !mayWait(id, list, now, age)) return false
      }
      return true
    },
    wait: (results, rows, now) =>
      [...group(results)].flatMap(([id, { length }]) => {
        count(id, length, now)
        return isCalm(rows.get(id), kept.get(id)!.generation) ? [] : [id]
      }).sort(),
    waiting: (now) => {
      const ids = [...kept].flatMap(([id, { count, writtenAt }]) =>
        count > 0 && (now === undefined || now >= writtenAt + longest) ? [id] : []
      )
      return (now === undefined ? ids : ids.slice(0, mostFlushed)).sort()
    },
    flush: (store, ids) => {
      const written = store.transaction(Effect.gen(function*() {
        return yield* write(store, yield* EndpointRows.tryLock(store, ids, settings.circuit), [], yield* store.now)
      }))
      // Whoever stops waiting must not leave it open whether it was written.
      return ids.length === 0 ? Effect.void : Effect.uninterruptible(Effect.matchEffect(written, {
        onFailure: ({ reason }) => reason === "unreachable" ? lost : Effect.void,
        onSuccess: ({ committed }) => committed
      }))
    },
    lost
  }
}

// --- internal

/** Successes of an endpoint that wait to be written. All times in milliseconds since the epoch. */
interface Kept {
  readonly writtenAt: number
  readonly count: number
  /** Of the circuit that they count in. */
  readonly generation: number
  /** The last of them. */
  readonly lastAt: number
  /** Whether the row, when it was written, said that they may wait. */
  readonly calm: boolean
}

const never: Kept = { writtenAt: -Infinity, count: 0, generation: -1, lastAt: 0, calm: false }

const group = (results: ReadonlyArray<Told>): ReadonlyMap<string, ReadonlyArray<Told>> => {
  const byEndpoint = new Map<string, Array<Told>>()
  for (const one of results) {
    const list = byEndpoint.get(one.claimed.endpoint.id)
    if (list === undefined) byEndpoint.set(one.claimed.endpoint.id, [one])
    else list.push(one)
  }
  return byEndpoint
}

/** How long successes may wait, in milliseconds. */
const longest = 1000

const mostFlushed = 1000

const isSuccess = ({ circuitResult, claimed, report }: Told, generation: number): boolean =>
  report?.outcome === "delivered" && circuitResult === "Success" && claimed.generation === generation

/** Whether a success, sooner or later, makes no difference to what the row says. */
const isCalm = (row: EndpointRows.EndpointRow | undefined, generation: number): boolean =>
  row?.circuit._tag === "Closed" && row.circuit.generation === generation && row.circuit.results.b === 0 &&
  row.consecutiveFailures === 0

const foldOne = (
  { circuitResult, claimed, disable, report }: Told,
  rows: Map<string, EndpointRows.EndpointRow>,
  events: Array<Event>,
  now: number,
  settings: Health.Settings
): void => {
  const endpointId = claimed.endpoint.id
  const isKnown = events.some((event) => event.endpointId === endpointId && event.type === "endpoint.blocked")
  if (report?.error instanceof EgressBlocked && !isKnown) {
    events.push({ endpointId, type: "endpoint.blocked", reason: report.error.message })
  }
  const folded = Health.settle(rowOf(rows, endpointId, settings.circuit), {
    delivered: report?.outcome === "delivered",
    circuitResult,
    generation: claimed.generation,
    retryAfter: report?.retryAfter,
    status: report?.status,
    disable,
    now
  }, settings)
  rows.set(endpointId, folded.row)
  for (const type of folded.events) {
    const reason = type === "endpoint.disabled" ? folded.row.disabled?.reason : undefined
    events.push({ endpointId, type, ...(reason === undefined ? {} : { reason }) })
  }
}
