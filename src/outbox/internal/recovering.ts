/**
 * Sends again all that failed to an endpoint. The work is a job in the endpoint's row, done in batches that move its cursor in the same transaction: whoever
 * comes after a crash goes on where it stopped.
 *
 * The cursor goes through the ends (`ended_at`, id) up to the moment at which the job began: a delivery that fails again meanwhile ends after that, and isn't
 * met a second time.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { EndpointDisabled, RecoveryUnderWay } from "../DeliveriesError.js"
import type { OutboxUnavailable } from "../OutboxError.js"
import * as EndpointRows from "./endpointRows.js"
import * as Ordering from "./ordering.js"
import { isStorable } from "./storable.js"
import { giveWay, type Store } from "./store.js"

/** What is to be sent again: milliseconds since the epoch, both ends included. */
export interface Range {
  readonly endpointId: string
  readonly since: number
  readonly until: number | undefined
}

/** Registers the job, or finds it registered, and does it to its end; tells how many deliveries it made due in all. */
export const recover = (
  store: Store,
  range: Range
): Effect.Effect<number, EndpointDisabled | OutboxUnavailable | RecoveryUnderWay> =>
  Effect.flatMap(store.transaction(register(store, range)), (job) => {
    if (job === undefined) return Effect.succeed(0)
    const loop = (recovered: number): Effect.Effect<number, EndpointDisabled | OutboxUnavailable> =>
      Effect.flatMap(Effect.timed(batch(store, job)), ([took, progress]) =>
        progress.done
          ? Effect.succeed(progress.recovered ?? recovered)
          : Effect.zipRight(giveWay(store, took), loop(progress.recovered ?? recovered)))
    return loop(job.recovered)
  })

/** One batch of each open job; tells how many deliveries were made due. A job of a disabled endpoint waits. */
export const resume = (store: Store): Effect.Effect<number, OutboxUnavailable> =>
  Effect.gen(function*() {
    const { execute, tables } = store
    const open = yield* store.query(execute<JobRow>`SELECT ${jobColumns(store)} FROM ${tables.endpoints} AS e
      WHERE e.recover_until IS NOT NULL AND e.disabled_at IS NULL ORDER BY e.id`)
    let moved = 0
    for (const row of open) {
      const job = toJob(row)
      if (job === undefined) continue
      const progress = yield* Effect.catchTag(
        batch(store, job),
        "EndpointDisabled",
        (): Effect.Effect<Progress> => Effect.succeed({ done: true, moved: 0, recovered: undefined })
      )
      moved += progress.moved
    }
    return moved
  })

// --- internal

/** Deliveries a transaction. */
const batchSize = 500

interface Job {
  readonly endpointId: string
  readonly since: number
  readonly until: number
  /** As it is stored; `null` before the first batch. */
  readonly cursor: string | null
  /** Deliveries so far. */
  readonly recovered: number
}

interface JobRow {
  readonly id: string
  readonly recover_since: number | string | null
  readonly recover_until: number | string | null
  readonly recover_after: string | null
  readonly recovered: number | string | null
}

interface Progress {
  readonly done: boolean
  /** Deliveries that this batch made due. */
  readonly moved: number
  /** And those before it; `undefined` where another job has taken this one's place. */
  readonly recovered: number | undefined
}

/** Somebody else did the same batch first. */
class Overtaken extends Data.TaggedError("Overtaken") {}

const register = (
  store: Store,
  range: Range
): Effect.Effect<Job | undefined, EndpointDisabled | OutboxUnavailable | RecoveryUnderWay | SqlError> =>
  Effect.gen(function*() {
    const { execute, tables } = store
    const { endpointId } = range
    const now = yield* store.now
    const since = Math.max(0, Math.ceil(range.since))
    const wanted = range.until === undefined || range.until >= now ? undefined : Math.floor(range.until)
    const job: Job = { endpointId, since, until: wanted ?? now, cursor: null, recovered: 0 }
    const isEmpty = since <= job.until && isStorable(endpointId)
      ? Effect.map(failed(store, job, 1), (rows) => rows.length === 0)
      : Effect.succeed(true)
    // An id that nothing is known of gets no row.
    const known = yield* EndpointRows.read(store, [endpointId])
    if (!known.has(endpointId) && (yield* isEmpty)) return undefined
    const row = (yield* EndpointRows.lock(store, [endpointId], now)).get(endpointId)
    if (row?.disabled !== undefined) {
      return yield* new EndpointDisabled({ endpointId, reason: row.disabled.reason })
    }
    const open = yield* jobOf(store, endpointId)
    if (open !== undefined) {
      return open.since === since && (wanted === undefined || wanted === open.until)
        ? open
        : yield* new RecoveryUnderWay({ endpointId, since: open.since, until: open.until })
    }
    if (yield* isEmpty) return undefined
    yield* execute`UPDATE ${tables.endpoints}
      SET recover_since = ${since}, recover_until = ${job.until}, recover_after = NULL, recovered = 0, updated_at = ${now}
      WHERE id = ${endpointId}`
    return job
  })

/** The next batch of the job as it is stored by now. */
const batch = (store: Store, job: Job): Effect.Effect<Progress, EndpointDisabled | OutboxUnavailable> =>
  store.transaction(oneBatch(store, job)).pipe(
    Effect.ensuring(store.signal),
    Effect.catchTag("Overtaken", () => batch(store, job))
  )

