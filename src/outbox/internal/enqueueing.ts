/**
 * Stores messages and their deliveries, in one transaction: of `Outbox`.
 */
import { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import type { Endpoint, Format } from "../../webhooks/Endpoint.js"
import type { Message } from "../../webhooks/Message.js"
import type { Claimed } from "./claiming.js"
import * as EndpointRows from "./endpointRows.js"
import * as Ordering from "./ordering.js"
import type { Reservation } from "./reserving.js"
import type { Store } from "./store.js"

/** A message that is ready to be stored. */
export interface Prepared {
  readonly message: Message
  readonly wanting: ReadonlyArray<Endpoint>
  readonly idempotencyKey: string | undefined
  /** Empty: nobody can hand it in a second time. */
  readonly digest: string
  readonly traceParent: string | undefined
  readonly createdAt: number
}

/** What became of it. */
export type Result =
  | { readonly _tag: "Stored"; readonly messageId: string; readonly duplicate: boolean; readonly deliveries: number }
  | { readonly _tag: "Conflict"; readonly messageId: string; readonly by: "id" | "idempotencyKey" }

/** What came of all of them. */
export interface Stored {
  readonly results: ReadonlyArray<Result>
  /** Deliveries that were stored as claimed. */
  readonly claimed: ReadonlyArray<Claimed>
  /** Whether others wait for a worker to find them. */
  readonly isWaiting: boolean
}

/**
 * Stores what is new of the messages and tells of each, in their order; a conflict stores nothing of its message. Must run in a transaction. Deliveries
 * that have a slot reserved are stored as claimed.
 */
export const run = (
  store: Store,
  items: ReadonlyArray<Prepared>,
  reservation: Reservation | undefined,
  before: Before | undefined
): Effect.Effect<Stored, SqlError> =>
  Effect.gen(function*() {
    // In one order for all, so that two transactions with the same keys wait for each other instead of killing each other.
    const sorted = [...items].sort((left, right) => compareTexts(keyOf(left), keyOf(right)))
    const fresh = new Set<Prepared>()
    for (let from = 0; from < sorted.length; from += chunk) {
      const some = sorted.slice(from, from + chunk)
      const inserted = yield* insertMessages(store, some)
      // Two of one id: it is the one that was inserted first.
      for (const item of some) if (inserted.delete(item.message.id)) fresh.add(item)
    }
    const results = new Map<Prepared, Result>()
    for (const item of fresh) {
      results.set(item, {
        _tag: "Stored",
        messageId: item.message.id,
        duplicate: false,
        deliveries: item.wanting.length
      })
    }
    const stored = items.filter((item) => fresh.has(item))
    const claimed = yield* insertDeliveries(store, stored, reservation)
    const known = items.filter((item) => !fresh.has(item))
    if (known.length > 0) yield* compare(store, known, results, before !== undefined)
    if (before?.fence !== undefined && known.length > 0) yield* unclaim(store, known, before.fence)
    const isWaiting = (before !== undefined && known.length > 0) ||
      stored.reduce((count, { wanting }) => count + wanting.length, 0) > claimed.length
    if (isWaiting) yield* store.wake
    return { results: items.map((item) => results.get(item)!), claimed, isWaiting }
  })

/** The same items have been run before, and nobody knows whether that was committed. */
export interface Before {
  /** Of deliveries that were then stored as claimed, which nobody has begun. */
  readonly fence: string | undefined
}

// --- internal

/** SQLite takes 32 766 parameters a statement, PostgreSQL 65 535; a message has 14. */
const chunk = 500

const insertMessages = (
  { execute, sql, tables }: Store,
  items: ReadonlyArray<Prepared>
): Effect.Effect<Set<string>, SqlError> => {
  const rows = items.map(({ createdAt, digest, idempotencyKey, message, traceParent, wanting }) => ({
    id: message.id,
    idempotency_key: idempotencyKey ?? null,
    digest,
    event_type: message.eventType,
    tenant: message.tenant ?? null,
    aggregate_id: message.aggregateId,
    occurred_at: message.occurredAt,
    correlation_id: message.correlationId,
    trace_parent: traceParent ?? null,
    deliveries: wanting.length,
    created_at: createdAt,
    body_event: bytes(message, "event"),
    body_standard: bytes(message, "standard"),
    body_cloudevents: bytes(message, "cloudevents")
  }))
  return Effect.map(
    execute<{ readonly id: string }>`INSERT INTO ${tables.messages} ${
      sql.insert(rows)
    } ON CONFLICT DO NOTHING RETURNING id`,
    (inserted) => new Set(inserted.map(({ id }) => id))
  )
}

const bytes = (message: Message, format: "cloudevents" | "event" | "standard"): Uint8Array | null => {
  const encoded = message.encoded.get(format)
  return encoded === undefined
    ? null
    : Buffer.from(encoded.bytes.buffer, encoded.bytes.byteOffset, encoded.bytes.length)
}

const keyOf = ({ idempotencyKey, message }: Prepared): string => idempotencyKey ?? message.id

const compareTexts = (left: string, right: string): number => left < right ? -1 : left > right ? 1 : 0

const insertDeliveries = (
  store: Store,
  items: ReadonlyArray<Prepared>,
  reservation: Reservation | undefined
): Effect.Effect<ReadonlyArray<Claimed>, SqlError> =>
  Effect.gen(function*() {
    const { execute, rows, sql, tables } = store
    const pairs: Array<Ordering.Pair> = []
    const deliveries: Array<object> = []
    const reserved = new Map<string, Reserved>()
    for (const item of items) {
      const { createdAt, message, wanting } = item
      for (const endpoint of wanting) {
        const orderKey = endpoint.ordered && message.aggregateId !== null ? orderKeyOf(message.aggregateId) : null
        if (orderKey !== null) pairs.push({ endpointId: endpoint.id, orderKey })
        const pair = { messageId: message.id, endpointId: endpoint.id }
        const kept = orderKey === null ? reservation?.endpointOf(pair) : undefined
        if (kept !== undefined) {
          reserved.set(`${message.id} ${endpoint.id}`, { item, endpoint: kept, format: endpoint.format })
        }
        deliveries.push({
          n: deliveries.length,
          message_id: message.id,
          endpoint_id: endpoint.id,
          event_type: message.eventType,
          format: endpoint.format,
          order_key: orderKey,
          created_at: createdAt,
          reserved: kept === undefined ? 0 : 1
        })
      }
    }
    if (deliveries.length === 0) {
      return []
    }
    yield* Ordering.lock(store, pairs)
    const table = rows(deliveries, {
      n: "integer",
      message_id: "text",
      endpoint_id: "text",
      event_type: "text",
      format: "text",
      order_key: "text",
      created_at: "bigint",
      reserved: "integer"
    })
    const now = yield* store.now
    const isReserved = reserved.size === 0
      ? sql.literal("1 = 0")
      : sql`(v.reserved = 1 AND ${EndpointRows.isOpen(store, now)})`
    // Those for endpoints that have said they don't want to hear from us any more are discarded.
    const inserted = yield* execute<Inserted>`INSERT INTO ${tables.deliveries}
      (message_id, endpoint_id, event_type, format, order_key, state, reason, lane, held, due_at, fence, created_at, ended_at)
      SELECT v.message_id, v.endpoint_id, v.event_type, v.format, v.order_key,
        CASE WHEN v.unwanted = 0 THEN 'pending' ELSE 'discarded' END, CASE WHEN v.unwanted = 1 THEN 'disabled' END,
        CASE WHEN v.claimed = 1 THEN 'leased' ELSE 'first' END, CASE WHEN v.unwanted = 0 AND v.order_key IS NOT NULL THEN 1 ELSE 0 END,
        CASE WHEN v.claimed = 1 THEN CAST(${now + (reservation?.length ?? 0)} AS BIGINT) ELSE 0 END,
        CASE WHEN v.claimed = 1 THEN CAST(${reservation?.fence ?? null} AS TEXT) END,
        v.created_at, CASE WHEN v.unwanted = 1 THEN v.created_at END
      FROM (
        SELECT v.*, CASE WHEN e.disabled_by IN ('gone', 'receiver') THEN 1 ELSE 0 END AS unwanted,
          CASE WHEN ${isReserved} THEN 1 ELSE 0 END AS claimed
        FROM ${table} LEFT JOIN ${tables.endpoints} e ON e.id = v.endpoint_id
      ) AS v
      ORDER BY v.n ${sql.literal(reserved.size === 0 ? "" : returning(store))}`
    if (yield* Ordering.seesCommitted(store, pairs)) yield* Ordering.release(store, pairs)
    return inserted.flatMap((row) => {
      const kept = reserved.get(`${row.message_id} ${row.endpoint_id}`)
      return row.fence === null || kept === undefined ? [] : [toClaimed(row, row.fence, kept)]
    })
  })

/** A delivery that a slot is kept for. */
interface Reserved {
  readonly item: Prepared
  readonly endpoint: Endpoint
  readonly format: Format
}

interface Inserted {
  readonly id: number | string
  readonly message_id: string
  readonly endpoint_id: string
  readonly fence: string | null
  readonly circuit: string | null
}

const returning = ({ prefix }: Store): string =>
  `RETURNING id, message_id, endpoint_id, fence, (SELECT e.circuit FROM ${prefix}endpoints e WHERE e.id = endpoint_id) AS circuit`

const toClaimed = (row: Inserted, fence: string, { endpoint, format, item }: Reserved): Claimed => ({
  id: Number(row.id),
  messageId: item.message.id,
  endpoint,
  eventType: item.message.eventType,
  format,
  orderKey: undefined,
  step: 0,
  attempts: 0,
  lapses: 0,
  once: false,
  fence,
  generation: EndpointRows.generationOf(row.circuit),
  notBefore: item.createdAt,
  retry: false,
  tenant: item.message.tenant,
  aggregateId: item.message.aggregateId,
  occurredAt: item.message.occurredAt,
  correlationId: item.message.correlationId,
  traceParent: item.traceParent,
  body: item.message.encoded.get(format)?.bytes
})

/** Makes what an earlier run has stored as claimed due for whoever finds it. */
const unclaim = (
  { execute, rows, tables }: Store,
  items: ReadonlyArray<Prepared>,
  fence: string
): Effect.Effect<void, SqlError> =>
  Effect.asVoid(execute`UPDATE ${tables.deliveries} SET lane = 'first', due_at = 0, fence = NULL
    WHERE fence = ${fence} AND message_id IN (SELECT v.id FROM ${
    rows(items.map(({ message }) => ({ id: message.id })), { id: "text" })
  })`)

/** An index entry of PostgreSQL holds 2 704 bytes. */
const orderKeyOf = (aggregateId: string): string =>
  aggregateId.length <= 200 ? aggregateId : createHash("sha256").update(aggregateId).digest("hex")

interface Known {
  readonly id: string
  readonly idempotency_key: string | null
  readonly digest: string
  readonly event_type: string
  readonly deliveries: number
  readonly created_at: number | string
  /** The bytes, where there is no digest. */
  readonly event: Uint8Array | null
  readonly standard: Uint8Array | null
  readonly cloudevents: Uint8Array | null
}

const knownColumns = `m.id, m.idempotency_key, m.digest, m.event_type, m.deliveries, m.created_at,
  CASE WHEN m.digest = '' THEN m.body_event END AS event, CASE WHEN m.digest = '' THEN m.body_standard END AS standard,
  CASE WHEN m.digest = '' THEN m.body_cloudevents END AS cloudevents`

/** Finds the first messages of those that were known already, and whether these are the same. */
const compare = (
  { rows, execute, sql, tables }: Store,
  items: ReadonlyArray<Prepared>,
  results: Map<Prepared, Result>,
  again: boolean
): Effect.Effect<void, SqlError> =>
  Effect.gen(function*() {
    const ids = rows(items.map(({ message }) => ({ id: message.id })), { id: "text" })
    const keys = rows(
      items.flatMap(({ idempotencyKey }) => idempotencyKey === undefined ? [] : [{ key: idempotencyKey }]),
      { key: "text" }
    )
    const found = [
      ...yield* execute<Known>`SELECT ${
        sql.literal(knownColumns)
      } FROM ${ids} JOIN ${tables.messages} m ON m.id = v.id`,
      ...yield* execute<Known>`SELECT ${
        sql.literal(knownColumns)
      } FROM ${keys} JOIN ${tables.messages} m ON m.idempotency_key = v.key`
    ]
    const byId = new Map(found.map((row) => [row.id, row]))
    const byKey = new Map(found.map((row) => [row.idempotency_key, row]))
    for (const item of items) {
      const keyed = item.idempotencyKey === undefined ? undefined : byKey.get(item.idempotencyKey)
      const first = keyed ?? byId.get(item.message.id)
      if (first === undefined) {
        // It has gone since, or was committed by a transaction that this one's isolation doesn't see: as PostgreSQL says itself, try again.
        return yield* new SqlError({ cause: { code: "40001" }, message: "concurrent change" })
      }
      const same = first.event_type === item.message.eventType &&
        (first.digest === "" ? sameBytes(first, item.message) : first.digest === item.digest)
      results.set(
        item,
        same
          ? {
            _tag: "Stored",
            messageId: first.id,
            duplicate: !(again && isOwn(first, item)),
            deliveries: Number(first.deliveries)
          }
          : { _tag: "Conflict", messageId: first.id, by: keyed === undefined ? "id" : "idempotencyKey" }
      )
    }
  })

const sameBytes = (row: Known, message: Message): boolean => {
  for (const [format, { bytes }] of message.encoded) {
    const stored = row[format]
    if (stored !== null) return Buffer.compare(stored, bytes) === 0
  }
  return false
}

/** Stored by an earlier run of the very same call, whose COMMIT did come through. */
const isOwn = (row: Known, item: Prepared): boolean =>
  row.id === item.message.id && Number(row.created_at) === item.createdAt
