/**
 * Reads of messages, deliveries and attempts, and the counts of `stats`. Each statement reads a bounded number of rows through an index, but for the
 * counts, which read the index entries of what they count.
 */
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Effect from "effect/Effect"
import { turn } from "../../http/internal/turn.js"
import type { Format } from "../../webhooks/Endpoint.js"
import { DeliveryNotFound, InvalidCursor, MessageNotFound } from "../DeliveriesError.js"
import type { OutboxUnavailable } from "../OutboxError.js"
import {
  type Attempt,
  type AttemptRow,
  columns,
  type Delivery,
  type DeliveryRow,
  parseDeliveryId,
  type State,
  toAttempt,
  toDelivery
} from "./deliveryRows.js"
import { asId, isStorable } from "./storable.js"
import type { Store } from "./store.js"

/** A message as it is stored, with its deliveries. */
export interface StoredMessage {
  readonly id: string
  readonly eventType: string
  readonly tenant: string | undefined
  readonly aggregateId: string | null
  /** RFC 3339. */
  readonly occurredAt: string
  readonly correlationId: string
  readonly idempotencyKey: string | undefined
  /** Milliseconds since the epoch. */
  readonly createdAt: number
  readonly deliveries: ReadonlyArray<Delivery>
  /** The encoded bytes of each format that an endpoint wanted. */
  readonly bodies: ReadonlyMap<Format, Uint8Array>
}

/** Which deliveries; what is absent doesn't matter. */
export interface Filter {
  readonly state?: State | undefined
  /** An endpoint's id. */
  readonly endpoint?: string | undefined
  /** An event type, exactly. */
  readonly type?: string | undefined
}

/** Some deliveries, newest first. */
export interface Page {
  readonly items: ReadonlyArray<Delivery>
  /** The cursor of the page after this; absent when there is none. */
  readonly next: string | undefined
}

export const message = (store: Store, id: string): Effect.Effect<StoredMessage, MessageNotFound | OutboxUnavailable> =>
  store.query(Effect.gen(function*() {
    if (!isStorable(id)) return yield* new MessageNotFound({ id: asId(id) })
    const { execute, tables } = store
    const [row] = yield* execute<MessageRow>`SELECT * FROM ${tables.messages} WHERE id = ${id}`
    if (row === undefined) return yield* new MessageNotFound({ id: asId(id) })
    const deliveries = yield* execute<DeliveryRow>`SELECT ${columns(store)} FROM ${tables.deliveries} AS d
      WHERE d.message_id = ${id} ORDER BY d.id`
    const now = yield* store.now
    const bodies = new Map<Format, Uint8Array>()
    for (const format of formats) {
      const body = row[`body_${format}`]
      if (body !== null) bodies.set(format, body)
    }
    return {
      id: row.id,
      eventType: row.event_type,
      tenant: row.tenant ?? undefined,
      aggregateId: row.aggregate_id,
      occurredAt: row.occurred_at,
      correlationId: row.correlation_id,
      idempotencyKey: row.idempotency_key ?? undefined,
      createdAt: Number(row.created_at),
      deliveries: deliveries.map((delivery) => toDelivery(delivery, now)),
      bodies
    }
  }))

export const delivery = (store: Store, id: string): Effect.Effect<Delivery, DeliveryNotFound | OutboxUnavailable> =>
  store.query(Effect.gen(function*() {
    const number = parseDeliveryId(id)
    if (number === undefined) return yield* new DeliveryNotFound({ id: asId(id) })
    const [row] = yield* store.execute<DeliveryRow>`SELECT ${columns(store)} FROM ${store.tables.deliveries} AS d
      WHERE d.id = ${number}`
    if (row === undefined) return yield* new DeliveryNotFound({ id: asId(id) })
    return toDelivery(row, yield* store.now)
  }))

export const attempts = (
  store: Store,
  id: string
): Effect.Effect<ReadonlyArray<Attempt>, DeliveryNotFound | OutboxUnavailable> =>
  Effect.zipRight(
    delivery(store, id),
    store.query(Effect.map(
      store.execute<AttemptRow>`
        SELECT delivery_id, number, started_at, duration, outcome, class, status, excerpt FROM ${store.tables.attempts}
        WHERE delivery_id = ${parseDeliveryId(id)} ORDER BY number`,
      (rows) => rows.map(toAttempt)
    ))
  )

