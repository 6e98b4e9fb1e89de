/**
 * Shared commits: what is handed in while one transaction is under way goes into the next one, together.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { turn } from "../../http/internal/turn.js"

/** Hands in an item and waits for what became of it. Interrupting the wait doesn't take it back. */
export type Submit<Item, Result, E> = (item: Item) => Effect.Effect<Result, E>

export interface Batching<Item, Result, E> {
  readonly submit: Submit<Item, Result, E>
  /** Hands in an item and goes on; `ended` is run when it has come to its end. */
  readonly add: (item: Item, ended: (exit: Exit.Exit<Result, E>) => Effect.Effect<unknown>) => Effect.Effect<void>
  /** Items that wait for their batch to begin. */
  readonly waiting: () => number
}

/**
 * `run` gets between 1 and `max` items and gives a result for each, in their order. Where it fails, each of them is run by itself if `divide` says so, since
 * one may have failed them all; else its failure is theirs. It runs outside of the submitters' fibers, one run at a time, and what has been
 * handed in is run to its end when the scope closes. `prompt`: who comes when there is nothing to do mostly comes alone, and waits for one turn only.
 */
export const make = <Item, Result, E>(
  run: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Result>, E>,
  max: number,
  divide: (error: E) => boolean,
  prompt = false
): Effect.Effect<Batching<Item, Result, E>, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    const queue: Array<Pending<Item, Result, E>> = []
    let running = false

    const runAll = (batch: ReadonlyArray<Pending<Item, Result, E>>): Effect.Effect<void> =>
      Effect.matchCauseEffect(run(batch.map(({ item }) => item)), {
        onFailure: (cause) =>
          batch.length > 1 && Option.exists(Cause.failureOption(cause), divide)
            ? Effect.forEach(batch, (one) => runAll([one]), { discard: true })
            : Effect.forEach(batch, ({ ended }) => told(ended(Exit.failCause(cause))), { discard: true }),
        onSuccess: (results) =>
          Effect.forEach(batch, ({ ended }, index) => told(ended(Exit.succeed(results[index]!))), { discard: true })
      })

    // Turns of the event loop before each batch, for as long as each of them brings more: with 62 settled in a commit in place of 22 there were a third more deliveries
    // a second. And where the database answers without a turn of its own (SQLite), sockets and timers get theirs.
    const gather = (seen: number): Effect.Effect<void> =>
      Effect.flatMap(turn, () => queue.length === seen || queue.length >= max ? Effect.void : gather(queue.length))

    const flush = (seen: number): Effect.Effect<void> =>
      Effect.flatMap(gather(seen), () => {
        const batch = queue.splice(0, max)
        // After a commit those who have waited for it come again, by and by.
        if (batch.length > 0) return Effect.zipRight(runAll(batch), Effect.suspend(() => flush(0)))
        running = false
        return Effect.void
      })

    const add: Batching<Item, Result, E>["add"] = (item, ended) =>
      Effect.suspend(() => {
        queue.push({ item, ended })
        if (running) return Effect.void
        running = true
        const begun = Effect.onError(flush(prompt ? queue.length : 0), () =>
          Effect.sync(() => {
            running = false
          }))
        return Effect.uninterruptible(Effect.asVoid(Effect.forkIn(begun, scope)))
      })

    const submit: Submit<Item, Result, E> = (item) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Deferred.make<Result, E>(), (done) =>
          Effect.zipRight(add(item, (exit) => Deferred.done(done, exit)), restore(Deferred.await(done))))
      )

    return {
      add,
      submit,
      waiting: () =>
        queue.length
    }
  })

// --- internal

/** A fault of one that is told (in a host's logger, say) must not keep the others from being told, and run. */
const told = (ended: Effect.Effect<unknown>): Effect.Effect<void> =>
  Effect.catchAllCause(
    Effect.asVoid(ended),
    (cause) => Effect.catchAllCause(Effect.logError("webhook_batch_fault", cause), () => Effect.void)
  )

interface Pending<Item, Result, E> {
  readonly item: Item
  readonly ended: (exit: Exit.Exit<Result, E>) => Effect.Effect<unknown>
}
