import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { turn } from "../../src/http/internal/turn.js"
import * as Batching from "../../src/outbox/internal/batching.js"
import { quiet } from "../support/recording.js"

const turns = Effect.repeatN(turn, 5)

/** Batches of numbers, each run of which waits for its gate. */
const gated = (max: number, options: Batching.Options = {}) =>
  Effect.gen(function*() {
    const batches: Array<ReadonlyArray<number>> = []
    const gates: Array<Deferred.Deferred<void, string>> = []
    let running = 0
    let most = 0
    const { submit } = yield* Batching.make<number, string, string>(
      (items) =>
        Effect.gen(function*() {
          batches.push(items)
          const gate = yield* Deferred.make<void, string>()
          gates.push(gate)
          most = Math.max(most, ++running)
          yield* Effect.ensuring(Deferred.await(gate), Effect.sync(() => running--))
          return items.map((item) => `#${item}`)
        }),
      max,
      (error) => error === "one of them",
      options
    )
    const open = (n: number) => Effect.zipRight(Deferred.succeed(gates[n]!, undefined), turns)
    return { batches, gates, open, submit, most: () => most }
  })

const handIn = (submit: Batching.Submit<number, string, string>, items: ReadonlyArray<number>) =>
  Effect.tap(Effect.forEach(items, (item) => Effect.fork(Effect.exit(submit(item)))), () => turns)