/** One page, from `cursor` on. `stretch`: rows that one statement looks through at most for what no index knows. */
export const list = (
  store: Store,
  filter: Filter,
  cursor: string | undefined,
  limit: number,
  stretch = 10_000
): Effect.Effect<Page, InvalidCursor | OutboxUnavailable> =>
  Effect.gen(function*() {
    const start = cursor === undefined ? Number.MAX_SAFE_INTEGER : parseDeliveryId(cursor)
    if (start === undefined) return yield* new InvalidCursor()
    if (!isStorable(`${filter.endpoint ?? ""}${filter.type ?? ""}`)) return { items: [], next: undefined }
    const { found: base, sought } = conditions(store, filter)
    const rows: Array<DeliveryRow> = []
    let before = start
    while (rows.length <= limit) {
      // What is rare is looked for stretch by stretch, so that no statement takes long.
      const low = sought.length === 0 ? 0 : yield* store.query(lowest(store, base, before, stretch))
      rows.push(
        ...yield* store.query(between(store, [...base, ...sought], before, low, limit + 1 - rows.length))
      )
      if (low === 0) break
      before = low
      // SQLite answers within the turn: others come in between.
      yield* turn
    }
    const now = yield* store.now
    const items = rows.slice(0, limit).map((row) => toDelivery(row, now))
    return { items, next: rows.length > limit ? items.at(-1)?.id : undefined }
  })

// --- internal

const formats: ReadonlyArray<Format> = ["event", "standard", "cloudevents"]

type MessageRow = { readonly [K in Format as `body_${K}`]: Uint8Array | null } & {
  readonly id: string
  readonly event_type: string
  readonly tenant: string | null
  readonly aggregate_id: string | null
  readonly occurred_at: string
  readonly correlation_id: string
  readonly idempotency_key: string | null
  readonly created_at: number | string
}

/**
 * What an index finds, newest first, and what is sought in that. The failed ones have an index; of the others an endpoint has one, and without
 * one they are taken from the whole table, where most are delivered and the newest are pending.
 */
const conditions = (
  { sql }: Store,
  { endpoint, state, type }: Filter
): { readonly found: ReadonlyArray<Fragment>; readonly sought: ReadonlyArray<Fragment> } => {
  const ofEndpoint = endpoint === undefined ? [] : [sql`d.endpoint_id = ${endpoint}`]
  const ofType = type === undefined ? [] : [sql`d.event_type = ${type}`]
  if (state === undefined) return { found: ofEndpoint, sought: ofType }
  const ofState = sql`d.state = ${state}`
  return state === "exhausted" || state === "discarded"
    // The second is what the index says of itself.
    ? { found: [ofState, sql`d.state IN ('exhausted', 'discarded')`], sought: [...ofEndpoint, ...ofType] }
    : { found: ofEndpoint, sought: [ofState, ...ofType] }
}

/** The lowest id of the next stretch below `before`; 0: the stretch reaches the end. */
const lowest = (
  { execute, sql, tables }: Store,
  found: ReadonlyArray<Fragment>,
  before: number,
  stretch: number
): Effect.Effect<number, SqlError> =>
  Effect.map(
    execute<{ readonly low: number | string | null; readonly n: number | string }>`
      SELECT MIN(w.id) AS low, COUNT(*) AS n FROM (
        SELECT d.id FROM ${tables.deliveries} AS d WHERE ${sql.and([sql`d.id < ${before}`, ...found])}
        ORDER BY d.id DESC LIMIT ${stretch}
      ) AS w`,
    ([row]) => row === undefined || Number(row.n) < stretch ? 0 : Number(row.low)
  )

/** Deliveries with `low` <= id < `before`, newest first. */
const between = (
  store: Store,
  found: ReadonlyArray<Fragment>,
  before: number,
  low: number,
  limit: number
): Effect.Effect<ReadonlyArray<DeliveryRow>, SqlError> => {
  const { execute, sql, tables } = store
  return execute<DeliveryRow>`SELECT ${columns(store)} FROM ${tables.deliveries} AS d
    WHERE ${sql.and([sql`d.id < ${before}`, sql`d.id >= ${low}`, ...found])} ORDER BY d.id DESC LIMIT ${limit}`
}
