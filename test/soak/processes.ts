/** The processes of a soak beside the sender's, as the sender sees them. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { ChildProcess } from "node:child_process"
import { ask, message, program } from "../support/programs.js"
import type * as Misbehaving from "./misbehaving.js"
import type * as Receivers from "./receivers.js"

/** The receivers that behave. */
export const receivers = Effect.map(
  Effect.suspend(() => start<Receivers.Listening>(new URL("./receivers.ts", import.meta.url))),
  ({ first: { urls }, process }) => {
    return {
      urls,
      acknowledge: (acknowledged: Receivers.Acknowledged["acknowledged"]): void => {
        process.send({ acknowledged } satisfies Receivers.Acknowledged)
      },
      counts: put<Receivers.Counts>(process, { ask: "counts" } satisfies Receivers.Question),
      verdict: (allowedDuplicates: number) =>
        put<Receivers.Verdict>(process, { ask: "verdict", allowedDuplicates } satisfies Receivers.Question)
    }
  }
)

/** Those that don't. */
export const misbehaving = Effect.map(
  Effect.suspend(() => start<Misbehaving.Ready>(new URL("./misbehaving.ts", import.meta.url))),
  ({ first, process }) => ({
    ...first,
    begin: (turn: number) => put<Misbehaving.Turn>(process, { turn } satisfies Misbehaving.Question)
  })
)

// --- internal

/** A process, and the first thing that it says. */
const start = <A>(
  module: URL
): Effect.Effect<{ readonly process: ChildProcess; readonly first: A }, never, Scope.Scope> => {
  const launched = Effect.acquireRelease(
    Effect.sync(() => program(module)),
    (process) =>
      Effect.async<void>((resume) => {
        if (process.exitCode !== null || process.signalCode !== null) return resume(Effect.void)
        process.once("exit", () => resume(Effect.void))
        process.disconnect()
      })
  )
  return Effect.flatMap(
    launched,
    (process) => Effect.map(Effect.promise(() => message<A>(process)), (first) => ({ process, first }))
  )
}

/** Not to be stopped half way: the answer would be taken for that to the next question. */
const put = <A>(process: ChildProcess, question: object): Effect.Effect<A> =>
  Effect.uninterruptible(Effect.promise(() => ask<A>(process, question)))
