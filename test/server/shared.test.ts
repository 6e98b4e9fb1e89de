import { expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { shared } from "../../src/server/internal/shared.js"

it.effect("whoever asks while a check hangs waits for that one, not for one of their own behind it", () =>
  Effect.gen(function*() {
    let runs = 0
    const check = shared(Effect.zipRight(Effect.sync(() => runs++), Effect.sleep("2 seconds")), "500 millis")
    const asking = yield* Effect.forEach(
      Array.from({ length: 20 }, (_, n) => n),
      (n) =>
        Effect.fork(Effect.gen(function*() {
          yield* Effect.sleep(300 * n)
          const from = yield* Clock.currentTimeMillis
          yield* check
          return (yield* Clock.currentTimeMillis) - from
        }))
    )
    yield* TestClock.adjust("10 seconds")
    const waited = yield* Effect.forEach(asking, Fiber.join)
    expect(Math.max(...waited)).toBe(2000)
    // One in two seconds and a half, of the six in which they ask.
    expect(runs).toBe(3)
  }))

it.effect("who asked first may go away", () =>
  Effect.gen(function*() {
    const check = shared(Effect.as(Effect.sleep("2 seconds"), "done"), "500 millis")
    const first = yield* Effect.fork(check)
    yield* TestClock.adjust("1 second")
    const second = yield* Effect.fork(check)
    yield* TestClock.adjust(0)
    yield* Fiber.interrupt(first)
    yield* TestClock.adjust("1 second")
    expect(yield* Fiber.join(second)).toBe("done")
  }))
