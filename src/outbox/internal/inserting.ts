/**
 * The statements that insert messages and their deliveries, and the deliveries that are stored as claimed.
 */
import type { Fragment } from "@effect/sql/Statement"
import { createHash } from "node:crypto"
import type { Endpoint, Format } from "../../webhooks/Endpoint.js"
import type { Message } from "../../webhooks/Message.js"
import type { Claimed } from "./claiming.js"
import * as EndpointRows from "./endpointRows.js"
import type { Pair as OrderedPair } from "./ordering.js"
import { keyOfPair, type Reservation } from "./reserving.js"
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

/**
 * In one order for all, so that two transactions with the same keys, or the same ids, wait for each other. (Where ids come with a key and without one, PostgreSQL
 * may still have to end one of two; that is run again.)
 */
export const inOrder = (items: ReadonlyArray<Prepared>): ReadonlyArray<Prepared> =>
  [...items].sort((left, right) => compareTexts(keyOf(left), keyOf(right)))

/** Parts of them that one statement takes. */
export const chunksOf = (items: ReadonlyArray<Prepared>): ReadonlyArray<ReadonlyArray<Prepared>> => {
  const chunks: Array<Array<Prepared>> = []
  let left = 0
  for (const item of items) {
    const size = sizeOf(item)
    if (left < size || chunks.at(-1)!.length === mostMessages) {
      chunks.push([])
      left = mostBytes
    }
    chunks.at(-1)!.push(item)
    left -= size
  }
  return chunks
}

/** Inserts the messages; of those that are known it does nothing, or fails, if it is `strict`. */
export const messages = (store: Store, items: ReadonlyArray<Prepared>, strict = false): Fragment =>
  store.sql`INSERT INTO ${store.tables.messages} ${
    store.dialect === "pg" ? selected(store, items) : store.sql.insert(items.map(valuesOf))
  } ${store.sql.literal(strict ? "" : "ON CONFLICT DO NOTHING")}`

/** The deliveries of messages, before they are stored. */
export interface Plan {
  /** Rows of the statement. */
  readonly rows: ReadonlyArray<object>
  /** Those that a slot is kept for, by message and endpoint. */
  readonly reserved: ReadonlyMap<string, Reserved>
  readonly reservation: Reservation | undefined
  /** What is in order. */
  readonly pairs: ReadonlyArray<OrderedPair>
}

