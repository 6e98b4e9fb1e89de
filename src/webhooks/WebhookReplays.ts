/**
 * What a receiver remembers of the messages that it has already handled, so that one sent twice is handled once.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/**
 * A memory of message ids. A table with a unique column serves several processes: `remember` inserts and says whether a row was
 * added, `forget` deletes. A failing store should die: the sender then sees a server error and tries again.
 */
export interface Replays {
  /**
   * Remembers an id and says whether it was new. Asked only for requests whose signature held; `timestamp` is in seconds. It has to
   * be atomic: of two calls with one id, exactly one is told `true`.
   */
  readonly remember: (id: string, timestamp: number) => Effect.Effect<boolean>
  /** Forgets an id whose handling did not succeed, so that the sender's next attempt is handled. */
  readonly forget: (id: string) => Effect.Effect<void>
}

/** Bounds of a memory made by `makeMemory`. */
export interface MemoryOptions {
  /** Ids kept at most, 100 000 unless given; the oldest goes first, and the first loss of an id before its time is logged as a warning. */
  readonly capacity?: number | undefined
  /**
   * How long an id is kept, by the monotonic clock; 24 hours unless given. At least twice the verifier's tolerance, or a recorded
   * request can be sent again; longer also catches a sender's late retries.
   */
  readonly timeToLive?: Duration.DurationInput | undefined
}

/** A memory of this process alone: bounded, and gone with it. */
export const makeMemory = (options?: MemoryOptions): Effect.Effect<Replays> =>
  Effect.sync(() => {
    const capacity = Math.max(1, options?.capacity ?? 100_000)
    const timeToLive = Duration.toMillis(options?.timeToLive ?? "24 hours")
    // All live equally long, so the order of insertion is the order of expiry.
    const expiries = new Map<string, number>()
    let warned = false
    const removeExpired = (now: number): void => {
      for (const [id, expiry] of expiries) {
        if (expiry > now) return
        expiries.delete(id)
      }
    }
    const removeOldest = (): boolean => {
      const oldest = expiries.size < capacity ? undefined : expiries.keys().next().value
      if (oldest === undefined) return false
      expiries.delete(oldest)
      return true
    }
    return {
      remember: (id) =>
        Effect.flatMap(Clock.currentTimeNanos, (nanos) => {
          const now = Number(nanos / 1_000_000n)
          removeExpired(now)
          if (expiries.has(id)) return Effect.succeed(false)
          const lost = removeOldest()
          expiries.set(id, now + timeToLive)
          if (!lost || warned) return Effect.succeed(true)
          warned = true
          return Effect.as(
            Effect.annotateLogs(Effect.logWarning("webhook_replays_full"), { package: "effect-webhooks", capacity }),
            true
          )
        }),
      forget: (id) => Effect.sync(() => expiries.delete(id))
    }
  })
