/**
 * What results make of their endpoints' rows. Those of an endpoint that has no failures are written once a second, not with each batch: a row that is written is locked
 * until the commit, and claims, and other workers' results, wait for it (on PostgreSQL one worker delivered 7 % more without, four a quarter). The row is behind by what a
 * worker did in less than a second, until that has a result of the endpoint again; it stays so where the worker ends before.
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
  /** To be run where nobody knows whether the last transaction has committed: what it wrote of successes that had waited is not written again. */
  readonly lost: Effect.Effect<void>
}

export const make = (settings: Health.Settings): Folding => {
  // By endpoint: those that were written the longest time ago come first.
  const kept = new Map<string, Kept>()
  let writing: ReadonlyArray<string> = []

  return {
    fold: (store, results, now) =>
      Effect.gen(function*() {
        const byEndpoint = new Map<string, Array<Told>>()
        for (const one of results) {
          const list = byEndpoint.get(one.claimed.endpoint.id)
          if (list === undefined) byEndpoint.set(one.claimed.endpoint.id, [one])
          else list.push(one)
        }
        const recent = [...byEndpoint].flatMap(([id, list]) => {
          const { generation, writtenAt } = kept.get(id) ?? never
          return now < writtenAt + longest && list.every((one) => isSuccess(one, generation)) ? [id] : []
        })
        const seen = yield* EndpointRows.see(store, recent, settings.circuit)
        const waiting = new Set(recent.filter((id) => isCalm(seen.get(id), kept.get(id)!.generation)))
        const ids = [...byEndpoint.keys()].filter((id) => !waiting.has(id)).sort()
        writing = ids
        const rows = new Map(yield* EndpointRows.lock(store, ids, now, settings.circuit))
        for (const id of ids) {
          const { count, generation, lastAt } = kept.get(id) ?? never
          const row = rowOf(rows, id, settings.circuit)
          rows.set(id, count === 0 ? row : Health.succeeded(row, count, generation, lastAt))
        }
        const events: Array<Event> = []
        for (const one of results) {
          if (!waiting.has(one.claimed.endpoint.id)) foldOne(one, rows, events, now, settings)
        }
        yield* EndpointRows.write(store, rows.values(), now)
        const committed = Effect.sync(() => {
          for (const id of waiting) {
            const before = kept.get(id)!
            kept.set(id, { ...before, count: before.count + byEndpoint.get(id)!.length, lastAt: now })
          }
          for (const [id, { circuit: { generation } }] of rows) {
            kept.delete(id)
            kept.set(id, { writtenAt: now, count: 0, generation, lastAt: now })
          }
          for (const id of kept.keys()) {
            if (kept.size <= defaults.maxKeys) break
            kept.delete(id)
          }
        })
        return { events, committed }
      }),
    lost: Effect.sync(() => {
      for (const id of writing) kept.delete(id)
    })
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
}

const never: Kept = { writtenAt: -Infinity, count: 0, generation: -1, lastAt: 0 }

/** How long successes may wait, in milliseconds. */
const longest = 1000

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
