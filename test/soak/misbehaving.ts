/**
 * The receivers that don't behave, in a process of their own: `misbehaving.ts`, started by `main.ts`. As many at a time as there are hostile endpoints, and all kinds of the
 * table one turn after the other, those that are alike not at the same time.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { table } from "../support/hostile/table.js"
import { world } from "../support/hostile/trial.js"
import { hostile } from "./agreed.js"

/** What it says when it is ready. */
export interface Ready {
  readonly ca: string
  readonly nameServer: string
  /** Turns after which each kind has had one. */
  readonly turns: number
}

/** What it is asked: to begin a turn, from 0. The receivers of the turn before stay for one more. */
export interface Question {
  readonly turn: number
}

/** Who is at work now, one for each hostile endpoint. */
export interface Turn {
  readonly receivers: ReadonlyArray<{ readonly name: string; readonly url: string }>
}

const turns = Math.ceil(table.length / hostile.length)

const serving = Effect.gen(function*() {
  const questions = yield* Queue.unbounded<Question>()
  process.on("message", (question: Question) => Queue.unsafeOffer(questions, question))
  const shared = yield* world
  const ready: Ready = { ca: shared.certificates.ca, nameServer: shared.nameServer, turns }
  process.send!(ready)

  const scopes: Array<Scope.CloseableScope> = []
  const begin = ({ turn }: Question) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const receivers = yield* Effect.forEach(hostile, (_, index) => {
        const peer = table[(index * turns + turn % turns) % table.length]!
        return Effect.map(Scope.extend(peer.start(shared), scope), ({ target }) => ({ name: peer.name, url: target }))
      })
      process.send!({ receivers } satisfies Turn)
      // What was claimed in the last turn is still on its way to those of the last turn.
      if (scopes.push(scope) > 2) yield* Scope.close(scopes.shift()!, Exit.void)
    })
  return yield* Effect.forever(Effect.flatMap(Queue.take(questions), begin))
})

process.on("disconnect", () => process.exit(0))
// It comes to all processes of a terminal: who started this one ends it.
process.on("SIGINT", () => {})
await Effect.runPromise(Effect.scoped(serving))
