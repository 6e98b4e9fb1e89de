/**
 * The rows of the endpoints table as values: what the fleet knows of an endpoint beyond its configuration. A row comes
 * about with the first thing worth knowing; an endpoint without one is healthy.
 */
import type * as SqlError from "@effect/sql/SqlError"
import type * as Statement from "@effect/sql/Statement"
import * as Effect from "effect/Effect"
import * as Circuit from "../../http/Circuit.js"
import * as SlidingWindow from "../../http/SlidingWindow.js"
import type { OutboxUnavailable } from "../OutboxError.js"
import { isStorable } from "./storable.js"
import type { Store } from "./store.js"

/** Who disabled an endpoint: a person, a 410, `webhook-delivery: disable`, or five days of nothing but failures. */
export type DisabledBy = "failing" | "gone" | "operator" | "receiver"

/** An endpoint that gets nothing. */
export interface Disabled {
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly by: DisabledBy
  readonly reason: string
}

/** What the fleet knows of an endpoint. All times in milliseconds since the epoch. */
export interface EndpointRow {
  readonly id: string
  readonly circuit: Circuit.Circuit
  readonly pausedUntil: number | undefined
  readonly disabled: Disabled | undefined
  readonly consecutiveFailures: number
  /** Of the failures in a row. */
  readonly firstFailureAt: number | undefined
  readonly lastFailureAt: number | undefined
  readonly lastSuccessAt: number | undefined
  /** When the next request may start under a `rateLimit`. */
  readonly nextSlotAt: number | undefined
}

/** Whether its deliveries are discarded rather than kept for the day on which it is enabled: the receiver wants no more. */
export const discards = ({ disabled }: EndpointRow): boolean =>
  disabled !== undefined && (disabled.by === "gone" || disabled.by === "receiver")

/** A healthy endpoint of which nothing is known yet. */
export const blank = (id: string, settings: Circuit.Settings = defaultSettings): EndpointRow => ({
  id,
  circuit: Circuit.initial(settings),
  pausedUntil: undefined,
  disabled: undefined,
  consecutiveFailures: 0,
  firstFailureAt: undefined,
  lastFailureAt: undefined,
  lastSuccessAt: undefined,
  nextSlotAt: undefined
})

/** The generation of a circuit as its column has it. */
export const generationOf = (circuit: string | null): number => decodeCircuit(circuit, defaultSettings).generation

/** As a condition on a row `e`, which may be absent: it may be sent to at `now`, and none needs to be asked. */
export const isOpen = ({ sql }: Store, now: number): Statement.Fragment =>
  sql`(e.id IS NULL OR (e.disabled_at IS NULL AND coalesce(e.paused_until, 0) <= ${now} AND (e.circuit IS NULL OR ${
    sql.literal(`e.circuit LIKE '%"_tag":"Closed"%'`)
  })))`

/** The rows of these endpoints as far as there are any, without a lock. */
export const read = (
  store: Store,
  ids: ReadonlyArray<string>,
  settings: Circuit.Settings = defaultSettings
): Effect.Effect<ReadonlyMap<string, EndpointRow>, OutboxUnavailable> => {
  const possible = ids.filter(isStorable)
  return possible.length === 0
    ? Effect.succeed(new Map<string, EndpointRow>())
    : store.query(see(store, possible, settings))
}

/**
 * The rows of these endpoints as far as there are any, kept as they are until the transaction ends: call it in one. Others may keep them, too; who
 * would change one waits.
 */
export const keep = (
  store: Store,
  ids: ReadonlyArray<string>,
  settings: Circuit.Settings = defaultSettings
): Effect.Effect<ReadonlyMap<string, EndpointRow>, SqlError.SqlError> =>
  select(store, ids, store.dialect === "pg" ? store.sql.literal("FOR SHARE OF e") : nothing(store), settings)

/** The same without a lock, in the caller's transaction if there is one: they may be others when it ends. */
export const see = (
  store: Store,
  ids: ReadonlyArray<string>,
  settings: Circuit.Settings = defaultSettings
): Effect.Effect<ReadonlyMap<string, EndpointRow>, SqlError.SqlError> => select(store, ids, nothing(store), settings)

/** Those of the rows that nobody has locked, and locked until the transaction ends. */
export const tryLock = (
  store: Store,
  ids: ReadonlyArray<string>,
  settings: Circuit.Settings = defaultSettings
): Effect.Effect<ReadonlyMap<string, EndpointRow>, SqlError.SqlError> =>
  select(
    store,
    ids,
    store.dialect === "pg" ? store.sql.literal("FOR UPDATE OF e SKIP LOCKED") : nothing(store),
    settings
  )

