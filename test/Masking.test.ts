import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { uninterruptibleMask } from "../src/Masking.js"

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

  it.effect("keeps nothing of what has run from the next small collection", () =>
    Effect.gen(function*() {
      setFlagsFromString("--expose-gc")
      const collect = runInNewContext("gc") as (options: { readonly type: "minor" }) => void
      const size = 1_000_000
      const run = (mask: typeof uninterruptibleMask) =>
        Effect.suspend(() => {
          const bytes = new ArrayBuffer(size)
          return mask((restore) => restore(Effect.sync(() => bytes.byteLength)))
        })
      const kept = (mask: typeof uninterruptibleMask) =>
        Effect.gen(function*() {
          for (let n = 0; n < 3; n++) collect({ type: "minor" })
          const before = process.memoryUsage().arrayBuffers
          for (let n = 0; n < 20; n++) yield* run(mask)
          for (let n = 0; n < 3; n++) collect({ type: "minor" })
          return (process.memoryUsage().arrayBuffers - before) / size
        })
      expect(yield* kept(uninterruptibleMask)).toBeLessThan(2)
      // If this is no more so, there is no need for a mask of our own.
      expect(
        yield* kept((use) =>
          Effect.withFiberRuntime((fiber) => Effect.uninterruptibleMask((restore) => use(restore, fiber)))
        )
      ).toBeGreaterThan(10)
    }))
})
