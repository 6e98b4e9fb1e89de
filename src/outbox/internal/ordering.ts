/**
 * Order by aggregate id, for endpoints that ask for it: of the pending deliveries of one endpoint and one key at most one isn't held, and it is the
 * oldest that was there when its turn came. Both functions belong into a transaction; with PostgreSQL they take an advisory lock for each pair, in one order
 * for all, which lasts until it ends: so ids are given in the order in which transactions commit.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { Store } from "./store.js"

/** An endpoint and the aggregate id of a delivery to it. */
export interface Pair {
  readonly endpointId: string
  readonly orderKey: string
}

/** Locks the pairs against everybody else until the transaction ends. */
export const lock = ({ dialect, prefix, sql }: Store, pairs: ReadonlyArray<Pair>): Effect.Effect<void, SqlError> =>
  dialect === "sqlite" || pairs.length === 0
    ? Effect.void
    // One after the other, sorted: whoever locks several does so in the same order.
    : Effect.asVoid(sql`SELECT pg_advisory_xact_lock(hash) FROM (
        SELECT DISTINCT hashtextextended(name, 0) AS hash
        FROM jsonb_array_elements_text(${
      JSON.stringify(pairs.map((pair) => nameOf(prefix, pair)))
    }::text::jsonb) AS name
        ORDER BY hash OFFSET 0
      ) AS locks`)

/**
 * Gives the turn to the oldest pending delivery of each pair where none has it: after one has ended, after new ones have been stored (held, all of
 * them), after one has been made pending again. The pairs must be locked.
 */
export const release = (store: Store, pairs: ReadonlyArray<Pair>): Effect.Effect<void, SqlError> => {
  const { rows, sql, tables } = store
  if (pairs.length === 0) return Effect.void
  const items = pairs.map(({ endpointId, orderKey }) => ({ endpoint_id: endpointId, order_key: orderKey }))
  return Effect.asVoid(sql`UPDATE ${tables.deliveries} SET held = 0 WHERE held = 1 AND id IN (
    SELECT (
      SELECT min(d.id) FROM ${tables.deliveries} d
      WHERE d.endpoint_id = v.endpoint_id AND d.order_key = v.order_key AND d.state = 'pending' AND d.order_key IS NOT NULL
    )
    FROM ${rows(items, { endpoint_id: "text", order_key: "text" })}
    WHERE NOT EXISTS (
      SELECT 1 FROM ${tables.deliveries} o
      WHERE o.endpoint_id = v.endpoint_id AND o.order_key = v.order_key AND o.state = 'pending' AND o.order_key IS NOT NULL AND o.held = 0
    )
  )`)
}

// --- internal

const nameOf = (prefix: string, { endpointId, orderKey }: Pair): string => `${prefix} ${endpointId} ${orderKey}`
