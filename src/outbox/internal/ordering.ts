/**
 * Order by aggregate id, for endpoints that ask for it: of the pending deliveries of one endpoint and one key at most one isn't held, and it is the
 * oldest that was there when its turn came. Both functions belong into a transaction; with PostgreSQL they take an advisory lock for each pair, in one order
 * for all, which lasts until it ends: so ids are given in the order in which transactions commit.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { OutboxUnavailable } from "../OutboxError.js"
import type { Store } from "./store.js"

/** An endpoint and the aggregate id of a delivery to it. */
export interface Pair {
  readonly endpointId: string
  readonly orderKey: string
}

/** Locks the pairs against everybody else until the transaction ends. */
export const lock = ({ dialect, prefix, execute }: Store, pairs: ReadonlyArray<Pair>): Effect.Effect<void, SqlError> =>
  dialect === "sqlite" || pairs.length === 0
    ? Effect.void
    // One after the other, sorted: whoever locks several does so in the same order.
    : Effect.asVoid(execute`SELECT pg_advisory_xact_lock(hash) FROM (
        SELECT DISTINCT hashtextextended(name, 0) AS hash
        FROM json_array_elements_text(${JSON.stringify(pairs.map((pair) => nameOf(prefix, pair)))}::text::json) AS name
        ORDER BY hash OFFSET 0
      ) AS locks`)

/** Locks those of the pairs that nobody has locked, and gives them: for who must not wait. */
export const tryLock = (
  { dialect, prefix, execute }: Store,
  pairs: ReadonlyArray<Pair>
): Effect.Effect<ReadonlyArray<Pair>, SqlError> =>
  dialect === "sqlite" || pairs.length === 0 ? Effect.succeed(pairs) : Effect.map(
    execute<{ readonly name: string }>`
      SELECT name FROM json_array_elements_text(${namesOf(prefix, pairs)}::text::json) AS name
      WHERE pg_try_advisory_xact_lock(hashtextextended(name, 0))`,
    (rows) => {
      const locked = new Set(rows.map(({ name }) => name))
      return pairs.filter((pair) => locked.has(nameOf(prefix, pair)))
    }
  )

/**
 * Whether the transaction sees what others have committed since it began. If not (a host's REPEATABLE READ or SERIALIZABLE), nothing it sees says whose turn
 * it is: what it stores stays held, and a worker's `sweep` finds it.
 */
export const seesCommitted = (
  { dialect, execute }: Store,
  pairs: ReadonlyArray<Pair>
): Effect.Effect<boolean, SqlError> =>
  dialect === "sqlite" || pairs.length === 0 ? Effect.succeed(true) : Effect.map(
    execute<{ readonly level: string }>`SELECT current_setting('transaction_isolation') AS level`,
    ([row]) => row?.level === "read committed"
  )

/** Where a sweep stopped; empty: it begins anew. */
export type Position = Partial<Pair>

/**
 * Looks through some pairs that have pending deliveries, and gives the turn where nobody has it: what was stored by a transaction that couldn't tell, or ended
 * while somebody else had the lock. Tells where to go on.
 */
export const sweep = (store: Store, after: Position): Effect.Effect<Position, OutboxUnavailable> =>
  Effect.gen(function*() {
    const pairs = yield* store.query(pairsAfter(store, after))
    const stuck = pairs.filter(({ turn }) => Number(turn) === 0).map(toPair)
    if (stuck.length > 0) {
      yield* store.transaction(Effect.flatMap(tryLock(store, stuck), (locked) => release(store, locked)))
      yield* store.signal
    }
    const last = pairs.at(-1)
    return pairs.length < stretch || last === undefined ? {} : toPair(last)
  })

/**
 * Gives the turn to the oldest pending delivery of each pair where none has it: after one has ended, after new ones have been stored (held, all of
 * them), after one has been made pending again. The pairs must be locked.
 */
export const release = (store: Store, pairs: ReadonlyArray<Pair>): Effect.Effect<void, SqlError> => {
  const { rows, execute, tables } = store
  if (pairs.length === 0) return Effect.void
  const items = pairs.map(({ endpointId, orderKey }) => ({ endpoint_id: endpointId, order_key: orderKey }))
  return Effect.asVoid(execute`UPDATE ${tables.deliveries} SET held = 0 WHERE held = 1 AND id IN (
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

/** Pairs that one sweep looks at. */
const stretch = 200

interface PairRow {
  readonly endpoint_id: string
  readonly order_key: string
  /** 1: one of its deliveries has the turn. */
  readonly turn: number | string
}

const toPair = ({ endpoint_id, order_key }: PairRow): Pair => ({ endpointId: endpoint_id, orderKey: order_key })

/** From one pair to the next through the index, whatever the number of their deliveries. */
const pairsAfter = (
  { execute, sql, tables: { deliveries } }: Store,
  after: Position
): Effect.Effect<ReadonlyArray<PairRow>, SqlError> => {
  const next = (column: string) =>
    sql`(SELECT ${sql.literal(`d.${column}`)} FROM ${deliveries} d
      WHERE d.state = 'pending' AND d.order_key IS NOT NULL AND (d.endpoint_id, d.order_key) > (p.endpoint_id, p.order_key)
      ORDER BY d.endpoint_id, d.order_key LIMIT 1)`
  return execute<PairRow>`
    WITH RECURSIVE p(endpoint_id, order_key, n) AS (
      SELECT CAST(${after.endpointId ?? ""} AS TEXT), CAST(${after.orderKey ?? ""} AS TEXT), 0
      UNION ALL
      SELECT ${next("endpoint_id")}, ${
    next("order_key")
  }, p.n + 1 FROM p WHERE p.n < ${stretch} AND p.endpoint_id IS NOT NULL
    )
    SELECT p.endpoint_id, p.order_key, CASE WHEN EXISTS (
      SELECT 1 FROM ${deliveries} o
      WHERE o.state = 'pending' AND o.held = 0 AND o.order_key IS NOT NULL
        AND o.endpoint_id = p.endpoint_id AND o.order_key = p.order_key
    ) THEN 1 ELSE 0 END AS turn
    FROM p WHERE p.n > 0 AND p.endpoint_id IS NOT NULL`
}

const namesOf = (prefix: string, pairs: ReadonlyArray<Pair>): string =>
  JSON.stringify(pairs.map((pair) => nameOf(prefix, pair)))

const nameOf = (prefix: string, { endpointId, orderKey }: Pair): string => `${prefix} ${endpointId} ${orderKey}`