/** A reading of rows `e` within another statement, with the columns of `decode`. */
export const selection = (store: Store, where: Statement.Fragment, locking = nothing(store)): Statement.Fragment =>
  store.sql`SELECT ${columns(store)} FROM ${store.tables.endpoints} AS e WHERE ${where} ORDER BY e.id ${locking}`

/** Rows as the database gives them, numbers or texts. */
export const decode = (
  rows: ReadonlyArray<RawRow>,
  settings: Circuit.Settings = defaultSettings
): ReadonlyMap<string, EndpointRow> => {
  const map = new Map<string, EndpointRow>()
  for (const row of rows) {
    const value = fromRaw(row, settings)
    map.set(value.id, value)
  }
  return map
}

/** Ids as rows `v`. */
export const idsOf = (store: Store, ids: ReadonlyArray<string>): Statement.Fragment =>
  store.rows(ids.map((id) => ({ id })), { id: "text" })

/** Every row there is, by id. */
export const readAll = (
  store: Store,
  settings: Circuit.Settings = defaultSettings
): Effect.Effect<ReadonlyMap<string, EndpointRow>, OutboxUnavailable> =>
  store.query(Effect.map(
    store.execute<RawRow>`SELECT ${columns(store)} FROM ${store.tables.endpoints} AS e ORDER BY e.id`,
    (rows) => decode(rows, settings)
  ))

/**
 * The rows of these endpoints, made where absent, and locked until the transaction ends: call it in one, and once, since
 * two calls of two transactions could wait for each other. On SQLite the transaction itself is the lock.
 */
export const lock = (
  store: Store,
  ids: ReadonlyArray<string>,
  now: number,
  settings: Circuit.Settings = defaultSettings
): Effect.Effect<ReadonlyMap<string, EndpointRow>, SqlError.SqlError> => {
  if (ids.length === 0) return Effect.succeed(new Map<string, EndpointRow>())
  const { executePrepared, sql, tables } = store
  // One statement for both, and in the order of the ids: whoever inserts or locks several never waits in a circle.
  return Effect.map(
    executePrepared<RawRow>`
      INSERT INTO ${tables.endpoints} AS e (id, consecutive_failures, updated_at)
      SELECT DISTINCT v.id, 0, CAST(${now} AS BIGINT) FROM ${idsOf(store, ids)} WHERE v.id IS NOT NULL ORDER BY v.id
      ON CONFLICT (id) DO UPDATE SET consecutive_failures = e.consecutive_failures
      RETURNING ${sql.literal(written.join(", "))}`,
    (rows) => decode(rows, settings)
  )
}

/** Writes the rows, made where absent, in one statement. Rows that others may write at the same time are locked first. */
export const write = (
  store: Store,
  rows: Iterable<EndpointRow>,
  now: number
): Effect.Effect<void, SqlError.SqlError> => {
  const raw = Array.from(rows, toRaw)
  if (raw.length === 0) return Effect.void
  const { executePrepared, sql, tables } = store
  const names = sql.literal(written.join(", "))
  return Effect.asVoid(executePrepared`
    INSERT INTO ${tables.endpoints} (${names}, updated_at)
    SELECT ${sql.literal(written.map((name) => `v.${name}`).join(", "))}, CAST(${now} AS BIGINT)
    FROM ${store.rows(raw, types)}
    WHERE v.id IS NOT NULL
    ORDER BY v.id
    ON CONFLICT (id) DO UPDATE SET
      ${sql.literal(written.filter((name) => name !== "id").map((name) => `${name} = excluded.${name}`).join(", "))},
      updated_at = excluded.updated_at`)
}

// --- internal

const defaultSettings = Circuit.settings()

const types = {
  id: "text",
  circuit: "text",
  paused_until: "bigint",
  disabled_at: "bigint",
  disabled_by: "text",
  disabled_reason: "text",
  consecutive_failures: "integer",
  first_failure_at: "bigint",
  last_failure_at: "bigint",
  last_success_at: "bigint",
  next_slot_at: "bigint"
} as const

type Column = keyof typeof types

const written: ReadonlyArray<string> = Object.keys(types)

/** PostgreSQL gives a bigint as text. */
export type RawRow = {
  readonly [K in Column]: (typeof types)[K] extends "text" ? string | null : number | string | null
}

const columns = (store: Store): Statement.Fragment => store.sql.literal(written.map((name) => `e.${name}`).join(", "))

const nothing = (store: Store): Statement.Fragment => store.sql.literal("")

