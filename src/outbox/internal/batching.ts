/**
 * Shared commits: what is handed in while one transaction is under way goes into the next one, together.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { forkFrom } from "../../Forking.js"
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

export interface Options {
  /** So many that wait make the next batch at once, and don't wait for more to come. Default: never. */
  readonly eager?: number
  /** Who comes when there is nothing to do mostly comes alone, and waits for one turn only. */
  readonly prompt?: boolean
}

/**
 * `run` gets between 1 and `max` items and gives a result for each, in their order. Where it fails, each of them is run by itself if `divide` says so, since
 * one may have failed them all; else its failure is theirs. It runs outside of the submitters' fibers, one run at a time, and what has been
 * handed in is run to its end when the scope closes.
 */
export const make = <Item, Result, E>(
  run: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Result>, E>,
  max: number,
  divide: (error: E) => boolean,
  { eager = Infinity, prompt = false }: Options = {}
): Effect.Effect<Batching<Item, Result, E>, never, Scope.Scope> =>
  Effect.suspend(() => {
    const queue: Array<Pending<Item, Result, E>> = []
    let running: Fiber.RuntimeFiber<void> | undefined

    const runAll = (batch: ReadonlyArray<Pending<Item, Result, E>>): Effect.Effect<void> =>
      Effect.matchCauseEffect(run(batch.map(({ item }) => item)), {
        onFailure: (cause) =>
          batch.length > 1 && Option.exists(Cause.failureOption(cause), divide)
            ? Effect.forEach(batch, (one) => runAll([one]), { discard: true })
            : tell(batch, () => Exit.failCause(cause)),
        onSuccess: (results) => tell(batch, (index) => Exit.succeed(results[index]!))
      })

    // Turns of the event loop before each batch, for as long as each of them brings more: with 62 settled in a commit in place of 22 there were a third more deliveries
    // a second. And where the database answers without a turn of its own (SQLite), sockets and timers get theirs.
    const gather = (seen: number): Effect.Effect<void> =>
      Effect.flatMap(turn, () => queue.length === seen || queue.length >= max ? Effect.void : gather(queue.length))

    const flush = (seen: number): Effect.Effect<void> =>
      Effect.flatMap(gather(seen), () => {
        const batch = queue.splice(0, max)
        if (batch.length > 0) return runOn(batch)
        running = undefined
        return Effect.void
      })

    // After a commit those who have waited for it come again, by and by.
    const runOn = (batch: ReadonlyArray<Pending<Item, Result, E>>): Effect.Effect<void> =>
      Effect.flatMap(runAll(batch), () => queue.length < eager ? flush(0) : runOn(queue.splice(0, max)))

    const push = (fiber: Fiber.RuntimeFiber<unknown, unknown>, pending: Pending<Item, Result, E>): void => {
      queue.push(pending)
      if (running !== undefined) return
      const begun = forkFrom(fiber, fiber.currentContext, flush(prompt ? queue.length : 0))
      running = begun
      begun.addObserver(() => {
        if (running === begun) running = undefined
      })
    }

    const submit: Submit<Item, Result, E> = (item) =>
      Effect.withFiberRuntime((fiber) =>
        Effect.async((resume) =>
          push(fiber, {
            item,
            ended: (exit) => {
              resume(exit)
              return Effect.void
            }
          })
        )
      )

    const add: Batching<Item, Result, E>["add"] = (item, ended) =>
      Effect.withFiberRuntime((fiber) => {
        push(fiber, { item, ended })
        return Effect.void
      })

    const finish: Effect.Effect<void> = Effect.suspend(() =>
      running === undefined ? Effect.void : Effect.zipRight(Fiber.await(running), finish)
    )
    return Effect.as(Effect.addFinalizer(() => finish), { add, submit, waiting: () => queue.length })
  })

// --- internal

const tell = <Item, Result, E>(
  batch: ReadonlyArray<Pending<Item, Result, E>>,
  exitOf: (index: number) => Exit.Exit<Result, E>
): Effect.Effect<void> => {
  const [first, ...others] = batch
  return others.length === 0
    ? told(first!, exitOf(0))
    : Effect.forEach(batch, (one, index) => told(one, exitOf(index)), { discard: true })
}

/** A fault of one that is told (in a host's logger, say) must not keep the others from being told, and run. */
const told = <Item, Result, E>(
  { ended }: Pending<Item, Result, E>,
  exit: Exit.Exit<Result, E>
): Effect.Effect<void> =>
  Effect.catchAllCause(
    Effect.asVoid(Effect.suspend(() => ended(exit))),
    (cause) => Effect.catchAllCause(Effect.logError("webhook_batch_fault", cause), () => Effect.void)
  )

interface Pending<Item, Result, E> {
  readonly item: Item
  readonly ended: (exit: Exit.Exit<Result, E>) => Effect.Effect<unknown>
}
