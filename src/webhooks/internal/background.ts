/**
 * A bounded number of effects that outlive their callers but not their scope.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Places, type Ticket } from "../../http/internal/places.js"
import * as Metrics from "../../Metrics.js"

/** Work that goes on behind its caller. */
export interface Background {
  /** Starts an effect in the background; `lost` runs when it was interrupted, be it before it could begin. */
  readonly start: (
    effect: Effect.Effect<unknown>,
    whenFull: "refuse" | "wait",
    lost: Effect.Effect<void>
  ) => Effect.Effect<void, BackgroundQueueFull | DispatcherClosed>
}

/** A bounded set of fibers that outlive their callers, but not the scope: they get `grace`, then they are interrupted. */
export const make = (
  { grace, limit }: { readonly grace: Duration.Duration; readonly limit: number }
): Effect.Effect<Background, never, Scope.Scope> =>
  Effect.gen(function*() {
    const places = new Places(limit)
    const fibers = new Set<Fiber.RuntimeFiber<unknown>>()
    let closed = false

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        closed = true
        const running = Array.from(fibers)
        return Effect.zipRight(
          Effect.timeoutOption(Effect.interruptible(Fiber.awaitAll(running)), grace),
          Fiber.interruptAll(fibers)
        )
      })
    )

    const fork = (
      ticket: Ticket,
      effect: Effect.Effect<unknown>,
      lost: Effect.Effect<void>
    ): Effect.Effect<void, DispatcherClosed> =>
      Effect.suspend(() => {
        if (closed) {
          places.leave(ticket)
          return Effect.fail(new DispatcherClosed())
        }
        return Effect.interruptible(effect).pipe(
          Effect.onInterrupt(() => lost),
          Effect.onExit(() =>
            Effect.suspend(() => {
              places.leave(ticket)
              return Metric.modify(Metrics.backgroundQueue, -1)
            })
          ),
          Effect.forkDaemon,
          Effect.tap(Metric.modify(Metrics.backgroundQueue, 1)),
          Effect.map((fiber) => {
            fibers.add(fiber)
            fiber.addObserver(() => {
              fibers.delete(fiber)
            })
          })
        )
      })

    return {
      start: (effect, whenFull, lost) =>
        Effect.uninterruptibleMask((restore): Effect.Effect<void, BackgroundQueueFull | DispatcherClosed> => {
          if (closed) return Effect.fail(new DispatcherClosed())
          if (whenFull === "refuse" && places.full) return Effect.fail(new BackgroundQueueFull({ limit }))
          const ticket = places.enter()
          const place = ticket.granted
            ? Effect.void
            : Effect.onInterrupt(restore(ticket.wait), () => Effect.sync(() => places.leave(ticket)))
          return Effect.zipRight(place, fork(ticket, effect, lost))
        })
    }
  })

/** As many events as are allowed are under way in the background; this one was not taken. */
export class BackgroundQueueFull
  extends Schema.TaggedError<BackgroundQueueFull>("effect-webhooks/BackgroundQueueFull")("BackgroundQueueFull", {
    limit: Schema.Number
  })
{
  override get message(): string {
    return `${this.limit} events are under way in the background; try again later, or dispatch and wait`
  }
}

/** The dispatcher is shutting down; this event was not taken. */
export class DispatcherClosed
  extends Schema.TaggedError<DispatcherClosed>("effect-webhooks/DispatcherClosed")("DispatcherClosed", {})
{
  override get message(): string {
    return "the dispatcher is shutting down and takes no more events"
  }
}
