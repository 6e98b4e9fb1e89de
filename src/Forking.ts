/**
 * Fibers that are begun by code which runs within another one's step: with all that the other has, and at once. (`Effect.forkDaemon` is a step of its own, and what
 * it forks waits for its turn.)
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as FiberId from "effect/FiberId"
import type * as FiberRefs from "effect/FiberRefs"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"

/** What the new fiber has otherwise than the old one. */
export interface Options {
  readonly scope?: Scope.Scope | undefined
  readonly refs?: ((refs: FiberRefs.FiberRefs, fiberId: FiberId.Runtime) => FiberRefs.FiberRefs) | undefined
}

/** Begins an effect in a fiber of its own, which nobody ends. What it needs of services, `fiber` has, or its scope is given. */
export const forkFrom = <A, E>(
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  effect: Effect.Effect<A, E, Scope.Scope>,
  { refs, scope }: Options = {}
): Fiber.RuntimeFiber<A, E> =>
  Runtime.runFork(
    Runtime.make({
      context: scope === undefined
        ? fiber.currentContext as Context.Context<Scope.Scope>
        : Context.add(fiber.currentContext, Scope.Scope, scope),
      fiberRefs: fiber.getFiberRefs(),
      runtimeFlags: Runtime.defaultRuntimeFlags
    }),
    effect,
    refs === undefined ? {} : { updateRefs: refs }
  )
