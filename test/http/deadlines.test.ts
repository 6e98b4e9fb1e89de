import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as Deadlines from "../../src/http/internal/deadlines.js"
import { turn } from "../../src/http/internal/turn.js"

/** The lengths of the sleeps under way on the clock (`TestClock.sleeps` counts those that were interrupted, too). */
const sleeping: Array<number> = []

const watched = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.clock, (clock) => {
    sleeping.length = 0
    const watching: Clock.Clock = {
      [Clock.ClockTypeId]: Clock.ClockTypeId,
      unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis(),
      unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos(),
      currentTimeMillis: clock.currentTimeMillis,
      currentTimeNanos: clock.currentTimeNanos,
      sleep: (duration) =>
        Effect.acquireUseRelease(
          Effect.sync(() => sleeping.push(Duration.toMillis(duration))),
          () => clock.sleep(duration),
          () => Effect.sync(() => sleeping.splice(sleeping.indexOf(Duration.toMillis(duration)), 1))
        )
    }
    return Effect.withClock(effect, watching)
  })

describe("deadlines", () => {
  it.effect("pass in the order of their times, whatever order they were set in, and never early", () =>
    Effect.gen(function*() {
      const clock = yield* Effect.clock
      const passed: Array<readonly [number, number]> = []
      for (const time of [500, 100, 30_000, 100, 7, 0.5]) {
        Deadlines.set(clock, time, () => passed.push([time, clock.unsafeCurrentTimeMillis()]))
      }
      yield* TestClock.adjust(6)
      expect(passed).toEqual([[0.5, 1]])
      yield* TestClock.adjust("1 minute")
      expect(passed).toEqual([[0.5, 1], [7, 7], [100, 100], [100, 100], [500, 500], [30_000, 30_000]])
    }))

  it.effect("are one sleep, for the earliest", () =>
    Effect.gen(function*() {
      const clock = yield* Effect.clock
      const all = Array.from({ length: 1000 }, (_, index) => Deadlines.set(clock, 1000 + index % 3, () => undefined))
      expect(sleeping).toEqual([1000])
      all.push(Deadlines.set(clock, 10, () => undefined))
      yield* turn
      expect(sleeping).toEqual([10])
      for (const deadline of all) deadline.cancel()
      yield* turn
      yield* turn
      expect(sleeping).toEqual([])
    }).pipe(watched))

  it.effect("that are cancelled don't pass, nor do they hold up others", () =>
    Effect.gen(function*() {
      const clock = yield* Effect.clock
      const passed: Array<string> = []
      const first = Deadlines.set(clock, 100, () => passed.push("first"))
      Deadlines.set(clock, 200, () => passed.push("second"))
      first.cancel()
      first.cancel()
      yield* TestClock.adjust(150)
      expect(passed).toEqual([])
      Deadlines.set(clock, 20, () => passed.push("third"))
      yield* TestClock.adjust(50)
      expect(passed).toEqual(["third", "second"])
    }))
})

describe("within", () => {
  it.effect("gives what the effect gives, success, failure or defect", () =>
    Effect.gen(function*() {
      const within = <A, E>(effect: Effect.Effect<A, E>) => Effect.exit(Deadlines.within(effect, 100, () => "late"))
      expect(yield* within(Effect.succeed(1))).toEqual(Exit.succeed(1))
      expect(yield* within(Effect.fail("no"))).toEqual(Exit.fail("no"))
      expect(yield* within(Effect.die("fault"))).toEqual(Exit.die("fault"))
      yield* turn
      yield* turn
      expect(sleeping).toEqual([])
    }).pipe(watched))

  it.effect("ends in time what doesn't end by itself, and interrupts it", () =>
    Effect.gen(function*() {
      const interrupted = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(
        Effect.flip(Deadlines.within(
          Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined)),
          100,
          () => "late"
        ))
      )
      yield* TestClock.adjust(99)
      expect(fiber.unsafePoll()).toBe(null)
      yield* TestClock.adjust(1)
      expect(yield* Fiber.join(fiber)).toBe("late")
      yield* Deferred.await(interrupted)
    }))

  it.effect("doesn't wait for what can't be interrupted", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(
        Effect.flip(Deadlines.within(Effect.uninterruptible(Effect.sleep("1 hour")), 100, () => "late"))
      )
      yield* TestClock.adjust(100)
      expect(yield* Fiber.join(fiber)).toBe("late")
    }))

  it.effect("interrupts the effect where it is interrupted itself", () =>
    Effect.gen(function*() {
      const interrupted = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(
        Deadlines.within(
          Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined)),
          100,
          () => "late"
        )
      )
      yield* turn
      yield* Fiber.interrupt(fiber)
      yield* Deferred.await(interrupted)
      yield* turn
      yield* turn
      expect(sleeping).toEqual([])
    }).pipe(watched))
})
