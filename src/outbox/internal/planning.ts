/**
 * Which deliveries a worker should claim next. Pure: from what is due, what is known of the endpoints and what is under way to a plan, and to the
 * time at which it is worth looking again.
 */
import * as Circuit from "../../http/Circuit.js"
import type { Endpoint } from "../../webhooks/Endpoint.js"
import { blank, type EndpointRow } from "./endpointRows.js"
import type { Lane, Rotation } from "./rotation.js"

/** What is pending for an endpoint: the earliest due time of each lane that has any, in milliseconds since the epoch. */
export interface Due {
  readonly endpointId: string
  readonly first: number | undefined
  /** When the one that waits for its first attempt was stored. */
  readonly since: number | undefined
  readonly retry: number | undefined
  /** When the earliest lease ends, or has ended. */
  readonly leased: number | undefined
}

/** An endpoint that something is due for. */
export interface Candidate {
  readonly due: Due
  readonly endpoint: Endpoint
  readonly row: EndpointRow | undefined
}

/** How many deliveries to claim of an endpoint. */
export interface Want {
  readonly endpoint: Endpoint
  readonly first: number
  readonly retry: number
  /** Whose turn it is, if it is but one. */
  readonly turn: Lane
  /** Whether the row decides (it isn't closed, or it paces): then it must be locked and asked again. */
  readonly guarded: boolean
}

/** What to do next. */
export interface Plan {
  readonly wants: ReadonlyArray<Want>
  /** Endpoints that have a lapsed lease, may be sent to and have a slot. */
  readonly suspects: ReadonlyArray<Endpoint>
  /** When something comes due that isn't now, or an endpoint may be asked again; `Infinity`: nothing does. */
  readonly wakeAt: number
  /** Whether something is due that there was no free slot for. */
  readonly short: boolean
  /** Whether an endpoint that may be sent to has a lapsed lease. */
  readonly lapsed: boolean
  /**
   * Whether first attempts are all that is due, and all of them are asked for: where a claim gives less than it wants, nothing is left. Behind a retry that is due there
   * may be one that will be, and when, nobody has seen.
   */
  readonly complete: boolean
}

/** What is under way, and the limits. */
export interface Load {
  readonly now: number
  /** Deliveries that this worker holds, retries among them, and those of one endpoint. */
  readonly held: number
  readonly heldRetries: number
  readonly heldOf: (endpointId: string, limit: number) => number
  /** Most deliveries held, and most of one endpoint that doesn't say. */
  readonly concurrency: number
  readonly endpointConcurrency: number
  /** Most deliveries in one claim. */
  readonly claim: number
  /** Slots that retries never take. */
  readonly kept: number
  /** Whose turn it is. */
  readonly rotation: Pick<Rotation, "askedAt" | "retriedAt" | "turnOf">
  readonly circuit: Circuit.Settings
}

/** What is pending with the first attempt put off by `firstDelay` milliseconds. */
export const delayed = (due: Due, firstDelay: number): Due =>
  firstDelay === 0 || due.first === undefined
    ? due
    : { ...due, first: Math.max(due.first, (due.since ?? 0) + firstDelay) }

/** Whether anything of it is due. */
export const anyDue = ({ first, leased, retry }: Due, now: number): boolean =>
  isDue(first, now) || isDue(retry, now) || isDue(leased, now)

