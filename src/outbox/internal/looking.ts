/**
 * What is due, as the worker sees it from look to look. To look at everything costs a step for each endpoint that has something pending, orphaned ones included;
 * so where these are many, it isn't done each time: in between only those are looked at again which, by the last that was seen of them, have something due.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import { monotonicNow } from "../../http/internal/monotonic.js"
import { turn } from "../../http/internal/turn.js"
import * as Metrics from "../../Metrics.js"
import type { Endpoint } from "../../webhooks/Endpoint.js"
import type { Endpoints } from "../../webhooks/Endpoints.js"
import type { OutboxUnavailable } from "../OutboxError.js"
import * as Planning from "./planning.js"
import * as Scanning from "./scanning.js"
import type { Store } from "./store.js"

/** What a look has seen. */
export interface Seen {
  /** Endpoints that are known here and have something due. */
  readonly due: ReadonlyArray<{ readonly due: Planning.Due; readonly endpoint: Endpoint }>
  /** When the next thing comes due, in milliseconds since the epoch; `Infinity`: nothing does. */
  readonly later: number
  /** Milliseconds until everything may be looked at again; 0: it has been. */
  readonly again: number
}

/** Makes a look at what is due at `now`; the first attempt is put off by `firstDelay` milliseconds. */
export const make = (
  store: Store,
  endpoints: Endpoints["Type"],
  firstDelay: number
): (now: number) => Effect.Effect<Seen, OutboxUnavailable> => {
  let remembered = new Map<string, Planning.Due>()
  // Monotonic milliseconds.
  let allAt = 0
  // What the last look at everything took.
  let before = 0
  let looks = 0

  const everything = (now: number) =>
    Effect.gen(function*() {
      const found = new Map<string, Planning.Due>()
      for (let from: Scanning.Cursor | undefined = { id: "", lane: "" }; from !== undefined;) {
        const { due, next }: Effect.Effect.Success<ReturnType<typeof Scanning.scan>> = yield* Scanning.scan(store, from)
        for (const one of due) found.set(one.endpointId, merged(found.get(one.endpointId), one))
        from = next
        if (from !== undefined) yield* turn
      }
      const all = [...found.values()].map((one) => Planning.delayed(one, firstDelay))
      yield* Metric.set(Metrics.oldestDueAge, oldestDueAge(all, now))
      return all
    })

  return (now) =>
    Effect.gen(function*() {
      const from = yield* monotonicNow
      const all = from >= allAt
      const waiting = [...remembered.values()].filter((one) => Planning.anyDue(one, now)).map(({ endpointId }) =>
        endpointId
      )
      const at = waiting.length <= mostAgain ? 0 : looks++ * mostAgain % waiting.length
      const asked = waiting.slice(at, at + mostAgain)
      const seen = all ?
        yield* everything(now) :
        (yield* Scanning.scanOf(store, asked)).map((one) => Planning.delayed(one, firstDelay))
      if (all) remembered = new Map()
      else for (const id of asked) remembered.delete(id)
      const due: Array<Seen["due"][number]> = []
      for (const one of seen) {
        const endpoint = Planning.anyDue(one, now) ? yield* endpoints.get(one.endpointId) : undefined
        // What is orphaned is met again only when everything is.
        if (endpoint !== undefined && Option.isNone(endpoint)) continue
        remembered.set(one.endpointId, one)
        if (endpoint !== undefined && Option.isSome(endpoint)) due.push({ due: one, endpoint: endpoint.value })
      }
      const until = yield* monotonicNow
      if (all) {
        // One that took long may have been held up by something else: two in a row tell what it costs.
        const took = Math.min(before, until - from)
        before = until - from
        allAt = took < cheap ? 0 : until + Math.min(longestPause, 4 * took)
      }
      return {
        due,
        later: earliest([...remembered.values()].filter((one) => !Planning.anyDue(one, now))),
        again: Math.max(0, allAt - until)
      }
    })
}

// --- internal

/** Milliseconds. A look at everything that takes no longer is made each time; one that does gets a fifth of the time, and comes once a second at least. */
const cheap = 20
const longestPause = 1000

/** Endpoints that are looked at again at one time. */
const mostAgain = 200

/** The lanes of an endpoint may come in two scans. */
const merged = (one: Planning.Due | undefined, other: Planning.Due): Planning.Due => ({
  endpointId: other.endpointId,
  first: one?.first ?? other.first,
  since: one?.since ?? other.since,
  retry: one?.retry ?? other.retry,
  leased: one?.leased ?? other.leased
})

/** Milliseconds. */
const oldestDueAge = (due: ReadonlyArray<Planning.Due>, now: number): number =>
  due.reduce((oldest, { first, retry, since }) => {
    const stored = first !== undefined && first <= now ? Math.max(first, since ?? now) : now
    return Math.max(oldest, now - Math.min(stored, retry ?? now))
  }, 0)

const earliest = (due: ReadonlyArray<Planning.Due>): number =>
  due.reduce(
    (at, { first, leased, retry }) => Math.min(at, first ?? Infinity, leased ?? Infinity, retry ?? Infinity),
    Infinity
  )
