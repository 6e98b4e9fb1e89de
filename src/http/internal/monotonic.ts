import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** Milliseconds of a clock that only goes forward: for measuring and scheduling, never for telling the time. */
export const monotonicNow: Effect.Effect<number> = Clock.clockWith((clock) =>
  Effect.sync(() => Number(clock.unsafeCurrentTimeNanos()) / 1_000_000)
)
