/** Several `FiberRef`s set at once for the time of an effect: one step in, one step out (three times `Effect.locally` take 45 steps of the fiber, this 10). */
import * as Effect from "effect/Effect"
import type * as FiberId from "effect/FiberId"
import type * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import { uninterruptibleMask } from "./Masking.js"

/** A value of a `FiberRef`, made from the one before. */
export interface Local {
  readonly set: Change
  /** What it was in `before`. */
  readonly reset: (before: FiberRefs.FiberRefs) => Change
}

export const local = <A>(fiberRef: FiberRef.FiberRef<A>, f: (before: A) => A): Local => {
  const to = (value: (refs: FiberRefs.FiberRefs) => A): Change => (fiberId, refs) =>
    FiberRefs.updateAs(refs, { fiberId, fiberRef, value: value(refs) })
  return {
    set: to((refs) => f(FiberRefs.getOrDefault(refs, fiberRef))),
    reset: (before) => to(() => FiberRefs.getOrDefault(before, fiberRef))
  }
}

/** Runs an effect with some values. */
export const locallyAll = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  locals: ReadonlyArray<Local>
): Effect.Effect<A, E, R> =>
  uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.getFiberRefs, (before) => {
      const back = change(locals.map(({ reset }) => reset(before)))
      return Effect.zipRight(
        change(locals.map(({ set }) => set)),
        Effect.matchCauseEffect(restore(effect), {
          onFailure: (cause) => Effect.zipRight(back, Effect.failCause(cause)),
          onSuccess: (result) => Effect.as(back, result)
        })
      )
    })
  )

// --- internal

type Change = (fiberId: FiberId.Single, refs: FiberRefs.FiberRefs) => FiberRefs.FiberRefs

const change = (changes: ReadonlyArray<Change>): Effect.Effect<void> =>
  Effect.updateFiberRefs((fiberId, refs) => changes.reduce((refs, each) => each(fiberId, refs), refs))