/**
 * Locks in the order in which a worker settles: aggregates, deliveries, endpoint. So the job is read without a lock, and looked at again when
 * its row is locked at the end.
 */
const oneBatch = (
  store: Store,
  { endpointId, since, until }: Job
): Effect.Effect<Progress, EndpointDisabled | Overtaken | SqlError> =>
  Effect.gen(function*() {
    const { rows, execute, tables } = store
    const job = yield* jobOf(store, endpointId)
    if (job === undefined) {
      return { done: true, moved: 0, recovered: yield* recoveredBefore(store, endpointId) }
    }
    if (job.since !== since || job.until !== until) return { done: true, moved: 0, recovered: undefined }

    const found = yield* failed(store, job, batchSize)
    const now = yield* store.now
    const pairs = found.flatMap((row) => row.order_key === null ? [] : [{ endpointId, orderKey: row.order_key }])
    yield* Ordering.lock(store, pairs)
    const ids = rows(found.map(({ id }) => ({ id: Number(id) })), { id: "bigint" })
    // What a person has replayed, or a purge has taken, since it was found is left alone.
    const moved = found.length === 0 ? [] : yield* execute`UPDATE ${tables.deliveries}
      SET state = 'pending', reason = NULL, ended_at = NULL, lane = 'retry', due_at = ${now}, fence = NULL, lapses = 0, step = 0,
        once = 0, held = CASE WHEN order_key IS NULL THEN 0 ELSE 1 END
      WHERE id IN (SELECT v.id FROM ${ids}) AND state IN ('exhausted', 'discarded') RETURNING id`
    yield* Ordering.release(store, pairs)

    const endpoint = (yield* EndpointRows.lock(store, [endpointId], now)).get(endpointId)
    if (endpoint?.disabled !== undefined) {
      return yield* new EndpointDisabled({ endpointId, reason: endpoint.disabled.reason })
    }
    const locked = yield* jobOf(store, endpointId)
    if (locked?.since !== since || locked.until !== until || locked.cursor !== job.cursor) return yield* new Overtaken()
    const last = found.at(-1)
    const done = last === undefined || found.length < batchSize
    const recovered = job.recovered + moved.length
    yield* done
      // The count stays, for whoever did other batches of this job.
      ? execute`UPDATE ${tables.endpoints}
        SET recover_since = NULL, recover_until = NULL, recover_after = NULL, recovered = ${recovered}, updated_at = ${now}
        WHERE id = ${endpointId}`
      : execute`UPDATE ${tables.endpoints}
        SET recover_after = ${`${last.ended_at}:${last.id}`}, recovered = ${recovered}, updated_at = ${now}
        WHERE id = ${endpointId}`
    if (moved.length > 0) yield* store.wake
    return { done, moved: moved.length, recovered }
  })

interface Failed {
  readonly id: number | string
  readonly ended_at: number | string
  readonly order_key: string | null
}

const failed = (store: Store, job: Job, limit: number): Effect.Effect<ReadonlyArray<Failed>, SqlError> => {
  const { endedAt, id } = position(job)
  const { execute, tables } = store
  return execute<Failed>`SELECT d.id, d.ended_at, d.order_key FROM ${tables.deliveries} AS d
    WHERE d.endpoint_id = ${job.endpointId} AND d.state IN ('exhausted', 'discarded')
      AND (d.reason IS NULL OR d.reason <> 'cancelled')
      AND (d.ended_at, d.id) > (${endedAt}, ${id}) AND d.ended_at <= ${job.until}
    ORDER BY d.ended_at, d.id LIMIT ${limit}`
}

/** Ids begin at 1. */
const position = (job: Job): { readonly endedAt: number; readonly id: number } => {
  const [endedAt, id] = (job.cursor ?? "").split(":").map(Number)
  return job.cursor === null || endedAt === undefined || id === undefined
    ? { endedAt: job.since, id: 0 }
    : { endedAt, id }
}

const jobColumns = ({ sql }: Store) =>
  sql.literal("e.id, e.recover_since, e.recover_until, e.recover_after, e.recovered")

const toJob = (row: JobRow | undefined): Job | undefined =>
  row === undefined || row.recover_since === null || row.recover_until === null ? undefined : {
    endpointId: row.id,
    since: Number(row.recover_since),
    until: Number(row.recover_until),
    cursor: row.recover_after,
    recovered: Number(row.recovered ?? 0)
  }

const jobOf = (store: Store, endpointId: string): Effect.Effect<Job | undefined, SqlError> =>
  Effect.map(jobRow(store, endpointId), toJob)

const recoveredBefore = (store: Store, endpointId: string): Effect.Effect<number, SqlError> =>
  Effect.map(jobRow(store, endpointId), (row) => Number(row?.recovered ?? 0))

const jobRow = (store: Store, endpointId: string): Effect.Effect<JobRow | undefined, SqlError> =>
  Effect.map(
    store.execute<JobRow>`SELECT ${jobColumns(store)} FROM ${store.tables.endpoints} AS e WHERE e.id = ${endpointId}`,
    ([row]) => row
  )
