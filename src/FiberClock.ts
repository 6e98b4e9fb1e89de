/** The clock of a fiber, asked without a step of it: within an effect that has the fiber at hand anyway. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Fiber from "effect/Fiber"

/** The `Clock` that the fiber runs by. */
export const of = (fiber: Fiber.RuntimeFiber<unknown, unknown>): Clock.Clock =>
  Context.unsafeGet(fiber.currentDefaultServices, Clock.Clock)

/** Milliseconds of it that only go forward. */
export const monotonic = (fiber: Fiber.RuntimeFiber<unknown, unknown>): number => monotonicOf(of(fiber))

/** Milliseconds of a clock that only go forward. */
export const monotonicOf = (clock: Clock.Clock): number => Number(clock.unsafeCurrentTimeNanos()) / 1_000_000
