/**
 * How many requests are in flight: in the process, and to one key. A call waits for its key's slot first, so that those
 * that wait for a slow key hold no slot of the process.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { uninterruptibleMask } from "../../Masking.js"
import type { Within } from "../../Surroundings.js"
import { BoundedKeys } from "./BoundedKeys.js"
import * as Deadlines from "./deadlines.js"
import { Places, type Ticket } from "./places.js"

/** When a call may no longer wait (monotonic milliseconds), and how it then fails; `restore` makes the wait interruptible where the caller isn't. */
export interface Patience<E> {
  readonly until: number
  readonly onTimeout: () => E
  readonly restore: Within
}

/** What is done about an end; uninterruptible. `restore`: where the caller could be interrupted; `fiber`: that of the call. */
export type After<A, E> = (
  exit: Exit.Exit<A, E>,
  restore: Within,
  fiber: Fiber.RuntimeFiber<unknown, unknown>
) => Effect.Effect<void> | undefined

export interface Slots {
  /**
   * Runs an effect when a slot is free: of `key` (at most `limit`; the first one seen for a key in use counts), then of the process. It runs uninterruptibly: what
   * waits in it says by itself that it can be interrupted. `after`: once the slot is free again, before the end is told.
   */
  readonly withSlot: <A, E, R, E2>(
    key: string,
    limit: number | undefined,
    patience: Patience<E2>,
    effect: Effect.Effect<A, E, R>,
    after: After<A, E | E2> | undefined
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
    withSlot: (key, limit = options.keyConcurrency, patience, effect, after) =>
      within(
        () => {
          const places = placesOf(key, limit)
          return places === undefined ? [all] : [places, all]
        },
        patience,
        effect,
        after
      ),
    wouldWait: (key) => all.full || keys.find(key)?.places?.full === true
  }
}

// --- internal

/** Holds a place of each while the effect runs, taken in their order. */
const within = <A, E, R, E2>(
  places: () => ReadonlyArray<Places>,
  patience: Patience<E2>,
  effect: Effect.Effect<A, E, R>,
  after: After<A, E | E2> | undefined
): Effect.Effect<A, E | E2, R> =>
  uninterruptibleMask((restore, fiber) => {
    const needed = places()
    const held: Array<Ticket> = []
    const next = (): Effect.Effect<A, E | E2, R> => {
      while (held.length < needed.length) {
        const ticket = needed[held.length]!.enter()
        held.push(ticket)
        if (!ticket.granted) return Effect.flatMap(restore(granted(ticket, patience)), next)
      }
      return effect
    }
    const leave = (exit: Exit.Exit<A, E | E2>): Effect.Effect<A, E | E2> => {
      for (let index = 0; index < held.length; index++) needed[index]!.leave(held[index]!)
      const last = after?.(exit, restore, fiber)
      return last === undefined ? exit : Effect.zipRight(last, exit)
    }
    return Effect.matchCauseEffect(next(), {
      onFailure: (cause) => leave(Exit.failCause(cause)),
      onSuccess: (result) => leave(Exit.succeed(result))
    })
  }, patience.restore)

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
