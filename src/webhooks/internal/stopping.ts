/**
 * For callers that must have the report of what they stop: interrupting an effect that is interruptible takes its result away, and one that isn't
 * doesn't stop.
 */
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import { globalValue } from "effect/GlobalValue"

/** Runs a `send` whose request ends when the fiber is interrupted although the caller is uninterruptible: the report then tells of it. */
export const stoppable = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.locally(effect, isStoppable, true)

/** Makes a call as interruptible as the caller wants it; `restore` is that of the caller's `uninterruptibleMask`. */
export const asWanted =
  (restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>) =>
  <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(FiberRef.get(isStoppable), (stoppable) => stoppable ? Effect.interruptible(call) : restore(call))

// --- internal

const isStoppable = globalValue(
  "effect-webhooks/WebhookSender/isStoppable",
  () => FiberRef.unsafeMake(false, { join: (parent) => parent })
)
