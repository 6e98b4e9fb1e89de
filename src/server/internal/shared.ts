/** One run for many who ask. */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import { monotonicNow } from "../../http/internal/monotonic.js"

/**
 * Whoever asks while the effect runs, or within `time` after its end, gets what that run came to. (`Effect.cachedWithTTL` counts from when somebody asked: an
 * effect that takes longer is run once more for each who has waited, one after the other.)
 */
export const shared = <A, E>(effect: Effect.Effect<A, E>, time: Duration.DurationInput): Effect.Effect<A, E> => {
  let last: Deferred.Deferred<A, E> | undefined
  // Monotonic milliseconds.
  let until = 0
  return Effect.flatMap(monotonicNow, (now) => {
    if (last !== undefined && now < until) return Deferred.await(last)
    const next = Deferred.unsafeMake<A, E>(FiberId.none)
    last = next
    until = Infinity
    const ended = Effect.map(monotonicNow, (now) => {
      until = now + Duration.toMillis(time)
    })
    // In a fiber of its own: who asked first may go away.
    const run = Effect.zipRight(Effect.intoDeferred(Effect.interruptible(effect), next), ended)
    return Effect.zipRight(Effect.forkDaemon(run), Deferred.await(next))
  })
}
