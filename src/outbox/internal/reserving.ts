/**
 * Slots that a worker keeps for what its own process is about to store: while it has nothing else to do, an event is stored as claimed, and sent as soon as it is
 * committed. Nobody has to look for it, which takes a transaction and two more statements: most of the time from storing to sending.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { alphanumeric } from "../../SecureRandom.js"
import type { Endpoint } from "../../webhooks/Endpoint.js"
import type { Endpoints } from "../../webhooks/Endpoints.js"
import type { Claimed } from "./claiming.js"
import type { Store } from "./store.js"

/** A delivery that is to be stored. */
export interface Pair {
  readonly messageId: string
  readonly endpointId: string
}

/** What tells it from all others. */
export const keyOfPair = ({ endpointId, messageId }: Pair): string => `${messageId} ${endpointId}`

/** Slots for some deliveries. Whoever has it ends it, whatever comes. */
export interface Reservation {
  /** Of the claim. */
  readonly fence: string
  /** How long the claim holds, in milliseconds. */
  readonly length: number
  /** The endpoint as the worker knows it; `undefined`: there is no slot for this delivery. */
  readonly endpointOf: (pair: Pair) => Endpoint | undefined
  /** Begins what has been committed as claimed. */
  readonly begin: (claimed: ReadonlyArray<Claimed>) => Effect.Effect<void>
  /** Gives back the slots of what has not been begun. */
  readonly end: Effect.Effect<void>
}

/** What a worker says to deliveries that are about to be stored. */
export type Reserve = (pairs: ReadonlyArray<Pair>) => Effect.Effect<Reservation | undefined>

/** Offers a worker's slots to all that store through the same `store`, until the scope closes. */
export const offer = (store: Store, reserve: Reserve): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const known = offers.get(store) ?? new Set()
      offers.set(store, known.add(reserve))
    }),
    () => Effect.sync(() => offers.get(store)?.delete(reserve))
  )

/** Slots of a worker of this process, if there is one that has any. Must run uninterruptibly, as long as nobody ends what it gives. */
export const reserve = (store: Store, pairs: ReadonlyArray<Pair>): Effect.Effect<Reservation | undefined> =>
  Effect.suspend(() => {
    const [first] = offers.get(store) ?? []
    return first === undefined || pairs.length === 0 ? none : first(pairs)
  })

/** The slots of a worker. */
export interface Slots {
  /** Takes one for the endpoint, if there is any. */
  readonly reserve: (endpoint: Endpoint) => boolean
  /** Gives some back. */
  readonly unreserve: (endpoints: ReadonlyArray<Endpoint>) => Effect.Effect<void>
  /** Begins what was claimed. */
  readonly begin: (claimed: ReadonlyArray<Claimed>) => Effect.Effect<void>
}

/** A worker's offer: of its slots, for endpoints that it knows and that need nobody's permission, while it is `idle`. */
export const make =
  (endpoints: Endpoints["Type"], slots: Slots, length: number, isIdle: () => boolean): Reserve => (pairs) =>
    Effect.suspend(() => {
      if (!isIdle()) return none
      const ids = [...new Set(pairs.map(({ endpointId }) => endpointId))]
      return Effect.zipWith(
        Effect.forEach(ids, (id) => known(endpoints, id)),
        alphanumeric(16),
        (found, fence) => {
          const byId = new Map(found.flatMap((endpoint) => endpoint === undefined ? [] : [[endpoint.id, endpoint]]))
          const reserved = new Map<string, Endpoint>()
          for (const pair of pairs) {
            const endpoint = byId.get(pair.endpointId)
            // An event that was handed in twice is one delivery.
            if (endpoint === undefined || reserved.has(keyOfPair(pair)) || !isIdle()) continue
            if (slots.reserve(endpoint)) reserved.set(keyOfPair(pair), endpoint)
          }
          if (reserved.size === 0) return undefined
          const giveBack = Effect.suspend(() => {
            const left = [...reserved.values()]
            reserved.clear()
            return left.length === 0 ? Effect.void : slots.unreserve(left)
          })
          return {
            fence,
            length,
            endpointOf: (pair) => reserved.get(keyOfPair(pair)),
            begin: (claimed) => Effect.zipRight(giveBack, slots.begin(claimed)),
            end: giveBack
          }
        }
      )
    })

// --- internal

const offers = new WeakMap<Store, Set<Reserve>>()

const none = Effect.succeed(undefined)

// What is paced or in order is a matter of rows. A fault of a host's is for the worker to tell, which asks as well.
const known = (endpoints: Endpoints["Type"], id: string): Effect.Effect<Endpoint | undefined> =>
  Effect.catchAllCause(
    Effect.map(endpoints.get(id), (found) => {
      const endpoint = Option.getOrUndefined(found)
      return endpoint?.enabled === true && !endpoint.ordered && endpoint.rateLimit === undefined ? endpoint : undefined
    }),
    () => none
  )
