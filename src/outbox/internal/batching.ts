/**
 * Shared commits: what is handed in while one transaction is under way goes into the next one, together.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { turn } from "../../http/internal/turn.js"

/** Hands in an item and waits for what became of it. Interrupting the wait doesn't take it back. */
export type Submit<Item, Result, E> = (item: Item) => Effect.Effect<Result, E>

export interface Batching<Item, Result, E> {
  readonly submit: Submit<Item, Result, E>
  /** Items that wait for their batch to begin. */
  readonly waiting: () => number
}

/**
 * `run` gets between 1 and `max` items and gives a result for each, in their order. Where it fails, each of them is run by itself if `divide` says so, since
 * one may have failed them all; else its failure is theirs. It runs outside of the submitters' fibers, one run at a time, and what has been
 * handed in is run to its end when the scope closes.
 */
export const make = <Item, Result, E>(
  run: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Result>, E>,
  max: number,
  divide: (error: E) => boolean
): Effect.Effect<Batching<Item, Result, E>, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    const queue: Array<Pending<Item, Result, E>> = []
    let running = false

    const runAll = (batch: ReadonlyArray<Pending<Item, Result, E>>): Effect.Effect<void> =>
      Effect.matchCauseEffect(run(batch.map(({ item }) => item)), {
        onFailure: (cause) =>
          batch.length > 1 && Option.exists(Cause.failureOption(cause), divide)
            ? Effect.forEach(batch, (one) => runAll([one]), { discard: true })
            : Effect.forEach(batch, ({ done }) => Deferred.failCause(done, cause), { discard: true }),
        onSuccess: (results) =>
          Effect.forEach(batch, ({ done }, index) => Deferred.succeed(done, results[index]!), { discard: true })
      })

    // A turn of the event loop before each batch: what is ready joins it, and where the database answers without a turn of its own
    // (SQLite), sockets and timers get theirs.
    const flush: Effect.Effect<void> = Effect.zipRight(
      turn,
      Effect.suspend(() => {
        const batch = queue.splice(0, max)
        if (batch.length > 0) return Effect.zipRight(runAll(batch), flush)
        running = false
        return Effect.void
      })
    )

    const submit: Submit<Item, Result, E> = (item) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Deferred.make<Result, E>(), (done) => {
          queue.push({ item, done })
          const begun = running ? Effect.void : Effect.asVoid(Effect.forkIn(flush, scope))
          running = true
          return Effect.zipRight(begun, restore(Deferred.await(done)))
        })
      )

    return { submit, waiting: () => queue.length }
  })

// --- internal

interface Pending<Item, Result, E> {
  readonly item: Item
  readonly done: Deferred.Deferred<Result, E>
}
