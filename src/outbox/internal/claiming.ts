/**
 * Takes deliveries for a while. What a claim touches is what it takes: it reads only the rows that it claims (and what is due is found without reading what is
 * pending: see `scanning`).
 */
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import { defaults } from "../../Defaults.js"
import type * as Circuit from "../../http/Circuit.js"
import type { Endpoint } from "../../webhooks/Endpoint.js"
import type { Format } from "../../webhooks/Endpoint.js"
import type { OutboxUnavailable } from "../OutboxError.js"
import * as EndpointRows from "./endpointRows.js"
import { type Grant, grant, rowOf, type Want } from "./planning.js"
import type { Store } from "./store.js"

/** A delivery that a worker has. */
export interface Claimed {
  readonly id: number
  readonly messageId: string
  readonly endpoint: Endpoint
  readonly eventType: string
  readonly format: Format
  readonly orderKey: string | undefined
  /** Which attempt of the schedule is next, from 0. */
  readonly step: number
  /** Requests made before this one. */
  readonly attempts: number
  /** Leases that lapsed, this claim's finding included. */
  readonly lapses: number
  /** A replay of a delivered one: it stays delivered, whatever comes. */
  readonly once: boolean
  readonly fence: string
  /** Of the endpoint's circuit. */
  readonly generation: number
  /** Not to be sent before this time. */
  readonly notBefore: number
  readonly retry: boolean
  readonly tenant: string | undefined
  readonly aggregateId: string | null
  readonly occurredAt: string
  readonly correlationId: string
  readonly traceParent: string | undefined
  readonly body: Uint8Array | undefined
}

/** How long a claim lasts, and whose it is. */
export interface Lease {
  /** Milliseconds. */
  readonly length: number
  readonly fence: string
  readonly circuit: Circuit.Settings
  /** Milliseconds from storing to the first attempt. */
  readonly firstDelay: number
}

/** Claims what is wanted, as far as it is there and the endpoints' rows allow it. */
export const claim = (
  store: Store,
  wants: ReadonlyArray<Want>,
  lease: Lease
): Effect.Effect<ReadonlyArray<Claimed>, OutboxUnavailable> => store.transaction(claimWithin(store, wants, lease))

/** The same in the caller's transaction. */
export const claimWithin = (
  store: Store,
  wants: ReadonlyArray<Want>,
  lease: Lease
): Effect.Effect<ReadonlyArray<Claimed>, SqlError> =>
  Effect.gen(function*() {
    const now = yield* store.now
    // As they are now: since the plan was made one may have been disabled, or its circuit have opened. In one statement, and in the order of the ids: of two, one
    // would hold what results wait for while it waits for them.
    const ids = wants.map(({ endpoint }) => endpoint.id)
    const rows = yield* wants.some(({ guarded }) => guarded)
      ? EndpointRows.lock(store, ids, now, lease.circuit)
      : EndpointRows.keep(store, ids, lease.circuit)
    const takes: Array<Take & { readonly granted: Grant; readonly guarded: boolean }> = []
    for (const want of wants) {
      const { endpoint, first, guarded, retry } = want
      const row = rowOf(rows, endpoint.id, lease.circuit)
      // A probe is for who has the row to itself: next time.
      if (!guarded && row.circuit._tag !== "Closed") continue
      const granted = grant(row, endpoint, first + retry, now, lease.circuit)
      const some = granted.times.length
      const retries = Math.min(retry, row.circuit._tag === "Closed" ? retriesOf(want, some) : some)
      if (some > 0) takes.push({ endpoint, first: Math.min(first, some - retries), retry: retries, granted, guarded })
    }
    const taken = yield* take(store, takes, now, lease)
    const byEndpoint = new Map<string, Array<Row>>()
    for (const row of taken) {
      const list = byEndpoint.get(row.endpoint_id)
      if (list === undefined) byEndpoint.set(row.endpoint_id, [row])
      else list.push(row)
    }
    yield* EndpointRows.write(
      store,
      takes.flatMap(({ endpoint, granted, guarded }) =>
        guarded && byEndpoint.has(endpoint.id)
          ? [granted.after(byEndpoint.get(endpoint.id)!.length)]
          : []
      ),
      now
    )
    return takes.flatMap(({ endpoint, granted }) =>
      (byEndpoint.get(endpoint.id) ?? []).sort((left, right) => Number(left.id) - Number(right.id)).map((row, index) =>
        toClaimed(row, endpoint, lease.fence, granted.generation, granted.times[index] ?? now)
      )
    )
  })

/** Whether what was claimed is all that was due of what was wanted: each endpoint gave less than it was asked for, and nothing else limited it. */
export const isAll = (wants: ReadonlyArray<Want>, claimed: ReadonlyArray<Claimed>): boolean => {
  const got = new Map<string, number>()
  for (const { endpoint } of claimed) got.set(endpoint.id, (got.get(endpoint.id) ?? 0) + 1)
  return wants.every(({ endpoint, first, guarded, retry }) => !guarded && (got.get(endpoint.id) ?? 0) < first + retry)
}

