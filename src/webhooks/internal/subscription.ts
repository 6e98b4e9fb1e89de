/**
 * Subscriptions from which nothing that was taken is lost when the program stops.
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as MutableList from "effect/MutableList"
import * as PubSub from "effect/PubSub"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { defaults } from "../../Defaults.js"
import { describeEvent } from "./describeEvent.js"

/** Hands over all elements of a stream. A failure of the stream is logged and ends the subscription. */
export const ofStream = <A extends object, E, R>(
  stream: Stream.Stream<A, E, R>,
  handler: (event: A) => Effect.Effect<void>
): Effect.Effect<void, never, Scope.Scope | R> => {
  const pending = makePending(handler)
  return Stream.runForEachChunk(stream, (chunk) => Effect.zipRight(pending.add(chunk), pending.handOver)).pipe(
    Effect.catchAllCause((cause) =>
      Cause.isInterruptedOnly(cause) ? Effect.void : Effect.logError("webhook_subscription_ended", cause)
    ),
    (loop) => running(loop, pending.drain)
  )
}

/** Hands over all that a `PubSub` publishes from now on. */
export const ofPubSub = <A extends object>(
  pubsub: PubSub.PubSub<A>,
  handler: (event: A) => Effect.Effect<void>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(PubSub.subscribe(pubsub), (subscription) => {
    const pending = makePending(handler)
    // A take that is interrupted may lose what it was just given. So each is a fiber of its own that nobody interrupts: at the end either
    // it has an event, or giving up the subscription ends it.
    let taking: Fiber.RuntimeFiber<A> | undefined
    const next = Effect.uninterruptibleMask((restore) =>
      Effect.forkDaemon(Queue.take(subscription)).pipe(
        Effect.flatMap((fiber) => {
          taking = fiber
          return restore(Fiber.await(fiber))
        }),
        Effect.flatten,
        Effect.flatMap((event) => {
          taking = undefined
          return pending.add(Chunk.of(event))
        })
      )
    )
    const rest = Effect.gen(function*() {
      // Taking makes room for publishers that wait, so there may be more; not for ever, should they never stop.
      const waiting: Array<Iterable<A>> = []
      for (let round = 0; round < 1000; round++) {
        const taken = yield* Queue.takeAll(subscription)
        if (Chunk.isEmpty(taken)) break
        waiting.push(taken)
      }
      yield* Queue.shutdown(subscription)
      const last = taking === undefined ? undefined : yield* Fiber.await(taking)
      if (last !== undefined && Exit.isSuccess(last)) yield* pending.add(Chunk.of(last.value))
      for (const taken of waiting) yield* pending.add(taken)
      yield* pending.drain
    })
    // Added after the subscription, so the rest is taken before the subscription is given up.
    return running(Effect.forever(Effect.zipRight(next, pending.handOver)), rest)
  })

// --- internal

/** Runs a loop until the scope closes, then what is left to do. */
const running = <E, R>(
  loop: Effect.Effect<unknown, E, R>,
  rest: Effect.Effect<void>
): Effect.Effect<void, never, Scope.Scope | R> =>
  Effect.asVoid(Effect.acquireRelease(
    Effect.forkDaemon(Effect.interruptible(loop)),
    (fiber) => Effect.zipRight(Fiber.interrupt(fiber), rest)
  ))

/** Events that were taken and not handed over yet, in order. */
const makePending = <A extends object>(handler: (event: A) => Effect.Effect<void>) => {
  const events = MutableList.empty<A>()
  const handOver: Effect.Effect<void> = Effect.suspend(() => {
    const event = MutableList.head(events)
    return event === undefined ? Effect.void : Effect.flatMap(handler(event), () => {
      MutableList.shift(events)
      return handOver
    })
  })
  return {
    add: (more: Iterable<A>) =>
      Effect.sync(() => {
        for (const event of more) MutableList.append(events, event)
      }),
    handOver,
    drain: Effect.zipRight(
      Effect.timeoutOption(Effect.interruptible(handOver), defaults.grace),
      Effect.suspend(() =>
        Effect.forEach(
          events,
          (event) =>
            Effect.annotateLogs(Effect.logError("webhook_failed"), {
              ...describeEvent(event),
              outcome: "failed",
              class: "interrupted",
              error: "the program stopped before the event was taken"
            }),
          { discard: true }
        )
      )
    )
  }
}
