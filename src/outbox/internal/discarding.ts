/**
 * Discards what is pending for endpoints that have said they don't want to hear from us any more.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { OutboxUnavailable } from "../OutboxError.js"
import type { Store } from "./store.js"

/** Discards, at most a thousand of each endpoint at a time, what nobody is sending at this moment; gives their number. */
export const discardPending = (
  store: Store,
  endpointIds: ReadonlyArray<string>
): Effect.Effect<number, OutboxUnavailable> =>
  endpointIds.length === 0
    ? Effect.succeed(0)
    : Effect.map(
      store.transaction(
        Effect.flatMap(store.now, (now) => Effect.forEach(endpointIds, (id) => discard(store, id, now)))
      ),
      (counts) => counts.reduce((sum, count) => sum + count, 0)
    )

/** Endpoints that don't want to hear from us and of which an ordered delivery still waits for its turn, which no claim would ever see. */
export const heldByGone = (
  { query, execute, tables: { deliveries, endpoints } }: Store
): Effect.Effect<ReadonlyArray<string>, OutboxUnavailable> =>
  query(Effect.map(
    execute<
      { readonly id: string }
    >`SELECT e.id FROM ${endpoints} e WHERE e.disabled_by IN ('gone', 'receiver') AND EXISTS (
      SELECT 1 FROM ${deliveries} d WHERE d.state = 'pending' AND d.order_key IS NOT NULL AND d.endpoint_id = e.id
    )`,
    (rows) => rows.map(({ id }) => id)
  ))

// --- internal

const discard = (
  { dialect, execute, sql, tables: { deliveries } }: Store,
  endpointId: string,
  now: number
): Effect.Effect<number, SqlError> => {
  const free = sql.literal(dialect === "pg" ? "FOR UPDATE SKIP LOCKED" : "")
  const ending = sql`SET
    state = CASE WHEN once = 1 THEN 'delivered' ELSE 'discarded' END, reason = CASE WHEN once = 1 THEN NULL ELSE 'disabled' END,
    held = 0, once = 0, fence = NULL, ended_at = ${now}`
  return Effect.zipWith(
    execute`UPDATE ${deliveries} ${ending} WHERE id IN (
      SELECT id FROM ${deliveries}
      WHERE state = 'pending' AND held = 0 AND endpoint_id = ${endpointId} AND (lane <> 'leased' OR due_at <= ${now})
      LIMIT 1000 ${free}
    ) RETURNING 1`,
    execute`UPDATE ${deliveries} ${ending} WHERE id IN (
      SELECT id FROM ${deliveries}
      WHERE state = 'pending' AND order_key IS NOT NULL AND held = 1 AND endpoint_id = ${endpointId}
      LIMIT 1000 ${free}
    ) RETURNING 1`,
    (free, held) => free.length + held.length
  )
}
