/**
 * Who was asked for deliveries when, and for which: so that of more endpoints than there are slots each comes by turns, and of an endpoint its first attempts and its
 * retries. By endpoint, and not by turns that are counted: who has something due, and a slot, differs from one plan to the next, and where that goes round in
 * step with a count some never have their turn (of three endpoints with a slot each, on two of the worker's, one was sent to once in a hundred seconds).
 */
import { defaults } from "../../Defaults.js"

/** What waits for its first attempt, or for another. */
export type Lane = "first" | "retry"

export interface Rotation {
  /** When the endpoint was asked last, as a number that grows; 0: never, or long ago. */
  readonly askedAt: (endpointId: string) => number
  /** The same of its retries. */
  readonly retriedAt: (endpointId: string) => number
  /** Whose turn it is, if it is but one that may go. */
  readonly turnOf: (endpointId: string) => Lane
  /** They are asked now, whatever they give: who gives nothing would stay the first. */
  readonly ask: (
    wants: ReadonlyArray<{
      readonly endpoint: { readonly id: string }
      readonly first: number
      readonly retry: number
      readonly turn: Lane
    }>
  ) => void
}

export const make = (): Rotation => {
  // Those that were asked the longest time ago come first.
  const asked = new Map<string, { readonly at: number; readonly retriedAt: number; readonly lane: Lane }>()
  let now = 0
  return {
    askedAt: (endpointId) => asked.get(endpointId)?.at ?? 0,
    retriedAt: (endpointId) => asked.get(endpointId)?.retriedAt ?? 0,
    turnOf: (endpointId) => asked.get(endpointId)?.lane === "first" ? "retry" : "first",
    ask: (wants) => {
      for (const { endpoint: { id }, first, retry, turn } of wants) {
        const retriedAt = retry > 0 ? ++now : asked.get(id)?.retriedAt ?? 0
        asked.delete(id)
        asked.set(id, { at: ++now, retriedAt, lane: first === 0 ? "retry" : retry === 0 ? "first" : turn })
      }
      for (const id of asked.keys()) {
        if (asked.size <= defaults.maxKeys) break
        asked.delete(id)
      }
    }
  }
}
