/**
 * Writes down what was delivered, and claims as much in its stead, in one go: while there is more to do than there are slots, nobody has to look, and one commit does for two
 * (a stored delivery costs a third less on SQLite; PostgreSQL, in one statement in place of ten, delivers half as many more a second). Only what leaves nothing to judge goes
 * this way: deliveries without an order, and successes of endpoints that have no failures.
 */
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Effect from "effect/Effect"
import type { OutboxUnavailable } from "../OutboxError.js"
import * as Claiming from "./claiming.js"
import * as EndpointRows from "./endpointRows.js"
import type * as Folding from "./folding.js"
import type { Want } from "./planning.js"
import * as Settling from "./settling.js"
import type { Store } from "./store.js"

/** What to claim in the stead of what has ended. */
export interface Next {
  readonly wants: ReadonlyArray<Want>
  readonly lease: Claiming.Lease
}

/** What was settled, and what was claimed. */
export interface Relayed<One extends Settling.Ended> extends Pick<Settling.Settled, "at" | "events" | "settled"> {
  readonly claimed: ReadonlyArray<Claiming.Claimed>
  /** Those that somebody else has: their lease, or their rows at this moment. */
  readonly left: ReadonlyArray<One>
  /** Whether more may go this way: not where a statement by itself is no READ COMMITTED, which may fail those of others. */
  readonly again: boolean
  /** Endpoints whose successes must not wait any more: for `Folding.flush`. */
  readonly unwritten: ReadonlyArray<string>
}

/** Whether the batch may go this way, with what `folding` has seen of the endpoints less than `age` milliseconds ago. */
export const isPlain = (
  batch: ReadonlyArray<Settling.Ended>,
  folding: Folding.Folding,
  now: number,
  age?: number
): boolean =>
  batch.every(({ claimed, report }) =>
    report?.outcome === "delivered" && report.attempts === 1 && claimed.orderKey === undefined
  ) && folding.mayWait(decided(batch, now).map(Settling.toldOf), now, age)

/**
 * Settles a batch that `isPlain`, and claims what is next, of endpoints that need nobody's permission and whose rows nobody has locked. It is done as a whole, or not at all.
 */
export const relay = <One extends Settling.Ended>(
  store: Store,
  batch: ReadonlyArray<One>,
  next: Next,
  folding: Folding.Folding
): Effect.Effect<Relayed<One>, OutboxUnavailable> =>
  Effect.map(
    store.dialect === "pg"
      ? store.query(inOneStatement(store, batch, next))
      : store.transaction(inSteps(store, batch, next)),
    ({ again, at, claimed, ours, rows }) => {
      const settled = decided(batch.filter(({ claimed }) => ours.has(claimed.id)), at)
      return {
        settled,
        left: batch.filter(({ claimed }) => !ours.has(claimed.id)),
        again,
        events: [],
        at,
        claimed,
        unwritten: folding.wait(settled.map(Settling.toldOf), rows, at)
      }
    }
  )

// --- internal

interface Written {
  readonly at: number
  /** Ids of those whose lease was still ours. */
  readonly ours: ReadonlySet<number>
  /** Of their endpoints. */
  readonly rows: ReadonlyMap<string, EndpointRows.EndpointRow>
  readonly claimed: ReadonlyArray<Claiming.Claimed>
  readonly again: boolean
}

const inSteps = (
  store: Store,
  batch: ReadonlyArray<Settling.Ended>,
  { lease, wants }: Next
): Effect.Effect<Written, SqlError> =>
  Effect.gen(function*() {
    const { execute, tables } = store
    const at = yield* store.now
    const ids = yield* execute<{ readonly id: number }>`
      UPDATE ${tables.deliveries} SET ${delivered(store, at)} FROM ${attemptsOf(store, batch)}
      WHERE ${tables.deliveries}.id = v.id AND ${tables.deliveries}.fence = v.fence RETURNING ${tables.deliveries}.id AS id`
    const ours = new Set(ids.map(({ id }) => id))
    const rest = batch.filter(({ claimed }) => ours.has(claimed.id))
    yield* execute`${insertAttempts(store)} FROM ${
      attemptsOf(store, rest)
    } WHERE v.id IS NOT NULL ON CONFLICT DO NOTHING`
    const rows = yield* EndpointRows.see(store, endpointsOf(batch), lease.circuit)
    return { at, ours, rows, claimed: yield* Claiming.claimWithin(store, wants, lease), again: true }
  })