export const plan = (items: ReadonlyArray<Prepared>, reservation: Reservation | undefined): Plan => {
  const pairs: Array<OrderedPair> = []
  const rows: Array<object> = []
  const reserved = new Map<string, Reserved>()
  for (const item of items) {
    const { createdAt, message, wanting } = item
    for (const endpoint of wanting) {
      const orderKey = endpoint.ordered && message.aggregateId !== null ? orderKeyOf(message.aggregateId) : null
      if (orderKey !== null) pairs.push({ endpointId: endpoint.id, orderKey })
      const pair = { messageId: message.id, endpointId: endpoint.id }
      const kept = orderKey === null ? reservation?.endpointOf(pair) : undefined
      if (kept !== undefined) {
        reserved.set(keyOfPair(pair), { item, endpoint: kept, format: endpoint.format })
      }
      rows.push({
        n: rows.length,
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
  return { rows, reserved, reservation, pairs }
}

/**
 * Inserts the deliveries, those that have a slot as claimed if their endpoint may be sent to; those for endpoints that have said they don't want to hear from us any
 * more are discarded. Returns `Inserted` where something may have been claimed. Of `only`, a table `m` of ids, where not all messages are to have theirs.
 */
export const deliveries = (
  store: Store,
  { reservation, reserved, rows }: Plan,
  now: number,
  only?: "m"
): Fragment => {
  const { sql, tables } = store
  const table = store.rows(rows, {
    n: "integer",
    message_id: "text",
    endpoint_id: "text",
    event_type: "text",
    format: "text",
    order_key: "text",
    created_at: "bigint",
    reserved: "integer"
  })
  const isReserved = reserved.size > 0
    ? sql`(v.reserved = 1 AND ${EndpointRows.isOpen(store, now)})`
    : sql.literal("1 = 0")
  return sql`INSERT INTO ${tables.deliveries}
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
      FROM ${table} ${
    sql.literal(only === undefined ? "" : "JOIN m ON m.id = v.message_id")
  } LEFT JOIN ${tables.endpoints} e ON e.id = v.endpoint_id
    ) AS v
    ORDER BY v.n ${sql.literal(only === undefined && reserved.size === 0 ? "" : returning(store))}`
}

/** A row as the statement returns it. */
export interface Inserted {
  readonly id: number | string
  readonly message_id: string
  readonly endpoint_id: string
  readonly fence: string | null
  readonly circuit: string | null
}

/** What has been stored as claimed. */
export const claimed = (inserted: ReadonlyArray<Inserted>, { reserved }: Plan): ReadonlyArray<Claimed> =>
  inserted.flatMap((row) => {
    const kept = reserved.get(keyOfPair({ messageId: row.message_id, endpointId: row.endpoint_id }))
    return row.fence === null || kept === undefined ? [] : [toClaimed(row, row.fence, kept)]
  })

// --- internal

/** A delivery that a slot is kept for. */
interface Reserved {
  readonly item: Prepared
  readonly endpoint: Endpoint
  readonly format: Format
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

/** Of a statement. */
const mostMessages = 500
const mostBytes = 32 * 1024 * 1024

const sizeOf = ({ message }: Prepared): number => {
  let size = 0
  for (const { bytes } of message.encoded.values()) size += bytes.length
  return size
}

const columns = {
  id: "text",
  idempotency_key: "text",
  digest: "text",
  event_type: "text",
  tenant: "text",
  aggregate_id: "text",
  occurred_at: "text",
  correlation_id: "text",
  trace_parent: "text",
  deliveries: "integer",
  created_at: "bigint"
} as const

/** Where the bodies of a message are in the parameter that has all. */
const places = {
  event_at: "integer",
  event_length: "integer",
  standard_at: "integer",
  standard_length: "integer",
  cloudevents_at: "integer",
  cloudevents_length: "integer"
} as const

// As one literal: put together of two, a batch of 100 took SQLite 6 % longer.
const valuesOf = ({ createdAt, digest, idempotencyKey, message, traceParent, wanting }: Prepared) => ({
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
  body_event: bufferOf(message.encoded.get("event")?.bytes),
  body_standard: bufferOf(message.encoded.get("standard")?.bytes),
  body_cloudevents: bufferOf(message.encoded.get("cloudevents")?.bytes)
})

const bufferOf = (bytes: Uint8Array | undefined): Buffer | null =>
  bytes === undefined ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)

/**
 * Two parameters, the fields and all bodies: as one for each value, a message took PostgreSQL's driver half as much CPU again (237 µs for 131). SQLite takes values
 * faster than it takes JSON apart.
 */
const selected = ({ rows, sql }: Store, items: ReadonlyArray<Prepared>): Fragment => {
  const bodies: Array<Buffer> = []
  let next = 1
  const placeOf = (body: Buffer | null) => {
    if (body === null) return null
    const at = next
    bodies.push(body)
    next += body.length
    return [at, body.length] as const
  }
  const fields = items.map((item, n) => {
    const { body_cloudevents, body_event, body_standard, ...values } = valuesOf(item)
    const [event, standard, cloudevents] = [body_event, body_standard, body_cloudevents].map(placeOf)
    return {
      n,
      ...values,
      event_at: event?.[0],
      event_length: event?.[1],
      standard_at: standard?.[0],
      standard_length: standard?.[1],
      cloudevents_at: cloudevents?.[0],
      cloudevents_length: cloudevents?.[1]
    }
  })
  const names = Object.keys(columns)
  return sql`(${sql.literal(names.join(", "))}, body_event, body_standard, body_cloudevents)
    SELECT ${sql.literal(names.map((name) => `v.${name}`).join(", "))}, substr(b.bodies, v.event_at, v.event_length),
      substr(b.bodies, v.standard_at, v.standard_length), substr(b.bodies, v.cloudevents_at, v.cloudevents_length)
    FROM (SELECT CAST(${bodies.length === 1 ? bodies[0] : Buffer.concat(bodies)} AS BYTEA) AS bodies) AS b
    CROSS JOIN ${rows(fields, { n: "integer", ...columns, ...places })}
    ORDER BY v.n`
}

const keyOf = ({ idempotencyKey, message }: Prepared): string => idempotencyKey ?? message.id

const compareTexts = (left: string, right: string): number => left < right ? -1 : left > right ? 1 : 0

/** An index entry of PostgreSQL holds 2 704 bytes. */
const orderKeyOf = (aggregateId: string): string =>
  aggregateId.length <= 200 ? aggregateId : createHash("sha256").update(aggregateId).digest("hex")
