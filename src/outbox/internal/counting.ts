/**
 * How many deliveries there are, by state and by endpoint, and for how long the oldest due one has waited. Reads the entries of three indexes, no rows; what is
 * pending is counted endpoint by endpoint, what has ended by state.
 */
import * as Effect from "effect/Effect"
import type { OutboxUnavailable } from "../OutboxError.js"
import type { State } from "./deliveryRows.js"
import type { Store } from "./store.js"

/** What is pending to one endpoint. */
export interface EndpointStats {
  readonly id: string
  /** Pending deliveries, leased and held ones included. */
  readonly pending: number
  /** Those of them that a worker has. */
  readonly leased: number
  /** Since when the oldest due one waits, in milliseconds since the epoch; absent when none is due. */
  readonly oldestDueAt: number | undefined
  /** Not configured in this program: nothing of it is sent from here. */
  readonly orphaned: boolean
}

/** The deliveries that are stored. */
export interface Stats {
  readonly states: Readonly<Record<State, number>>
  /** Since when the oldest due delivery waits, in milliseconds since the epoch; absent when none is due. */
  readonly oldestDueAt: number | undefined
  /** Endpoints with pending deliveries, by id. */
  readonly endpoints: ReadonlyArray<EndpointStats>
  /** Pending deliveries to endpoints that are not configured in this program. */
  readonly orphaned: number
}

export const stats = (
  store: Store,
  isConfigured: (endpointId: string) => Effect.Effect<boolean>
): Effect.Effect<Stats, OutboxUnavailable> =>
  Effect.gen(function*() {
    const now = yield* store.now
    const states: Record<State, number> = { pending: 0, delivered: 0, exhausted: 0, discarded: 0 }
    for (const row of yield* store.query(ended(store))) states[row.state as State] = Number(row.n)
    const counts = new Map<string, Counts>()
    for (const row of yield* store.query(waiting(store, now))) {
      const count = of(counts, row.endpoint_id)
      count.pending += Number(row.n)
      count.leased += Number(row.leased)
      const due = Number(row.due)
      if (due <= now && due < count.due) count.due = due
    }
    for (const row of yield* store.query(held(store))) of(counts, row.endpoint_id).pending += Number(row.n)

    const endpoints: Array<EndpointStats> = []
    let orphaned = 0
    for (const [id, { due, leased, pending }] of [...counts].sort(([left], [right]) => left < right ? -1 : 1)) {
      const isOrphaned = !(yield* isConfigured(id))
      states.pending += pending
      if (isOrphaned) orphaned += pending
      endpoints.push({ id, pending, leased, oldestDueAt: finite(due), orphaned: isOrphaned })
    }
    const oldest = Math.min(...[...counts.values()].map(({ due }) => due))
    return { states, oldestDueAt: finite(oldest), endpoints, orphaned }
  })

// --- internal

interface Counts {
  pending: number
  leased: number
  /** Infinity: none. */
  due: number
}

/** PostgreSQL gives a count as text. */
type Numeric = number | string

const of = (counts: Map<string, Counts>, id: string): Counts => {
  const found = counts.get(id) ?? { pending: 0, leased: 0, due: Infinity }
  counts.set(id, found)
  return found
}

const finite = (value: number): number | undefined => Number.isFinite(value) ? value : undefined

const ended = ({ execute, tables }: Store) =>
  execute<{ readonly state: string; readonly n: Numeric }>`
    SELECT d.state, COUNT(*) AS n FROM ${tables.deliveries} AS d WHERE d.state <> 'pending' GROUP BY d.state`

/**
 * Each endpoint's lanes. What is due at once has a due time of 0, so its time is that of its storing: of the first of them by id. A leased one's due
 * time is the end of its lease: that of a lapsed one counts.
 */
const waiting = ({ execute, tables }: Store, now: number) =>
  execute<{
    readonly endpoint_id: string
    readonly n: Numeric
    readonly leased: Numeric
    readonly due: Numeric
  }>`
    SELECT g.endpoint_id, g.n, g.leased, CASE WHEN g.due > 0 THEN g.due ELSE (
        SELECT f.created_at FROM ${tables.deliveries} AS f
        WHERE f.endpoint_id = g.endpoint_id AND f.lane = g.lane AND f.due_at = g.due AND f.state = 'pending' AND f.held = 0
        ORDER BY f.id LIMIT 1
      ) END AS due
    FROM (
      SELECT d.endpoint_id, d.lane, COUNT(*) AS n, MIN(d.due_at) AS due,
        SUM(CASE WHEN d.lane = 'leased' AND d.due_at > ${now} THEN 1 ELSE 0 END) AS leased
      FROM ${tables.deliveries} AS d WHERE d.state = 'pending' AND d.held = 0 GROUP BY d.endpoint_id, d.lane
    ) AS g`

const held = ({ execute, tables }: Store) =>
  execute<{ readonly endpoint_id: string; readonly n: Numeric }>`
    SELECT d.endpoint_id, COUNT(*) AS n FROM ${tables.deliveries} AS d
    WHERE d.state = 'pending' AND d.order_key IS NOT NULL AND d.held = 1 GROUP BY d.endpoint_id`
