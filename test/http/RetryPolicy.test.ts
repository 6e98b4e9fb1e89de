import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as RetryPolicy from "../../src/http/RetryPolicy.js"

/** The delays of a policy in milliseconds, at most `n` of them. */
const delays = (policy: RetryPolicy.RetryPolicy, n: number) =>
  Schedule.run(Schedule.delays(policy), 0, Array.from({ length: n }, () => undefined)).pipe(
    // A run ends with the output of the step that is done; that one waits for nothing.
    Effect.map((out) => Chunk.toReadonlyArray(out).map(Duration.toMillis))
  )

describe("RetryPolicy", () => {
  it.effect("base 1 s, cap 30 s: 1 2 4 8 16 30 30 s", () =>
    Effect.gen(function*() {
      const policy = RetryPolicy.make({ jitter: 0, maxRetries: 100 })
      expect(yield* delays(policy, 8)).toEqual([1, 2, 4, 8, 16, 30, 30, 30].map((s) => s * 1000))
    }))

  it.effect("factor, base and cap", () =>
    Effect.gen(function*() {
      const policy = RetryPolicy.make({
        jitter: 0,
        maxRetries: 100,
        baseDelay: "100 millis",
        factor: 3,
        maxDelay: "1 second"
      })
      expect(yield* delays(policy, 5)).toEqual([100, 300, 900, 1000, 1000])
    }))

  it.effect("jitter spreads each delay over its whole range, the cap included", () =>
    Effect.gen(function*() {
      const policy = RetryPolicy.make({ jitter: 0.2, maxRetries: 1000, baseDelay: "1 second", maxDelay: "1 second" })
      const all = yield* delays(policy, 500)
      expect(Math.min(...all)).toBeGreaterThanOrEqual(800)
      expect(Math.min(...all)).toBeLessThan(820)
      expect(Math.max(...all)).toBeLessThanOrEqual(1200)
      expect(Math.max(...all)).toBeGreaterThan(1180)
    }).pipe(Effect.withRandom(Random.make("spread"))))

  it.effect("none is done at once", () =>
    Effect.gen(function*() {
      const out = yield* Schedule.run(RetryPolicy.none, 0, [1, 2, 3])
      expect(Chunk.size(out)).toBe(1)
    }))

  it.effect("withRetryPolicy: children inherit, nothing flows back, the inner one wins", () =>
    Effect.gen(function*() {
      const policy = RetryPolicy.make({ maxRetries: 1 })
      const current = FiberRef.get(RetryPolicy.currentRetryPolicy)
      expect(yield* current).toEqual(Option.none())
      yield* Effect.gen(function*() {
        expect(yield* Effect.flatMap(Effect.fork(current), Fiber.join)).toEqual(Option.some(policy))
        expect(yield* RetryPolicy.withRetryPolicy(current, RetryPolicy.none)).toEqual(Option.some(RetryPolicy.none))
        const child = yield* Effect.fork(FiberRef.set(RetryPolicy.currentRetryPolicy, Option.some(RetryPolicy.none)))
        yield* Fiber.join(child)
        expect(yield* current).toEqual(Option.some(policy))
      }).pipe(RetryPolicy.withRetryPolicy(policy))
      expect(yield* current).toEqual(Option.none())
    }))
})