/** The plan: the free slots in equal shares, so that no endpoint gets more than another while both have work. */
export const plan = (candidates: ReadonlyArray<Candidate>, load: Load): Plan => {
  let wakeAt = Infinity
  const suspects: Array<Endpoint> = []
  const open: Array<Open> = []
  let short = false
  let lapsed = false
  const free = Math.min(load.claim, load.concurrency - load.held)
  for (const candidate of candidates) {
    const { due, endpoint, row } = candidate
    const from = readyAt(row, endpoint, load)
    if (from > load.now) {
      if (hasAny(due)) wakeAt = Math.min(wakeAt, from)
      continue
    }
    const limit = endpoint.maxConcurrency ?? load.endpointConcurrency
    const room = limit - load.heldOf(endpoint.id, limit)
    if (isDue(due.leased, load.now)) {
      lapsed = true
      if (room > 0 && free > 0) suspects.push(endpoint)
      else short = true
    }
    for (const at of [due.first, due.retry, due.leased]) {
      if (at !== undefined && at > load.now) wakeAt = Math.min(wakeAt, at)
    }
    if (!isDue(due.first, load.now) && !isDue(due.retry, load.now)) continue
    if (room <= 0) short = true
    else open.push({ candidate, room, guarded: isGuarded(row, endpoint) })
  }
  const freeForRetries = Math.max(0, Math.min(free, load.concurrency - load.kept - load.heldRetries))
  if (open.length === 0 || free <= 0) {
    return { wants: [], suspects, wakeAt, short: short || open.length > 0, lapsed, complete: false }
  }
  const inTurn = open.sort((one, other) =>
    load.rotation.askedAt(one.candidate.endpoint.id) - load.rotation.askedAt(other.candidate.endpoint.id)
  )
  const wants = shares(inTurn, free, freeForRetries, load)
  // None, although something is due: retries have all the slots that they may have.
  const asked = new Map(wants.map((want) => [want.endpoint.id, want]))
  const complete = !short && suspects.length === 0 && open.every(({ candidate: { due, endpoint } }) => {
    const want = asked.get(endpoint.id)
    return want !== undefined && want.first > 0 && !isDue(due.retry, load.now)
  })
  return { wants, suspects, wakeAt, short: short || wants.length === 0, lapsed, complete }
}

/** What the row of an endpoint allows now. */
export interface Grant {
  /** Deliveries that may go, at these times (milliseconds since the epoch). */
  readonly times: ReadonlyArray<number>
  readonly generation: number
  /** The row with the first `taken` of them gone. */
  readonly after: (taken: number) => EndpointRow
}

/** Asks the (locked) row for up to `wanted` deliveries. Whoever takes none writes nothing. */
export const grant = (
  row: EndpointRow,
  endpoint: Endpoint,
  wanted: number,
  now: number,
  settings: Circuit.Settings
): Grant => {
  const nothing: Grant = { times: [], generation: 0, after: () => row }
  if (row.disabled !== undefined || (row.pausedUntil ?? 0) > now) return nothing
  const [admission, circuit] = Circuit.admit(row.circuit, now, settings)
  if (admission._tag === "Rejected") return nothing
  const allowed = circuit._tag === "Closed" ? wanted : 1
  const { generation } = admission
  if (endpoint.rateLimit === undefined) {
    return {
      times: Array.from({ length: allowed }, () => now),
      generation,
      after: (taken) => taken === 0 ? row : { ...row, circuit }
    }
  }
  const interval = spacing / endpoint.rateLimit
  const start = Math.max(now, row.nextSlotAt ?? 0)
  const times: Array<number> = []
  while (times.length < allowed && start + times.length * interval <= now + horizon) {
    times.push(Math.ceil(start + times.length * interval))
  }
  return {
    times,
    generation,
    after: (taken) => taken === 0 ? row : { ...row, circuit, nextSlotAt: Math.ceil(start + taken * interval) }
  }
}

// --- internal

/** A candidate that may be sent to, and has a slot. */
interface Open {
  readonly candidate: Candidate
  readonly room: number
  readonly guarded: boolean
}

/**
 * Milliseconds over which the requests of one second are spread: a tenth more, for what the network adds to one and not to the
 * next, so that no second at the receiver's sees more than was asked for.
 */
const spacing = 1100

/** How far ahead slots of a paced endpoint are given out, in milliseconds. */
const horizon = 500

const isDue = (at: number | undefined, now: number): boolean => at !== undefined && at <= now