/** A delivery on its last try: when this lease lapses, too, it is given up. */
export const isLastTry = ({ lapses }: Pick<Claimed, "lapses">): boolean => lapses === defaults.worker.lapses - 1

/**
 * Claims one delivery whose lease has lapsed without a word, of one of the endpoints, and counts the lapse: of an endpoint that has none of them under way
 * first, then one that has lapsed less often. Those under way here (`own`) are left out: their lease lapsed because the database could not be reached.
 * While there are `suspects` under way, none begins its last try.
 */
export const claimSuspect = (
  store: Store,
  endpoints: ReadonlyArray<Endpoint>,
  own: ReadonlyArray<number>,
  suspects: ReadonlyArray<Claimed>,
  lease: Lease
): Effect.Effect<Claimed | undefined, OutboxUnavailable> =>
  store.transaction(Effect.gen(function*() {
    const now = yield* store.now
    const { rows, execute, tables: { deliveries } } = store
    const byId = new Map(endpoints.map((endpoint) => [endpoint.id, endpoint]))
    const busy = new Set(suspects.map(({ endpoint }) => endpoint.id))
    const asked = endpoints.map(({ id }) => ({ id, busy: busy.has(id) ? 1 : 0 }))
    const [found] = yield* execute<{ readonly id: number | string; readonly endpoint_id: string }>`
      SELECT d.id, d.endpoint_id FROM ${rows(asked, { id: "text", busy: "integer" })}
      JOIN ${deliveries} d ON d.endpoint_id = v.id
      WHERE d.state = 'pending' AND d.held = 0 AND d.lane = 'leased' AND d.due_at <= ${now}
        AND d.id NOT IN (SELECT id FROM ${rows(own.map((id) => ({ id })), { id: "bigint" })} WHERE id IS NOT NULL)
        AND d.lapses <> ${suspects.length === 0 ? -1 : defaults.worker.lapses - 2}
      ORDER BY v.busy, d.lapses, d.due_at LIMIT 1 ${skipLocked(store)}`
    const endpoint = byId.get(found?.endpoint_id ?? "")
    if (found === undefined || endpoint === undefined) return undefined
    const row = rowOf(yield* EndpointRows.lock(store, [endpoint.id], now, lease.circuit), endpoint.id, lease.circuit)
    const granted = grant(row, endpoint, 1, now, lease.circuit)
    if (granted.times.length === 0) return undefined
    yield* execute`UPDATE ${deliveries} SET due_at = ${now + lease.length}, fence = ${lease.fence}, lapses = lapses + 1
      WHERE id = ${found.id}`
    yield* EndpointRows.write(store, [granted.after(1)], now)
    const [claimed] = yield* read(store, [Number(found.id)])
    return claimed && toClaimed(claimed, endpoint, lease.fence, granted.generation, granted.times[0] ?? now)
  }))

/** A row of `claimedColumns`. */
export interface Row {
  readonly id: number | string
  readonly message_id: string
  readonly endpoint_id: string
  readonly event_type: string
  readonly format: Format
  readonly order_key: string | null
  readonly step: number
  readonly attempts: number
  readonly lapses: number
  readonly once: number
  readonly tenant: string | null
  readonly aggregate_id: string | null
  readonly occurred_at: string
  readonly correlation_id: string
  readonly trace_parent: string | null
  readonly body: Uint8Array | null
}

/** Of a delivery `d` and its message `m`. */
export const claimedColumns =
  `d.id, d.message_id, d.endpoint_id, d.event_type, d.format, d.order_key, d.step, d.attempts, d.lapses, d.once,
  m.tenant, m.aggregate_id, m.occurred_at, m.correlation_id, m.trace_parent,
  CASE d.format WHEN 'standard' THEN m.body_standard WHEN 'cloudevents' THEN m.body_cloudevents ELSE m.body_event END AS body`

/** How many deliveries of a lane are wanted of an endpoint. */
export interface Wanted {
  readonly endpoint_id: string
  readonly lane: string
  readonly n: number
}

/** The lanes of what is wanted. */
export const lanesOf = (takes: ReadonlyArray<Take>): ReadonlyArray<Wanted> =>
  takes.flatMap(({ endpoint, first, retry }) => [
    { endpoint_id: endpoint.id, lane: "first", n: first },
    { endpoint_id: endpoint.id, lane: "retry", n: retry }
  ]).filter(({ n }) => n > 0)

/**
 * On PostgreSQL: an array of the places (`ctid`) of what may be claimed of what is `wanted` (rows `v`), which are locked. Whoever has changed one since the statement began
 * has moved it, and it is not found: as if it had been locked.
 */