describe("batching", () => {
  it.effect("what comes while a batch is run goes into the next one, and everybody gets their own result", () =>
    Effect.gen(function*() {
      const { batches, most, open, submit } = yield* gated(10)
      const first = yield* handIn(submit, [1, 2])
      const later = yield* handIn(submit, [3, 4, 5])
      expect(batches).toEqual([[1, 2]])
      yield* open(0)
      expect(batches).toEqual([[1, 2], [3, 4, 5]])
      yield* open(1)
      const results = yield* Effect.forEach([...first, ...later], Fiber.join)
      expect(results).toEqual(["#1", "#2", "#3", "#4", "#5"].map((value) => Exit.succeed(value)))
      expect(most()).toBe(1)
      // And after a rest it begins anew.
      const last = yield* handIn(submit, [6])
      yield* open(2)
      expect(yield* Effect.forEach(last, Fiber.join)).toEqual([Exit.succeed("#6")])
    }).pipe(Effect.scoped))

  it.effect("what comes turn after turn of the event loop goes together, up to `max`, until one brings nothing", () =>
    Effect.gen(function*() {
      const { batches, open, submit } = yield* gated(4)
      const come = (item: number) => Effect.zipRight(Effect.fork(submit(item)), turn)
      const fibers = yield* Effect.forEach([1, 2, 3], come)
      expect(batches).toEqual([])
      yield* turn
      expect(batches).toEqual([[1, 2, 3]])
      yield* open(0)
      yield* Effect.forEach([4, 5, 6, 7, 8], come)
      expect(batches).toEqual([[1, 2, 3], [4, 5, 6, 7]])
      yield* open(1)
      yield* open(2)
      expect(fibers).toHaveLength(3)
    }).pipe(Effect.scoped))

  it.effect.each([2, 3])(
    "enough that wait make the next batch, of which there are %s, and wait for no turn",
    (eager) =>
      Effect.gen(function*() {
        const { batches, gates, open, submit } = yield* gated(4, { eager })
        yield* handIn(submit, [1])
        yield* handIn(submit, [2, 3])
        yield* Deferred.succeed(gates[0]!, undefined)
        yield* Effect.repeatN(Effect.yieldNow(), 10)
        expect(batches).toEqual(eager === 2 ? [[1], [2, 3]] : [[1]])
        yield* turns
        expect(batches).toEqual([[1], [2, 3]])
        yield* open(1)
      }).pipe(Effect.scoped)
  )

  it.effect("who doesn't wait is told", () =>
    Effect.gen(function*() {
      const told: Array<Exit.Exit<string, string>> = []
      const { add } = yield* Batching.make<number, string, string>(
        (items) => items.includes(3) ? Effect.fail("no") : Effect.succeed(items.map((item) => `#${item}`)),
        2,
        () => false
      )
      for (const item of [1, 2, 3]) yield* add(item, (exit) => Effect.sync(() => told.push(exit)))
      expect(told).toEqual([])
      yield* turns
      expect(told).toEqual([Exit.succeed("#1"), Exit.succeed("#2"), Exit.fail("no")])
    }).pipe(Effect.scoped))

  it.effect("a fault of one that is told keeps nobody else from being told, and the next batch is run", () =>
    Effect.gen(function*() {
      const told: Array<number> = []
      const { add, submit } = yield* Batching.make<number, number, never>(Effect.succeed, 10, () => false)
      for (const item of [1, 2, 3]) {
        yield* add(item, () => item === 2 ? Effect.die("a logger's fault") : Effect.sync(() => told.push(item)))
      }
      yield* turns
      expect(told).toEqual([1, 3])
      expect(yield* submit(4)).toBe(4)
    }).pipe(Effect.scoped, quiet))

  it.effect("never more than `max` at a time", () =>
    Effect.gen(function*() {
      const { batches, open, submit } = yield* gated(2)
      const fibers = yield* handIn(submit, [1, 2, 3, 4, 5])
      for (const n of [0, 1, 2]) yield* open(n)
      expect(batches).toEqual([[1, 2], [3, 4], [5]])
      yield* Effect.forEach(fibers, Fiber.join)
    }).pipe(Effect.scoped))

  it.effect("a failure that one of them may have caused is that of this one only", () =>
    Effect.gen(function*() {
      const { batches, gates, open, submit } = yield* gated(3)
      const fibers = yield* handIn(submit, [1, 2, 3, 4])
      yield* Effect.zipRight(Deferred.fail(gates[0]!, "one of them"), turns)
      yield* open(1)
      yield* Effect.zipRight(Deferred.fail(gates[2]!, "one of them"), turns)
      yield* open(3)
      yield* open(4)
      expect(batches).toEqual([[1, 2, 3], [1], [2], [3], [4]])
      expect(yield* Effect.forEach(fibers, Fiber.join))
        .toEqual([Exit.succeed("#1"), Exit.fail("one of them"), Exit.succeed("#3"), Exit.succeed("#4")])
    }).pipe(Effect.scoped))

  it.effect("another failure, or a fault, is that of its own batch", () =>
    Effect.gen(function*() {
      const { gates, open, submit } = yield* gated(2)
      const fibers = yield* handIn(submit, [1, 2, 3, 4, 5])
      yield* Effect.zipRight(Deferred.fail(gates[0]!, "no"), turns)
      yield* Effect.zipRight(Deferred.die(gates[1]!, "a fault"), turns)
      yield* open(2)
      expect(yield* Effect.forEach(fibers, Fiber.join)).toEqual([
        Exit.fail("no"),
        Exit.fail("no"),
        Exit.die("a fault"),
        Exit.die("a fault"),
        Exit.succeed("#5")
      ])
    }).pipe(Effect.scoped))

  it.effect("who stops waiting takes nothing back, and the end of the scope waits for what has been handed in", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { batches, open, submit } = yield* Scope.extend(gated(1), scope)
      const [first, second] = yield* handIn(submit, [1, 2])
      yield* Fiber.interrupt(first!)
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* turns
      expect(yield* Fiber.poll(closing)).toMatchObject({ _tag: "None" })
      yield* open(0)
      expect(yield* Fiber.poll(closing)).toMatchObject({ _tag: "None" })
      yield* open(1)
      yield* Fiber.join(closing)
      expect(batches).toEqual([[1], [2]])
      expect(yield* Fiber.join(second!)).toEqual(Exit.succeed("#2"))
    }))
})
