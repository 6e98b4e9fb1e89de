import * as Effect from "effect/Effect"
import * as FiberClock from "../../FiberClock.js"

/** Milliseconds of a clock that only goes forward: for measuring and scheduling, never for telling the time. */
export const monotonicNow: Effect.Effect<number> = Effect.withFiberRuntime((fiber) =>
  Effect.succeed(FiberClock.monotonic(fiber))
)
