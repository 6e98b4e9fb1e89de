/**
 * How many requests are in flight: in the process, and to one key. A call waits for its key's slot first, so that those
 * that wait for a slow key hold no slot of the process.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { BoundedKeys } from "./BoundedKeys.js"
import { monotonicNow } from "./monotonic.js"
import { Places } from "./places.js"

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
        const inProcess = within(all, patience, effect)
        const places = placesOf(key, limit)
        return places === undefined ? inProcess : within(places, patience, inProcess)
      }),
    wouldWait: (key) => all.full || keys.find(key)?.places?.full === true
  }
}

// --- internal

const within = <A, E, R, E2>(
  places: Places,
  patience: Patience<E2>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | E2, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.suspend(() => {
      const ticket = places.enter()
      const begin = Effect.ensuring(restore(effect), Effect.sync(() => places.leave(ticket)))
      if (ticket.granted) return begin
      return Effect.flatMap(monotonicNow, (now) =>
        // The timer may fire in the very moment of the grant: what counts is the ticket.
        restore(
          Effect.timeoutOption(Effect.interruptible(ticket.wait), Duration.millis(Math.max(0, patience.until - now)))
        ).pipe(
          Effect.onInterrupt(() => Effect.sync(() => places.leave(ticket))),
          Effect.flatMap((): Effect.Effect<A, E | E2, R> => {
            if (ticket.granted) return begin
            places.leave(ticket)
            return Effect.failSync(patience.onTimeout)
          })
        ))
    })
  )
