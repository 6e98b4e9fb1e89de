/**
 * How many requests are in flight: in the process, and to one key. A call waits for its key's slot first, so that those
 * that wait for a slow key hold no slot of the process.
 */
import * as Effect from "effect/Effect"
import { BoundedKeys } from "./BoundedKeys.js"

/** Runs an effect when a slot is free: of `key` (at most `limit`, the first one seen for a key in use counts), then of the process. */
export interface Slots {
  readonly withSlot: <A, E, R>(
    key: string,
    limit: number | undefined,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R>
  /** Whether a call of this key would have to wait. */
  readonly wouldWait: (key: string) => boolean
}

export const make = (options: {
  readonly concurrency: number
  readonly keyConcurrency: number
  readonly maxKeys: number
}): Slots => {
  const all: Slot = { semaphore: Effect.unsafeMakeSemaphore(options.concurrency), limit: options.concurrency, users: 0 }
  const keys = new BoundedKeys<{ slot: Slot | undefined }>(options.maxKeys, () => ({ slot: undefined }))

  const within = <A, E, R>(slot: Slot, effect: Effect.Effect<A, E, R>, after: () => void): Effect.Effect<A, E, R> =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        slot.users++
      }),
      () => slot.semaphore.withPermits(1)(effect),
      () =>
        Effect.sync(() => {
          slot.users--
          after()
        })
    )

  return {
    withSlot: (key, limit = options.keyConcurrency, effect) =>
      Effect.suspend(() => {
        const process = within(all, effect, nothing)
        const entry = keys.get(key)
        if (entry === undefined) return process
        if (entry.slot === undefined || (entry.slot.users === 0 && entry.slot.limit !== limit)) {
          entry.slot = { semaphore: Effect.unsafeMakeSemaphore(limit), limit, users: 0 }
        }
        const slot = entry.slot
        keys.pin(key)
        return within(slot, process, () => {
          if (slot.users === 0) keys.unpin(key)
        })
      }),
    wouldWait: (key) => all.users >= all.limit || isFull(keys.find(key)?.slot)
  }
}

// --- internal

interface Slot {
  readonly semaphore: Effect.Semaphore
  readonly limit: number
  users: number
}

const isFull = (slot: Slot | undefined): boolean => slot !== undefined && slot.users >= slot.limit

const nothing = (): void => {}