const select = (
  store: Store,
  ids: ReadonlyArray<string>,
  locking: Statement.Fragment,
  settings: Circuit.Settings
): Effect.Effect<ReadonlyMap<string, EndpointRow>, SqlError.SqlError> =>
  ids.length === 0
    ? Effect.succeed(new Map<string, EndpointRow>())
    : Effect.map(
      store.execute<RawRow>`${selection(store, store.sql`e.id IN (SELECT v.id FROM ${idsOf(store, ids)})`, locking)}`,
      (rows) => decode(rows, settings)
    )

const fromRaw = (row: RawRow, settings: Circuit.Settings): EndpointRow => {
  const disabledAt = integer(row.disabled_at)
  return {
    id: row.id ?? "",
    circuit: decodeCircuit(row.circuit, settings),
    pausedUntil: integer(row.paused_until),
    disabled: disabledAt === undefined
      ? undefined
      : { at: disabledAt, by: disabledBy(row.disabled_by), reason: row.disabled_reason ?? "" },
    consecutiveFailures: integer(row.consecutive_failures) ?? 0,
    firstFailureAt: integer(row.first_failure_at),
    lastFailureAt: integer(row.last_failure_at),
    lastSuccessAt: integer(row.last_success_at),
    nextSlotAt: integer(row.next_slot_at)
  }
}

const toRaw = (row: EndpointRow): RawRow => ({
  id: row.id,
  circuit: JSON.stringify(row.circuit),
  paused_until: whole(row.pausedUntil),
  disabled_at: whole(row.disabled?.at),
  disabled_by: row.disabled?.by ?? null,
  disabled_reason: row.disabled?.reason ?? null,
  consecutive_failures: row.consecutiveFailures,
  first_failure_at: whole(row.firstFailureAt),
  last_failure_at: whole(row.lastFailureAt),
  last_success_at: whole(row.lastSuccessAt),
  next_slot_at: whole(row.nextSlotAt)
})

const integer = (value: number | string | null): number | undefined => value === null ? undefined : Number(value)

// Rounded up: what must not happen before a time must not happen in the millisecond before it either.
const whole = (value: number | undefined): number | null => value === undefined ? null : Math.ceil(value)

/** A word that this version doesn't know comes from a newer one: the mildest meaning, in which nothing is discarded. */
const disabledBy = (value: string | null): DisabledBy =>
  value === "gone" || value === "receiver" || value === "failing" ? value : "operator"

/** What this library wrote; text that isn't of its kind says nothing. By hand: a schema took a tenth of a delivery's time. */
const decodeCircuit = (json: string | null, settings: Circuit.Settings): Circuit.Circuit => {
  const value = parse(json)
  switch (value?.["_tag"]) {
    case "Open":
      return areNumbers(value, "generation", "until", "failedProbes")
        ? value as Circuit.Circuit
        : Circuit.initial(settings)
    case "HalfOpen":
      return areNumbers(value, "generation", "since", "inFlight", "succeeded", "failedProbes")
        ? value as Circuit.Circuit
        : Circuit.initial(settings)
    case "Closed": {
      if (!areNumbers(value, "generation", "consecutiveFailures")) return Circuit.initial(settings)
      // Counts of windows of another length mean nothing to these settings.
      const { width } = SlidingWindow.make(settings.samplingWindow)
      const circuit = value as Circuit.Circuit & { readonly _tag: "Closed" }
      return isWindow(circuit.results, width) && isWindow(circuit.slow, width)
        ? circuit
        : Circuit.Circuit.Closed({ ...circuit, results: freshWindow(settings), slow: freshWindow(settings) })
    }
    default:
      return Circuit.initial(settings)
  }
}

const parse = (json: string | null): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(json ?? "null")
    return typeof value === "object" && value !== null ? value as Record<string, unknown> : undefined
  } catch {
    return undefined
  }
}

const areNumbers = (value: object, ...names: ReadonlyArray<string>): boolean =>
  names.every((name) => Number.isFinite(Reflect.get(value, name)))

const isWindow = (value: unknown, width: number): boolean =>
  typeof value === "object" && value !== null && Reflect.get(value, "width") === width &&
  areNumbers(value, "newest", "a", "b") && Array.isArray(Reflect.get(value, "counts")) &&
  (Reflect.get(value, "counts") as ReadonlyArray<unknown>).length === 20 &&
  (Reflect.get(value, "counts") as ReadonlyArray<unknown>).every(Number.isFinite)

const freshWindow = (settings: Circuit.Settings): SlidingWindow.SlidingWindow =>
  SlidingWindow.make(settings.samplingWindow)
