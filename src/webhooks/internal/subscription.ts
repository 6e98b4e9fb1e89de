/**
 * A subscription to a `PubSub` from which nothing is lost when the program stops.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as PubSub from "effect/PubSub"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { defaults } from "../../Defaults.js"

/** Subscribes and hands over; at the end, what was taken but not handed over and what waits in the subscription goes first. */
export const handOverAll = <A extends object>(
  pubsub: PubSub.PubSub<A>,
  handler: (event: A) => Effect.Effect<void>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    const subscription = yield* PubSub.subscribe(pubsub)
    const pending: Array<A> = []
    const handOver: Effect.Effect<void> = Effect.suspend(() => {
      const [event] = pending
      return event === undefined ? Effect.void : Effect.flatMap(handler(event), () => {
        pending.shift()
        return handOver
      })
    })
    // A take that is interrupted may lose what it was just given. So each is a fiber of its own that nobody interrupts: at the end either it has
    // an event, or giving up the subscription ends it.
    let taking: Fiber.RuntimeFiber<A> | undefined
    const next = Effect.uninterruptibleMask((restore) =>
      Effect.forkDaemon(Queue.take(subscription)).pipe(
        Effect.flatMap((fiber) => {
          taking = fiber
          return restore(Fiber.await(fiber))
        }),
        Effect.flatten,
        Effect.map((event) => {
          taking = undefined
          pending.push(event)
        })
      )
    )
    // Added after the subscription, so it runs before the subscription is given up.
    yield* Effect.acquireRelease(
      Effect.zipRight(next, handOver).pipe(Effect.forever, Effect.interruptible, Effect.forkDaemon),
      (fiber) =>
        Effect.gen(function*() {
          yield* Fiber.interrupt(fiber)
          const rest = yield* Queue.takeAll(subscription)
          yield* Queue.shutdown(subscription)
          const last = taking === undefined ? undefined : yield* Fiber.await(taking)
          if (last !== undefined && Exit.isSuccess(last)) pending.push(last.value)
          pending.push(...rest)
          yield* Effect.timeoutOption(Effect.interruptible(handOver), defaults.grace)
          if (pending.length > 0) {
            yield* Effect.annotateLogs(Effect.logError("webhook_failed"), {
              class: "interrupted",
              error: `${pending.length} events of a subscription were not taken before the program stopped`
            })
          }
        })
    )
  })
