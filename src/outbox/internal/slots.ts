/**
 * The slots of a worker, and the lines of those that wait for one. A claim or a settlement of many costs little more than one of few: so a worker claims ahead of its
 * free slots, for each endpoint twice as many as it has delivered since the last claim. With that, claims were of 150 in place of 36, and a quarter more was
 * delivered a second (PostgreSQL with one endpoint: 4.5 times as much). Nothing waits for an endpoint that fails or is slow: others could have it.
 */
import type { Endpoint } from "../../webhooks/Endpoint.js"
import type { Claimed } from "./claiming.js"
import type { Settings } from "./workerParts.js"

export interface Slots {
  /** Slots that are taken or kept, and those of one endpoint. */
  readonly taken: () => number
  readonly takenOf: (endpointId: string) => number
  /** Whether there is one for the endpoint. */
  readonly isFree: (endpoint: Endpoint) => boolean
  /** Deliveries that wait for one. */
  readonly waiting: () => number
  /** Retries among those that have one or wait for one. */
  readonly retries: () => number
  /** How many may be claimed beyond the free ones, and of one endpoint. */
  readonly ahead: () => number
  readonly aheadOf: (endpointId: string) => number
  /** Counts anew what is delivered: there has been a claim, or there was nothing to claim. */
  readonly forget: () => void
  /** Takes a slot for what was claimed at `since`; `false`: there is none, and it waits. */
  readonly enter: (claimed: Claimed, since: number) => boolean
  /** Takes a slot for one that waits, if there is one; endpoints come by turns. */
  readonly next: () => Claimed | undefined
  /** Gives back the slot of a delivery, which may have none. */
  readonly leave: (claimed: Claimed) => void
  /** The same of one that has been delivered. */
  readonly delivered: (claimed: Claimed) => void
  /** Takes those out of the lines that wait for the endpoint, or since before `since`. */
  readonly withdraw: (which: { readonly endpointId: string } | { readonly since: number }) => ReadonlyArray<Claimed>
  /** Keeps a slot, if there is one. */
  readonly keep: (endpoint: Endpoint) => boolean
  readonly giveBack: (endpoint: Endpoint) => void
}

export const make = (
  { claim, concurrency, endpointConcurrency }: Pick<Settings, "claim" | "concurrency" | "endpointConcurrency">
): Slots => {
  const ids = new Set<number>()
  const perEndpoint = new Map<string, number>()
  const lines = new Map<string, Array<Waiting>>()
  const lately = new Map<string, number>()
  let kept = 0
  let waiting = 0
  let retries = 0

  const takenOf = (endpointId: string): number => perEndpoint.get(endpointId) ?? 0
  const isFree = ({ id, maxConcurrency = endpointConcurrency }: Endpoint): boolean =>
    ids.size + kept < concurrency && takenOf(id) < maxConcurrency
  const more = ({ id }: Endpoint): void => {
    perEndpoint.set(id, takenOf(id) + 1)
  }
  const fewer = ({ id }: Endpoint): void => {
    const left = takenOf(id) - 1
    if (left <= 0) perEndpoint.delete(id)
    else perEndpoint.set(id, left)
  }
  const take = ({ endpoint, id }: Claimed): void => {
    ids.add(id)
    more(endpoint)
  }
  const leave = ({ endpoint, id, retry }: Claimed): boolean => {
    if (!ids.delete(id)) return false
    fewer(endpoint)
    if (retry) retries--
    return true
  }

  return {
    taken: () => ids.size + kept,
    takenOf,
    isFree,
    waiting: () => waiting,
    retries: () => retries,
    ahead: () => {
      let delivered = 0
      for (const count of lately.values()) delivered += count
      return Math.max(0, Math.min(2 * delivered, claim - concurrency) - waiting)
    },
    aheadOf: (endpointId) => Math.max(0, 2 * (lately.get(endpointId) ?? 0) - (lines.get(endpointId)?.length ?? 0)),
    forget: () => lately.clear(),
    enter: (claimed, since) => {
      const { endpoint, retry } = claimed
      if (retry) retries++
      if (isFree(endpoint)) {
        take(claimed)
        return true
      }
      const line = lines.get(endpoint.id)
      if (line === undefined) lines.set(endpoint.id, [{ claimed, since }])
      else line.push({ claimed, since })
      waiting++
      return false
    },
    next: () => {
      for (const [endpointId, line] of lines) {
        const [first] = line
        if (first === undefined || !isFree(first.claimed.endpoint)) continue
        line.shift()
        waiting--
        // To the end: it is the others' turn.
        lines.delete(endpointId)
        if (line.length > 0) lines.set(endpointId, line)
        take(first.claimed)
        return first.claimed
      }
      return undefined
    },
    leave: (claimed) => {
      // One that has failed says nothing good of those that would wait behind it.
      if (leave(claimed)) lately.delete(claimed.endpoint.id)
    },
    delivered: (claimed) => {
      if (leave(claimed)) lately.set(claimed.endpoint.id, (lately.get(claimed.endpoint.id) ?? 0) + 1)
    },
    withdraw: (which) => {
      const withdrawn: Array<Claimed> = []
      const isMeant = (endpointId: string, { since }: Waiting) =>
        "since" in which ? since < which.since : endpointId === which.endpointId
      for (const [endpointId, line] of [...lines]) {
        const staying = line.filter((one) => !isMeant(endpointId, one))
        if (staying.length === line.length) continue
        for (const one of line) if (isMeant(endpointId, one)) withdrawn.push(one.claimed)
        if (staying.length > 0) lines.set(endpointId, staying)
        else lines.delete(endpointId)
      }
      waiting -= withdrawn.length
      retries -= withdrawn.filter(({ retry }) => retry).length
      return withdrawn
    },
    keep: (endpoint) => {
      if (!isFree(endpoint)) return false
      kept++
      more(endpoint)
      return true
    },
    giveBack: (endpoint) => {
      kept--
      fewer(endpoint)
    }
  }
}

// --- internal

interface Waiting {
  readonly claimed: Claimed
  /** Monotonic milliseconds. */
  readonly since: number
}