const hasAny = ({ first, leased, retry }: Due): boolean =>
  first !== undefined || leased !== undefined || retry !== undefined

/** When the endpoint may be sent to, as far as its row (read without a lock) tells; `Infinity`: when somebody has enabled it. */
const readyAt = (row: EndpointRow | undefined, endpoint: Endpoint, { circuit, now }: Load): number => {
  if (!endpoint.enabled || row?.disabled !== undefined) return Infinity
  if (row === undefined) return now
  return Math.max(
    now + Circuit.retryAfter(row.circuit, now, circuit),
    row.pausedUntil ?? 0,
    endpoint.rateLimit === undefined ? 0 : (row.nextSlotAt ?? 0) - horizon
  )
}

const isGuarded = (row: EndpointRow | undefined, endpoint: Endpoint): boolean =>
  endpoint.rateLimit !== undefined || (row !== undefined && row.circuit._tag !== "Closed")

const shares = (
  open: ReadonlyArray<Open>,
  free: number,
  freeForRetries: number,
  { now, rotation }: Load
): ReadonlyArray<Want> => {
  const allowed = retriesAllowed(open, freeForRetries, now, rotation)
  const wants = new Map<string, Want>()
  let left = free
  let leftForRetries = freeForRetries
  const want = ({ candidate: { endpoint }, guarded }: Open, first: number, retry: number): void => {
    if (first + retry === 0) return
    const before = wants.get(endpoint.id)
    left -= first + retry
    leftForRetries -= retry
    wants.set(endpoint.id, {
      endpoint,
      guarded,
      turn: rotation.turnOf(endpoint.id),
      first: (before?.first ?? 0) + first,
      retry: (before?.retry ?? 0) + retry
    })
  }
  for (const [index, one] of open.entries()) {
    const { candidate: { due, endpoint }, room } = one
    if (left <= 0) break
    const share = Math.min(room, Math.max(1, Math.floor(left / (open.length - index))))
    const fresh = isDue(due.first, now)
    const most = allowed.get(endpoint.id) ?? 0
    // Both have work: a quarter is the first attempts', and of a single slot every other one of the endpoint's.
    const ofShare = !fresh
      ? share
      : share === 1
      ? (rotation.turnOf(endpoint.id) === "retry" ? 1 : 0)
      : share - Math.ceil(share / 4)
    const retry = Math.min(most, ofShare)
    want(one, fresh ? share - retry : 0, retry)
  }
  // What some were allowed, and had no room for.
  for (const one of open) {
    const { candidate: { due, endpoint }, room } = one
    if (left <= 0 || leftForRetries <= 0) break
    const before = wants.get(endpoint.id)
    const more = room - (before?.first ?? 0) - (before?.retry ?? 0)
    if (isDue(due.retry, now)) want(one, 0, Math.min(more, left, leftForRetries))
  }
  return [...wants.values()]
}

/**
 * What retries may have, in equal shares, and first for those whose retries were asked for the longest time ago: by their first attempts, who has those would always be the
 * last.
 */
const retriesAllowed = (
  open: ReadonlyArray<Open>,
  free: number,
  now: number,
  rotation: Load["rotation"]
): ReadonlyMap<string, number> => {
  const ids = open.flatMap(({ candidate: { due, endpoint } }) => isDue(due.retry, now) ? [endpoint.id] : [])
  ids.sort((one, other) => rotation.retriedAt(one) - rotation.retriedAt(other))
  const allowed = new Map<string, number>()
  let left = free
  for (const [index, id] of ids.entries()) {
    const share = Math.min(left, Math.max(1, Math.floor(left / (ids.length - index))))
    allowed.set(id, share)
    left -= share
  }
  return allowed
}

/** A row for an endpoint that has none. */
export const rowOf = (rows: ReadonlyMap<string, EndpointRow>, id: string, settings: Circuit.Settings): EndpointRow =>
  rows.get(id) ?? blank(id, settings)
