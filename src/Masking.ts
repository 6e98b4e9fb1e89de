/**
 * `Effect.uninterruptibleMask` for what is done with every delivery. Its own keeps what it is handed in a function that it assigns to a property, and V8 puts
 * such functions into old memory at once, where all that they reach lives until the next full collection: 7 of the 60 kB that a delivery allocated, whose keeping took
 * it a seventh of its CPU (75 and 63 µs). Here nothing is left in there when it runs; and in a region that is uninterruptible there is nothing to be done.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import { identity } from "effect/Function"
import * as RuntimeFlags from "effect/RuntimeFlags"

/** Makes an effect interruptible where the mask's caller was. What it gives runs once. */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

type Use<A, E, R> = (restore: Restore, fiber: Fiber.RuntimeFiber<unknown, unknown>) => Effect.Effect<A, E, R>

/**
 * Runs `use` uninterruptibly; what it puts into `restore` can be interrupted where its caller can, and where that can't, as `outer` says: a caller that is within
 * a mask of its own hands over the `restore` of it, in place of taking its mask off for another to be put on (1 µs).
 */
export const uninterruptibleMask = <A, E, R>(
  use: Use<A, E, R>,
  outer: Restore = identity
): Effect.Effect<A, E, R> =>
  Effect.withFiberRuntime<A, E, R>((fiber, { runtimeFlags }) =>
    RuntimeFlags.interruptible(runtimeFlags) ? masked(new Held(use), fiber) : use(outer, fiber)
  )

/** `Effect.onExit` for a region that is uninterruptible already: its own makes two masks. */
export const onExit = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  after: (exit: Exit.Exit<A, E>) => Effect.Effect<unknown>
): Effect.Effect<A, E, R> => {
  const told = (exit: Exit.Exit<A, E>) => Effect.zipRight(after(exit), exit)
  return Effect.matchCauseEffect(effect, {
    onFailure: (cause) => told(Exit.failCause(cause)),
    onSuccess: (value) => told(Exit.succeed(value))
  })
}

/** Whether a fiber has been interrupted, be it that it hasn't come to where it can be. */
export const isInterrupted = (fiber: Fiber.RuntimeFiber<unknown, unknown>): boolean =>
  !Cause.isEmpty(fiber.getFiberRef(FiberRef.interruptedCause))

// --- internal

class Held<A> {
  private value: A | undefined

  constructor(value: A) {
    this.value = value
  }

  /** Once. */
  take(): A {
    const value = this.value!
    this.value = undefined
    return value
  }
}

/** In a function of its own: what is in its scope is kept with it. */
const masked = <A, E, R>(
  held: Held<Use<A, E, R>>,
  fiber: Fiber.RuntimeFiber<unknown, unknown>
): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) => held.take()((effect) => restored(restore, new Held(effect)), fiber))

const restored = <A, E, R>(restore: Restore, held: Held<Effect.Effect<A, E, R>>): Effect.Effect<A, E, R> =>
  restore(Effect.suspend(() => held.take()))
