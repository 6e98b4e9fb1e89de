import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { uninterruptibleMask } from "../src/Masking.js"
import { message, program } from "./support/programs.js"

/** A mask that has begun: what it does before and within `restore` waits for the gates. */
const masked = Effect.gen(function*() {
  const [begun, before, restored, within, after] = yield* Effect.all([
    Deferred.make<void>(),
    Deferred.make<void>(),
    Deferred.make<void>(),
    Deferred.make<void>(),
    Deferred.make<Exit.Exit<void>>()
  ])
  const effect = uninterruptibleMask((restore) =>
    Deferred.succeed(begun, undefined).pipe(
      Effect.zipRight(Deferred.await(before)),
      Effect.zipRight(Effect.exit(restore(
        Effect.zipRight(Deferred.succeed(restored, undefined), Deferred.await(within))
      ))),
      Effect.flatMap((exit) => Deferred.succeed(after, exit))
    )
  )
  return { effect, begun, before, restored, within, after }
})

describe("uninterruptibleMask", () => {
  it.effect("holds an interruption off until it is restored", () =>
    Effect.gen(function*() {
      const { after, before, begun, effect, restored } = yield* masked
      const fiber = yield* Effect.fork(effect)
      yield* Deferred.await(begun)
      const stopping = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* Effect.yieldNow()
      expect(yield* Deferred.isDone(after)).toBe(false)
      yield* Deferred.succeed(before, undefined)
      expect(Exit.isInterrupted(yield* Fiber.join(stopping))).toBe(true)
      // It got to its end, and what was restored never began.
      expect(yield* Deferred.isDone(after)).toBe(true)
      expect(yield* Deferred.isDone(restored)).toBe(false)
    }))

  it.effect("is interrupted within what is restored, and goes on to its end", () =>
    Effect.gen(function*() {
      const { after, before, effect, restored } = yield* masked
      yield* Deferred.succeed(before, undefined)
      const fiber = yield* Effect.fork(effect)
      yield* Deferred.await(restored)
      expect(Exit.isInterrupted(yield* Fiber.interrupt(fiber))).toBe(true)
      expect(Exit.isInterrupted(yield* Deferred.await(after))).toBe(true)
    }))

  it.effect("restores nothing where its caller can't be interrupted", () =>
    Effect.gen(function*() {
      const { after, before, effect, restored, within } = yield* masked
      yield* Deferred.succeed(before, undefined)
      const fiber = yield* Effect.fork(Effect.uninterruptible(effect))
      yield* Deferred.await(restored)
      const stopping = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* Effect.yieldNow()
      yield* Deferred.succeed(within, undefined)
      yield* Fiber.join(stopping)
      expect(yield* Deferred.await(after)).toEqual(Exit.void)
    }))

  it.effect("is the same each time that it is run", () =>
    Effect.gen(function*() {
      let runs = 0
      const effect = uninterruptibleMask((restore) => restore(Effect.sync(() => ++runs)))
      expect([yield* effect, yield* effect, yield* Effect.uninterruptible(effect)]).toEqual([1, 2, 3])
    }))

  it("keeps nothing of what has run, and no more does a request", async () => {
    const kept = await message<Readonly<Record<"effects" | "ours" | "requests", number>>>(
      program(new URL("./support/keeping.ts", import.meta.url), [], ["--import", "tsx", "--expose-gc"])
    )
    expect(kept.ours).toBeLessThan(3)
    expect(kept.requests).toBeLessThan(3)
    // Where Effect's keeps nothing any more, ours isn't needed.
    expect(kept.effects).toBeGreaterThan(10)
  })
})
