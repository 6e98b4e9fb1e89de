import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as CircuitBreakers from "../../src/http/CircuitBreakers.js"
import * as Metrics from "../../src/Metrics.js"

const breakers = (options: CircuitBreakers.Options = { consecutiveFailures: 1 }) => CircuitBreakers.make(options)

const nameOf = (service: CircuitBreakers.CircuitBreakers["Type"], key = "a") =>
  Effect.map(service.state(key), (state) => state.name)

describe("CircuitBreakers", () => {
  it.effect("by default a failure and a defect are failures, a success is none, an interruption says nothing", () =>
    Effect.gen(function*() {
      const service = yield* breakers()
      yield* service.protect("a", Effect.void)
      expect(yield* nameOf(service)).toBe("Closed")
      yield* Effect.exit(service.protect("a", Effect.interrupt))
      expect(yield* nameOf(service)).toBe("Closed")
      yield* Effect.exit(service.protect("a", Effect.fail("no")))
      expect(yield* nameOf(service)).toBe("Open")
      yield* Effect.exit(service.protect("b", Effect.die("no")))
      expect(yield* nameOf(service, "b")).toBe("Open")
    }))

  it.effect("judge decides what an exit means", () =>
    Effect.gen(function*() {
      const service = yield* breakers()
      yield* Effect.exit(service.protect("a", Effect.fail("no"), () => "Neutral"))
      yield* Effect.exit(service.protect("a", Effect.fail("no"), () => "Success"))
      expect(yield* nameOf(service)).toBe("Closed")
      yield* service.protect("a", Effect.void, () => "Failure")
      expect(yield* nameOf(service)).toBe("Open")
    }))

  it.effect("the effect's own result and failure pass through", () =>
    Effect.gen(function*() {
      const service = yield* breakers({})
      expect(yield* service.protect("a", Effect.succeed(1))).toBe(1)
      expect(yield* Effect.flip(service.protect("a", Effect.fail("no")))).toBe("no")
    }))

  it.effect("a key with a call under way is not evicted: its failure is not forgotten", () =>
    Effect.gen(function*() {
      const service = yield* breakers({ consecutiveFailures: 1, maxKeys: 2 })
      const call = yield* Effect.fork(Effect.exit(service.protect("a", Effect.delay(Effect.fail("no"), "1 second"))))
      yield* TestClock.adjust(0)
      for (const key of ["b", "c", "d"]) yield* service.protect(key, Effect.void)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(call)
      expect(yield* nameOf(service)).toBe("Open")
      expect(yield* service.size).toBe(2)
    }))

  it.effect("a key may be isolated when no place is left, and is gone when released", () =>
    Effect.gen(function*() {
      const service = yield* breakers({ consecutiveFailures: 1, maxKeys: 1 })
      yield* Effect.exit(service.protect("a", Effect.fail("no")))
      yield* Effect.gen(function*() {
        yield* service.isolate("victim")
        expect((yield* Effect.flip(service.protect("victim", Effect.void)))._tag).toBe("CircuitOpen")
      }).pipe(Effect.scoped)
      yield* service.protect("victim", Effect.void)
      expect(yield* service.overflow).toBe(0)
    }))

  it.effect("a half-open circuit whose time ran out tells that it was open in between", () =>
    Effect.gen(function*() {
      const service = yield* breakers({
        consecutiveFailures: 1,
        breakDuration: () => "1 second",
        maxHalfOpen: "1 second"
      })
      const seen: Array<string> = []
      yield* Effect.fork(
        Stream.runForEach(service.changes, ({ from, to }) => Effect.sync(() => seen.push(`${from}→${to}`)))
      )
      yield* TestClock.adjust(0)
      yield* Effect.exit(service.protect("a", Effect.fail("no")))
      yield* TestClock.adjust("1 second")
      yield* Effect.fork(service.protect("a", Effect.never))
      yield* TestClock.adjust("2 seconds")
      yield* Effect.fork(service.protect("a", Effect.never))
      yield* TestClock.adjust(0)
      expect(seen).toEqual(["Closed→Open", "Open→HalfOpen", "HalfOpen→Open", "Open→HalfOpen"])
    }))

  it.effect("what it protects stays interruptible", () =>
    Effect.gen(function*() {
      const service = yield* breakers()
      const fiber = yield* Effect.fork(service.protect("a", Effect.never))
      yield* TestClock.adjust(0)
      expect(Exit.isInterrupted(yield* Fiber.interrupt(fiber))).toBe(true)
    }))

  it.effect("a key that was never called is closed, and asking costs no place", () =>
    Effect.gen(function*() {
      const service = yield* breakers()
      expect(yield* service.state("a")).toEqual({ name: "Closed", retryAfter: Duration.zero })
      yield* service.check("a")
      expect(yield* service.size).toBe(0)
    }))

  it.effect("check takes no permit", () =>
    Effect.gen(function*() {
      const service = yield* breakers()
      yield* Effect.exit(service.protect("a", Effect.fail("no")))
      const error = yield* Effect.flip(service.check("a"))
      expect(error).toMatchObject({ _tag: "CircuitOpen", key: "a", retryAfter: Duration.seconds(30), attempts: 0 })
      expect(error.message).toBe("the circuit of a is open: retry after 30000 ms; attempts made: 0")
      yield* TestClock.adjust("30 seconds")
      yield* service.check("a")
      yield* service.check("a")
      yield* service.protect("a", Effect.void)
      expect(yield* nameOf(service)).toBe("Closed")
    }))

  it.effect("the bound: closed keys make place, open ones don't", () =>
    Effect.gen(function*() {
      const service = yield* breakers({ consecutiveFailures: 1, maxKeys: 2 })
      yield* Effect.exit(service.protect("open", Effect.fail("no")))
      for (const key of ["a", "b", "c"]) yield* service.protect(key, Effect.void)
      expect(yield* service.size).toBe(2)
      expect(yield* nameOf(service, "open")).toBe("Open")
      yield* Effect.exit(service.protect("c", Effect.fail("no")))
      expect(yield* service.overflow).toBe(0)
      const before = yield* Metric.value(Metrics.breakerOverflows)
      expect(yield* service.protect("d", Effect.succeed("unprotected"))).toBe("unprotected")
      expect(yield* service.overflow).toBe(1)
      expect((yield* Metric.value(Metrics.breakerOverflows)).count - before.count).toBe(1)
      yield* TestClock.adjust("30 seconds")
      yield* service.protect("open", Effect.void)
      yield* Effect.exit(service.protect("d", Effect.fail("no")))
      expect(yield* nameOf(service, "d")).toBe("Open")
    }))

  it.effect("isolating a key when no place is left takes nothing from another time", () =>
    Effect.gen(function*() {
      const service = yield* breakers({ consecutiveFailures: 1, maxKeys: 1 })
      yield* Effect.exit(service.protect("open", Effect.fail("no")))
      yield* Effect.scoped(Effect.zipRight(service.isolate("a"), service.reset("open")))
      yield* Effect.scoped(Effect.gen(function*() {
        yield* service.isolate("a")
        expect(yield* nameOf(service)).toBe("Isolated")
      }))
      expect(yield* nameOf(service)).toBe("Closed")
    }))

  it.effect("an open circuit that is isolated refuses until it is released, however short its break", () =>
    Effect.gen(function*() {
      const service = yield* breakers({ consecutiveFailures: 1 })
      yield* Effect.exit(service.protect("a", Effect.fail("no")))
      const refused = Effect.map(
        Effect.flip(service.protect("a", Effect.void)),
        (error) => error instanceof CircuitBreakers.CircuitOpen ? Duration.toMillis(error.retryAfter) : undefined
      )
      expect(yield* refused).toBe(30_000)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* service.isolate("a")
        expect(yield* refused).toBe(Infinity)
      }))
      expect(yield* refused).toBe(30_000)
    }))

  it.effect("the gauge of unclosed circuits returns to where it was", () =>
    Effect.gen(function*() {
      const gauges = Effect.forEach(["Open", "HalfOpen", "Isolated"], (state) =>
        Effect.map(Metric.value(Metric.tagged(Metrics.breakers, "state", state)), ({ value }) => value))
      const before = yield* gauges
      const service = yield* breakers()
      yield* Effect.exit(service.protect("a", Effect.fail("no")))
      expect(yield* gauges).toEqual([before[0]! + 1, before[1], before[2]])
      yield* Effect.scoped(Effect.gen(function*() {
        yield* service.isolate("a")
        expect(yield* gauges).toEqual([before[0], before[1], before[2]! + 1])
        yield* service.reset("a")
      }))
      expect(yield* gauges).toEqual(before)
    }))

  it.effect("a wall clock that jumps neither ends nor lengthens a break", () =>
    Effect.gen(function*() {
      const service = yield* breakers()
      yield* Effect.exit(service.protect("a", Effect.fail("no")))
      const clock = yield* Clock.clockWith(Effect.succeed)
      const jumped: Clock.Clock = {
        [Clock.ClockTypeId]: clock[Clock.ClockTypeId],
        currentTimeMillis: Effect.succeed(9e12),
        unsafeCurrentTimeMillis: () => 9e12,
        currentTimeNanos: clock.currentTimeNanos,
        unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos(),
        sleep: (duration) => clock.sleep(duration)
      }
      expect(yield* Effect.withClock(nameOf(service), jumped)).toBe("Open")
      const { retryAfter } = yield* Effect.withClock(service.state("a"), jumped)
      expect(Duration.toMillis(retryAfter)).toBe(30_000)
    }))
})
