/**
 * Takes away what has ended and whose retention has passed, a batch a transaction, so that nothing else waits for long.
 */
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Effect from "effect/Effect"
import type { OutboxUnavailable } from "../OutboxError.js"
import type { State } from "./deliveryRows.js"
import { giveWay, type Store } from "./store.js"

/** How much was taken away. */
export interface Purged {
  readonly messages: number
  readonly deliveries: number
}

/** Deliveries of a state that ended at `before` (milliseconds since the epoch) or earlier, their attempts, and the messages that have none left. */
export const purgeDeliveries = (
  store: Store,
  state: Exclude<State, "pending">,
  before: number,
  batch: number
): Effect.Effect<Purged, OutboxUnavailable> =>
  inBatches(
    store,
    store.transaction(deliveryBatch(store, state, before, batch)),
    ({ deliveries }) => deliveries < batch
  )

/** Messages that no endpoint wanted, stored at `before` or earlier. */
export const purgeUnrouted = (
  store: Store,
  before: number,
  batch: number
): Effect.Effect<Purged, OutboxUnavailable> =>
  inBatches(store, store.transaction(unroutedBatch(store, before, batch)), ({ messages }) => messages < batch)

// --- internal

const inBatches = (
  store: Store,
  one: Effect.Effect<Purged, OutboxUnavailable>,
  isLast: (purged: Purged) => boolean
): Effect.Effect<Purged, OutboxUnavailable> => {
  const loop = (before: Purged): Effect.Effect<Purged, OutboxUnavailable> =>
    Effect.flatMap(Effect.timed(one), ([took, purged]) => {
      const sum = {
        messages: before.messages + purged.messages,
        deliveries: before.deliveries + purged.deliveries
      }
      return isLast(purged) ? Effect.succeed(sum) : Effect.zipRight(giveWay(store, took), loop(sum))
    })
  return loop({ messages: 0, deliveries: 0 })
}

const deliveryBatch = (
  store: Store,
  state: Exclude<State, "pending">,
  before: number,
  batch: number
): Effect.Effect<Purged, SqlError> =>
  Effect.gen(function*() {
    const { dialect, rows, execute, tables } = store
    // `state <> 'pending'` is what the index says of itself.
    const ended = yield* execute<{ readonly id: number | string; readonly message_id: string }>`
      SELECT d.id, d.message_id FROM ${tables.deliveries} AS d
      WHERE d.state = ${state} AND d.state <> 'pending' AND d.ended_at <= ${before}
      ORDER BY d.ended_at, d.id LIMIT ${batch} ${skipLocked(store)}`
    if (ended.length === 0) return { messages: 0, deliveries: 0 }
    const ids = rows(ended.map(({ id }) => ({ id: Number(id) })), { id: "bigint" })
    const messages = rows([...new Set(ended.map((row) => row.message_id))].map((id) => ({ id })), { id: "text" })
    yield* execute`DELETE FROM ${tables.attempts} WHERE delivery_id IN (SELECT v.id FROM ${ids})`
    yield* execute`DELETE FROM ${tables.deliveries} WHERE id IN (SELECT v.id FROM ${ids})`
    // Two purges that take the last two deliveries of a message would each see the other's and leave the message for ever.
    if (dialect === "pg") {
      yield* execute`SELECT m.id FROM ${tables.messages} AS m WHERE m.id IN (SELECT v.id FROM ${messages})
        ORDER BY m.id FOR UPDATE OF m`
    }
    const left = yield* execute`
      DELETE FROM ${tables.messages} WHERE id IN (
        SELECT v.id FROM ${messages}
        WHERE NOT EXISTS (SELECT 1 FROM ${tables.deliveries} AS d WHERE d.message_id = v.id)
      ) RETURNING id`
    return { messages: left.length, deliveries: ended.length }
  })

const unroutedBatch = (store: Store, before: number, batch: number): Effect.Effect<Purged, SqlError> =>
  Effect.map(
    store.execute`
      DELETE FROM ${store.tables.messages} WHERE id IN (
        SELECT m.id FROM ${store.tables.messages} AS m
        WHERE m.deliveries = 0 AND m.created_at <= ${before}
        ORDER BY m.created_at LIMIT ${batch} ${skipLocked(store)}
      ) RETURNING id`,
    (rows) => ({ messages: rows.length, deliveries: 0 })
  )

const skipLocked = ({ dialect, sql }: Store): Fragment => sql.literal(dialect === "pg" ? "FOR UPDATE SKIP LOCKED" : "")
