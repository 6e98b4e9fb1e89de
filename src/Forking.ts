/**
 * Fibers that are begun by code which runs within another one's step: with all that the other has, and at once. (`Effect.forkDaemon` is a step of its own, and what
 * it forks waits for its turn.)
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as FiberId from "effect/FiberId"
import type * as FiberRefs from "effect/FiberRefs"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"

/** Changes what a new fiber has. */
export type Change = (refs: FiberRefs.FiberRefs, fiberId: FiberId.Runtime) => FiberRefs.FiberRefs

/**
 * Begins effects, each in a fiber of its own with all that the present one has, and nothing that another has left behind. Each waits for its turn, and can be interrupted
 * only where it says so.
 */
export const forker: Effect.Effect<<A, E>(effect: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>> = Effect
  .withFiberRuntime((fiber) => {
    const runtime = Runtime.make({
      context: fiber.currentContext,
      fiberRefs: fiber.getFiberRefs(),
      runtimeFlags: RuntimeFlags.disable(Runtime.defaultRuntimeFlags, RuntimeFlags.Interruption)
    })
    return Effect.succeed((effect) => Runtime.runFork(runtime, effect, { immediate: false }))
  })

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