/** It waits for nobody's rows, since who waits here could be waited for; and where it had to wait for a table, nobody may be there any more to have what it claims: it claims nothing then. */
const inOneStatement = (
  store: Store,
  batch: ReadonlyArray<Settling.Ended>,
  { lease, wants }: Next
): Effect.Effect<Written, SqlError> =>
  Effect.gen(function*() {
    const { executePrepared, sql, tables } = store
    const at = yield* store.now
    const ids = (some: ReadonlyArray<string>) => sql`e.id IN (SELECT v.id FROM ${EndpointRows.idsOf(store, some)})`
    const wanted = wants.map(({ endpoint }) => endpoint.id)
    const inTime = sql.literal(`clock_timestamp() < now() + interval '${longestWait}'`)
    const open = EndpointRows.selection(
      store,
      sql`${ids(wanted)} AND ${EndpointRows.isOpen(store, at)} AND ${inTime}`,
      sql.literal("FOR SHARE OF e SKIP LOCKED")
    )
    const seen = EndpointRows.selection(store, sql`${ids(endpointsOf(batch))} AND e.id NOT IN (SELECT id FROM o)`)
    const found = yield* executePrepared<Claiming.Row & { readonly told: string | null }>`
      WITH v AS (SELECT * FROM ${attemptsOf(store, batch)}),
      l AS (
        SELECT d.ctid, v.* FROM v JOIN ${tables.deliveries} d ON d.id = v.id AND d.fence = v.fence
        FOR UPDATE OF d SKIP LOCKED
      ),
      u AS (
        UPDATE ${tables.deliveries} d SET ${delivered(store, at)} FROM l AS v WHERE d.ctid = v.ctid RETURNING d.id
      ),
      a AS (${insertAttempts(store)} FROM v WHERE v.id IN (SELECT id FROM u) ON CONFLICT DO NOTHING),
      o AS (${open}),
      d AS (
        UPDATE ${tables.deliveries} SET ${Claiming.leased(store, at, lease)} WHERE ctid = ANY (${
      Claiming.pickPg(
        store,
        sql`${Claiming.wantedRows(store, Claiming.lanesOf(wants))} JOIN o ON o.id = v.endpoint_id`,
        at,
        lease
      )
    }) RETURNING *
      )
      SELECT t.told, c.* FROM (
        SELECT ${sql.literal(Claiming.claimedColumns)} FROM d JOIN ${tables.messages} m ON m.id = d.message_id
      ) c FULL JOIN (
        SELECT json_build_object(
          'ours', (SELECT json_agg(id) FROM u),
          'level', current_setting('transaction_isolation'),
          'open', (SELECT json_agg(o) FROM o),
          'seen', (SELECT json_agg(s) FROM (${seen}) s)
        )::text AS told
      ) t ON false`
    const told = JSON.parse(found.find(({ told }) => told !== null)?.told ?? "{}") as Told
    const rows = EndpointRows.decode([...told.seen ?? [], ...told.open ?? []], lease.circuit)
    const endpoints = new Map(wants.map(({ endpoint }) => [endpoint.id, endpoint]))
    const claimed = found.flatMap((row) => {
      const endpoint = row.told === null ? endpoints.get(row.endpoint_id) : undefined
      const generation = rows.get(row.endpoint_id)?.circuit.generation ?? 0
      return endpoint === undefined ? [] : [Claiming.toClaimed(row, endpoint, lease.fence, generation, at)]
    })
    claimed.sort((one, other) => one.id - other.id)
    return { at, ours: new Set(told.ours), rows, claimed, again: told.level === "read committed" }
  })

/** What the statement tells beside what it has claimed. */
interface Told {
  readonly level: string
  readonly ours: ReadonlyArray<number> | null
  readonly open: ReadonlyArray<EndpointRows.RawRow> | null
  readonly seen: ReadonlyArray<EndpointRows.RawRow> | null
}

/** Less than `Transacting` waits for an answer. */
const longestWait = "10 seconds"

const decided = (batch: ReadonlyArray<Settling.Ended>, now: number): ReadonlyArray<Settling.Decided> =>
  batch.map((ended) => ({ ended, settlement: Settling.decide(ended, [], now) }))

const endpointsOf = (batch: ReadonlyArray<Settling.Ended>): ReadonlyArray<string> => [
  ...new Set(batch.map(({ claimed }) => claimed.endpoint.id))
]

/** The attempts as rows `v`. */
const attemptsOf = (store: Store, batch: ReadonlyArray<Settling.Ended>): Fragment =>
  store.rows(
    batch.flatMap(({ claimed, report, startedAt }) =>
      report === undefined ? [] : [{
        id: claimed.id,
        fence: claimed.fence,
        number: claimed.attempts + 1,
        started_at: startedAt,
        duration: Math.round(report.duration),
        status: report.status ?? null,
        excerpt: Settling.excerptOf(report)
      }]
    ),
    {
      id: "bigint",
      fence: "text",
      number: "integer",
      started_at: "bigint",
      duration: "bigint",
      status: "integer",
      excerpt: "text"
    }
  )

/** What `Settling` makes of a delivery that was delivered by attempt `v`. */
const delivered = ({ sql }: Store, now: number): Fragment =>
  sql`state = 'delivered', reason = NULL, lane = 'retry', due_at = 0, fence = NULL, lapses = 0, once = 0, attempts = v.number,
    last_status = v.status, last_class = NULL, ended_at = ${now}`

const insertAttempts = ({ sql, tables }: Store): Fragment =>
  sql`INSERT INTO ${tables.attempts} (delivery_id, number, started_at, duration, outcome, status, excerpt)
    SELECT v.id, v.number, v.started_at, v.duration, 'delivered', v.status, v.excerpt`