export const pickPg = (store: Store, wanted: Fragment, now: number, lease: Lease): Fragment =>
  // As an array: PostgreSQL takes the number of rows of a subquery for a share of the table, and reads all of it.
  store.sql`ARRAY(
    SELECT p.ctid FROM ${wanted} CROSS JOIN LATERAL (
      SELECT d.ctid FROM ${store.tables.deliveries} d
      WHERE ${isPending(store, now, lease)} AND d.endpoint_id = v.endpoint_id AND d.lane = v.lane AND d.due_at <= ${now}
      ORDER BY d.due_at, d.id LIMIT v.n FOR UPDATE SKIP LOCKED
    ) p
  )`

export const wantedRows = (store: Store, wanted: ReadonlyArray<Wanted>): Fragment =>
  store.rows(wanted, { endpoint_id: "text", lane: "text", n: "integer" })

/** What makes a delivery a claimed one. */
export const leased = ({ sql }: Store, now: number, lease: Lease): Fragment =>
  sql`lane = 'leased', due_at = ${now + lease.length}, fence = ${lease.fence}`

export const toClaimed = (
  row: Row,
  endpoint: Endpoint,
  fence: string,
  generation: number,
  notBefore: number
): Claimed => ({
  id: Number(row.id),
  messageId: row.message_id,
  endpoint,
  eventType: row.event_type,
  format: row.format,
  orderKey: row.order_key ?? undefined,
  step: Number(row.step),
  attempts: Number(row.attempts),
  lapses: Number(row.lapses),
  once: Number(row.once) === 1,
  fence,
  generation,
  notBefore,
  retry: Number(row.attempts) > 0,
  tenant: row.tenant ?? undefined,
  aggregateId: row.aggregate_id,
  occurredAt: row.occurred_at,
  correlationId: row.correlation_id,
  traceParent: row.trace_parent ?? undefined,
  body: row.body ?? undefined
})

// --- internal

type Take = Pick<Want, "endpoint" | "first" | "retry">

/** Of fewer than are wanted: a quarter are first attempts, and of one every other one. (Of a probe it is the one that has waited longest.) */
const retriesOf = ({ first, turn }: Want, granted: number): number =>
  granted === 1 && first > 0 ? (turn === "retry" ? 1 : 0) : granted - Math.min(first, Math.ceil(granted / 4))

const skipLocked = ({ dialect, sql }: Store) => sql.literal(dialect === "pg" ? "FOR UPDATE SKIP LOCKED" : "")

const take = (
  store: Store,
  takes: ReadonlyArray<Take>,
  now: number,
  lease: Lease
): Effect.Effect<ReadonlyArray<Row>, SqlError> =>
  Effect.map(
    Effect.forEach(Arr.chunksOf(lanesOf(takes), mostTerms), (some) => takeSome(store, some, now, lease)),
    (rows) => rows.flat()
  )

/** SQLite puts at most 500 queries together. */
const mostTerms = 400

const isPending = ({ sql }: Store, now: number, { firstDelay }: Lease): Fragment =>
  firstDelay === 0
    ? sql.literal("d.state = 'pending' AND d.held = 0")
    : sql`d.state = 'pending' AND d.held = 0 AND (d.lane <> 'first' OR d.created_at <= ${now - firstDelay})`

const takeSome = (
  store: Store,
  wanted: ReadonlyArray<Wanted>,
  now: number,
  lease: Lease
): Effect.Effect<ReadonlyArray<Row>, SqlError> => {
  const { dialect, execute, sql, tables: { deliveries, messages } } = store
  const picked = dialect === "pg"
    ? sql`ctid = ANY (${pickPg(store, wantedRows(store, wanted), now, lease)})`
    : sql`id IN (${
      sql.join(" UNION ALL ", false)(wanted.map(({ endpoint_id, lane, n }) =>
        sql`SELECT id FROM (
          SELECT d.id FROM ${deliveries} d
          WHERE ${isPending(store, now, lease)} AND d.endpoint_id = ${endpoint_id} AND d.lane = ${lane}
            AND d.due_at <= ${now}
          ORDER BY d.due_at, d.id LIMIT ${n}
        )`
      ))
    })`
  const taken = sql`UPDATE ${deliveries} SET ${leased(store, now, lease)} WHERE ${picked} RETURNING`
  return dialect === "pg"
    // In one statement: each takes the way to the server and back.
    ? execute<Row>`WITH d AS (${taken} *) SELECT ${
      sql.literal(claimedColumns)
    } FROM d JOIN ${messages} m ON m.id = d.message_id`
    : Effect.flatMap(
      execute<{ readonly id: number | string }>`${taken} id`,
      (ids) => read(store, ids.map(({ id }) => Number(id)))
    )
}

const read = (store: Store, ids: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<Row>, SqlError> => {
  const { rows, execute, sql, tables: { deliveries, messages } } = store
  return ids.length === 0 ? Effect.succeed([]) : execute<Row>`
    SELECT ${sql.literal(claimedColumns)} FROM ${rows(ids.map((id) => ({ id })), { id: "bigint" })}
    JOIN ${deliveries} d ON d.id = v.id JOIN ${messages} m ON m.id = d.message_id`
}
