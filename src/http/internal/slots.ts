/**
 * How many requests are in flight: in the process, and to one key. A call waits for its key's slot first, so that those
 * that wait for a slow key hold no slot of the process.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { BoundedKeys } from "./BoundedKeys.js"
import * as Deadlines from "./deadlines.js"
import { Places, type Ticket } from "./places.js"

/** When a call may no longer wait (monotonic milliseconds), and how it then fails. */
export interface Patience<E> {
  readonly until: number
  readonly onTimeout: () => E
}

export interface Slots {
  /** Runs an effect when a slot is free: of `key` (at most `limit`; the first one seen for a key in use counts), then of the process. */
  readonly withSlot: <A, E, R, E2>(
    key: string,
    limit: number | undefined,
    patience: Patience<E2>,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | E2, R>
  /** Whether a call of this key would have to wait. */
  readonly wouldWait: (key: string) => boolean
}

export const make = (options: {
  readonly concurrency: number
  readonly keyConcurrency: number
  readonly maxKeys: number
}): Slots => {
  const all = new Places(options.concurrency)
  const keys = new BoundedKeys<{ places: Places | undefined }>(
    options.maxKeys,
    () => ({ places: undefined }),
    ({ places }) => places?.idle === false
  )

  const placesOf = (key: string, limit: number): Places | undefined => {
    const entry = keys.get(key)
    if (entry === undefined) return undefined
    if (entry.places === undefined || (entry.places.idle && entry.places.limit !== limit)) {
      entry.places = new Places(limit)
    }
    return entry.places
  }

  return {
    withSlot: (key, limit = options.keyConcurrency, patience, effect) =>
      Effect.suspend(() => {
        const places = placesOf(key, limit)
        return within(places === undefined ? [all] : [places, all], patience, effect)
      }),
    wouldWait: (key) => all.full || keys.find(key)?.places?.full === true
  }
}

// --- internal

/** Holds a place of each while the effect runs, taken in their order. */
const within = <A, E, R, E2>(
  needed: ReadonlyArray<Places>,
  patience: Patience<E2>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | E2, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.suspend(() => {
      const held: Array<Ticket> = []
      const leave = (): void => {
        for (let index = 0; index < held.length; index++) needed[index]!.leave(held[index]!)
      }
      const next: Effect.Effect<A, E | E2, R> = Effect.suspend(() => {
        while (held.length < needed.length) {
          const ticket = needed[held.length]!.enter()
          held.push(ticket)
          if (!ticket.granted) return Effect.flatMap(restore(granted(ticket, patience)), () => next)
        }
        return restore(effect)
      })
      return Effect.matchCauseEffect(next, {
        onFailure: (cause) => {
          leave()
          return Effect.failCause(cause)
        },
        onSuccess: (result) => {
          leave()
          return Effect.succeed(result)
        }
      })
    })
  )

/** Until the ticket is granted. */
const granted = <E>(ticket: Ticket, patience: Patience<E>): Effect.Effect<void, E> =>
  Clock.clockWith((clock) =>
    Effect.async<void, E>((resume) => {
      const deadline = Deadlines.set(clock, Math.max(0, patience.until - Deadlines.monotonic(clock)), () => {
        resume(Effect.failSync(patience.onTimeout))
      })
      ticket.onGrant(() => {
        deadline.cancel()
        resume(Effect.void)
      })
      return Effect.sync(() => deadline.cancel())
    })
  )
