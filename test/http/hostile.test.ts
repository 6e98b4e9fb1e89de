import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { table } from "../support/hostile/table.js"
import { trial, world } from "../support/hostile/trial.js"

it.scopedLive("hostile receivers", () =>
  Effect.gen(function*() {
    const shared = yield* world
    const found = yield* Effect.forEach(table, (peer) =>
      Effect.map(
        trial(shared, peer, { repetitions: 1, allowance: 50 }),
        ({ problems }) => problems.map((problem) => `${peer.name}: ${problem}`)
      ), { concurrency: 8 })
    expect(found.flat()).toEqual([])
  }), 120_000)
