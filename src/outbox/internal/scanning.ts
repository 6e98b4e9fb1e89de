/**
 * Finds the endpoints that something is due for, by stepping through the index from one to the next: what that touches is in proportion to the endpoints, not to what is
 * pending.
 */
import type { Fragment } from "@effect/sql/Statement"
import * as Effect from "effect/Effect"
import type { OutboxUnavailable } from "../OutboxError.js"
import type { Due } from "./planning.js"
import type { Store } from "./store.js"

/** Some of the endpoints that have pending deliveries which nobody holds back, in the order of the index, and where the next begin, if there are more. */
export const scan = (
  { query, execute, sql, tables: { deliveries } }: Store,
  after: Cursor = { id: "", lane: "" }
): Effect.Effect<{ readonly due: ReadonlyArray<Due>; readonly next: Cursor | undefined }, OutboxUnavailable> => {
  const pending = sql.literal("y.state = 'pending' AND y.held = 0")
  // Not as one comparison of two columns: SQLite would seek by the first of them only, and read all that is pending for the endpoint.
  const next = (id: Fragment | string, lane: Fragment | string) =>
    sql`coalesce(
      (SELECT y.id FROM ${deliveries} y WHERE ${pending} AND y.endpoint_id = ${id} AND y.lane > ${lane}
        ORDER BY y.lane, y.due_at, y.id LIMIT 1),
      (SELECT y.id FROM ${deliveries} y WHERE ${pending} AND y.endpoint_id > ${id}
        ORDER BY y.endpoint_id, y.lane, y.due_at, y.id LIMIT 1)
    )`
  return query(Effect.map(
    execute<Found>`
      WITH RECURSIVE e(key, n) AS (
        SELECT ${next(after.id, after.lane)}, 1
        UNION ALL
        SELECT ${next(sql.literal("x.endpoint_id"), sql.literal("x.lane"))}, e.n + 1
        FROM e JOIN ${deliveries} x ON x.id = e.key WHERE e.n < ${mostSeen}
      )
      SELECT d.endpoint_id AS id, d.lane, d.due_at, d.created_at FROM e JOIN ${deliveries} d ON d.id = e.key ORDER BY e.n`,
    (rows) => {
      const last = rows.length < mostSeen ? undefined : rows.at(-1)
      return { due: toDue(rows), next: last && { id: last.id, lane: last.lane } }
    }
  ))
}

/** A place in the index. */
export interface Cursor {
  readonly id: string
  readonly lane: string
}

/** What is pending for these endpoints. */
export const scanOf = (
  { dialect, query, rows, execute, sql, tables: { deliveries } }: Store,
  ids: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<Due>, OutboxUnavailable> => {
  const first = (columns: string) =>
    sql`SELECT ${sql.literal(columns)} FROM ${deliveries} d
      WHERE d.state = 'pending' AND d.held = 0 AND d.endpoint_id = v.id AND d.lane = v.lane ORDER BY d.due_at, d.id LIMIT 1`
  const asked = ids.flatMap((id) => lanes.map((lane) => ({ id, lane })))
  return ids.length === 0 ? Effect.succeed([]) : query(Effect.map(
    execute<Found>`SELECT v.id, v.lane, d.due_at, d.created_at FROM ${rows(asked, { id: "text", lane: "text" })} ${
      dialect === "pg"
        ? sql`CROSS JOIN LATERAL (${first("d.due_at, d.created_at")}) d`
        : sql`JOIN ${deliveries} d ON d.id = (${first("d.id")})`
    }`,
    toDue
  ))
}

// --- internal

/** The earliest delivery of an endpoint's lane. */
interface Found {
  readonly id: string
  readonly lane: string
  readonly due_at: number | string
  readonly created_at: number | string
}

const lanes = ["first", "leased", "retry"]

/** Lanes of endpoints in one scan: some milliseconds' work, in which SQLite holds up the event loop. */
const mostSeen = 600

const toDue = (rows: ReadonlyArray<Found>): ReadonlyArray<Due> => {
  const byId = new Map<string, Map<string, Found>>()
  for (const row of rows) {
    const found = byId.get(row.id)
    if (found === undefined) byId.set(row.id, new Map([[row.lane, row]]))
    else found.set(row.lane, row)
  }
  return [...byId].map(([endpointId, found]) => {
    const at = (lane: string) => optional(found.get(lane)?.due_at ?? null)
    return {
      endpointId,
      first: at("first"),
      since: optional(found.get("first")?.created_at ?? null),
      retry: at("retry"),
      leased: at("leased")
    }
  })
}

const optional = (value: number | string | null): number | undefined => value === null ? undefined : Number(value)
