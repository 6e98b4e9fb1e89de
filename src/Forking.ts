/**
 * Fibers that are begun by code which runs within another one's step: with all that the other has, and at once. (`Effect.forkDaemon` is a step of its own, and what
 * it forks waits for its turn.)
 */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as FiberId from "effect/FiberId"
import type * as FiberRefs from "effect/FiberRefs"
import * as Runtime from "effect/Runtime"

/** Changes what a new fiber has. */
export type Change = (refs: FiberRefs.FiberRefs, fiberId: FiberId.Runtime) => FiberRefs.FiberRefs

/** Begins an effect in a fiber of its own, which nobody ends, with the references of `fiber` and a context. */
export const forkFrom = <A, E, R>(
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  context: Context.Context<R>,
  effect: Effect.Effect<A, E, R>,
  change?: Change
): Fiber.RuntimeFiber<A, E> =>
  Runtime.runFork(
    Runtime.make({ context, fiberRefs: fiber.getFiberRefs(), runtimeFlags: Runtime.defaultRuntimeFlags }),
    effect,
    change === undefined ? {} : { updateRefs: change }
  )
