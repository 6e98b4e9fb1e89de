/**
 * Which of a worker's slots are taken, and by whose deliveries.
 */
import type * as Fiber from "effect/Fiber"
import type { Claimed } from "./claiming.js"
import type { Want } from "./planning.js"

/** A delivery from its claim to its settlement. */
export interface Held {
  readonly claimed: Claimed
  /** Monotonic milliseconds. */
  readonly since: number
  /** Whether it is under way, or has failed: one that has been delivered is neither. */
  counts: boolean
  fiber?: Fiber.RuntimeFiber<void>
}

export interface Occupying {
  readonly held: ReadonlyMap<number, Held>
  readonly add: (claimed: Claimed, since: number) => void
  /** One that has been delivered is under way no more: the endpoint may get the next while this is written down. */
  readonly leave: (claimed: Claimed) => void
  readonly remove: (claimed: Claimed) => void
  /** Slots of endpoints, and of retries, that are asked for (1), or no longer (-1). */
  readonly ask: (wants: ReadonlyArray<Pick<Want, "endpoint" | "first" | "retry">>, times: 1 | -1) => void
  /** Slots of the worker that are kept for what isn't held yet; less than none: no longer. */
  readonly reserve: (count: number) => void
  /** Slots that are taken. */
  readonly count: () => number
  /** See `Holding.countOf`. */
  readonly countOf: (endpointId: string, limit: number) => number
  readonly retries: () => number
}

export const make = (): Occupying => {
  const held = new Map<number, Held>()
  const perEndpoint = new Map<string, Counts>()
  let retries = 0
  let reserved = 0

  const tally = (endpointId: string, counting: number, delivered: number): void => {
    const before = perEndpoint.get(endpointId)
    const after = {
      counting: (before?.counting ?? 0) + counting,
      delivered: (before?.delivered ?? 0) + delivered
    }
    if (after.counting === 0 && after.delivered === 0) perEndpoint.delete(endpointId)
    else perEndpoint.set(endpointId, after)
  }

  const leave: Occupying["leave"] = (claimed) => {
    const entry = held.get(claimed.id)
    if (entry?.claimed !== claimed || !entry.counts) return
    entry.counts = false
    tally(claimed.endpoint.id, -1, 1)
  }

  const remove: Occupying["remove"] = (claimed) => {
    if (held.get(claimed.id)?.claimed !== claimed) return
    leave(claimed)
    held.delete(claimed.id)
    tally(claimed.endpoint.id, 0, -1)
    if (claimed.retry) retries--
  }

  return {
    held,
    add: (claimed, since) => {
      // It may have been written down already as due again, and nobody here has heard of that yet.
      const before = held.get(claimed.id)
      if (before !== undefined) remove(before.claimed)
      held.set(claimed.id, { claimed, since, counts: true })
      tally(claimed.endpoint.id, 1, 0)
      if (claimed.retry) retries++
    },
    leave,
    remove,
    ask: (wants, times) => {
      for (const { endpoint, first, retry } of wants) {
        tally(endpoint.id, times * (first + retry), 0)
        retries += times * retry
      }
    },
    reserve: (count) => {
      reserved += count
    },
    count: () => held.size + reserved,
    countOf: (endpointId, limit) => {
      const counts = perEndpoint.get(endpointId)
      return counts === undefined ? 0 : counts.counting + Math.max(0, counts.delivered - limit)
    },
    retries: () => retries
  }
}

// --- internal

/** Of an endpoint: those under way, failed or asked for, and those delivered. */
interface Counts {
  readonly counting: number
  readonly delivered: number
}
