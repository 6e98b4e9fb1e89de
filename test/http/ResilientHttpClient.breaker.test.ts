import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import type { Transition } from "../../src/http/CircuitBreakers.js"
import { CircuitBreakers } from "../../src/http/CircuitBreakers.js"
import { withKey } from "../../src/http/ResilientHttpClient.js"
import * as RetryPolicy from "../../src/http/RetryPolicy.js"
import type * as testing from "../../src/webhooks/testing.js"
import {
  client,
  count,
  execute,
  failure,
  head,
  key,
  once,
  over,
  start,
  stateName,
  times,
  url
} from "../support/driving.js"
import { quiet } from "../support/recording.js"

const byRatio = { consecutiveFailures: Infinity }
const byRow = { minimumThroughput: Infinity }
const constantBreak = () => "30 seconds" as const

const repeat = <A>(n: number, step: A): Array<A> => Array.from({ length: n }, () => step)

/** `n` calls, each of which ends without waiting. */
const calls = (n: number) => Effect.repeatN(over(Effect.exit(head()), 0), n - 1)

const slow = (seconds: number, status: number): testing.Answer => ({ status, delay: Duration.seconds(seconds) })

const statusOf = <E>(exit: Exit.Exit<{ readonly status: number }, E>) => Exit.map(exit, ({ status }) => status)

/** What the breakers of this scope tell from now on, without the times. */
const recordChanges = Effect.gen(function*() {
  const breakers = yield* CircuitBreakers
  const seen: Array<Transition> = []
  yield* Effect.forkScoped(Stream.runForEach(breakers.changes, (change) => Effect.sync(() => seen.push(change))))
  yield* TestClock.adjust(0)
  return {
    seen,
    steps: Effect.as(TestClock.adjust(0), seen).pipe(Effect.map((seen) => seen.map(({ from, to }) => `${from}→${to}`)))
  }
})

describe("case 8: when it opens", () => {
  it.effect("9 of 9 failures with a minimum of 10: closed; the tenth opens it", () =>
    Effect.gen(function*() {
      yield* calls(9)
      expect(yield* stateName).toBe("Closed")
      yield* calls(1)
      expect(yield* stateName).toBe("Open")
      expect(yield* count).toBe(10)
    }).pipe(Effect.provide(once([503], { breaker: byRatio }))))

  it.effect("a ratio exactly at the threshold opens it", () =>
    Effect.gen(function*() {
      yield* calls(9)
      expect(yield* stateName).toBe("Closed")
      yield* calls(1)
      expect(yield* stateName).toBe("Open")
    }).pipe(Effect.provide(once([...repeat(5, 200), ...repeat(5, 503)], { breaker: byRatio }))))

  it.effect("a ratio just below the threshold doesn't", () =>
    Effect.gen(function*() {
      yield* calls(11)
      expect(yield* stateName).toBe("Closed")
      yield* calls(1)
      expect(yield* stateName).toBe("Open")
    }).pipe(Effect.provide(once([...repeat(6, 200), ...repeat(6, 503)], { breaker: byRatio }))))

  it.effect("5 failures in a row open it, 4 don't", () =>
    Effect.gen(function*() {
      yield* calls(9)
      expect(yield* stateName).toBe("Closed")
      yield* calls(1)
      expect(yield* stateName).toBe("Open")
    }).pipe(Effect.provide(once([...repeat(4, 503), 200, 503], { breaker: byRow }))))

  it.effect("by default both rules are on", () =>
    Effect.gen(function*() {
      yield* calls(5)
      expect(yield* stateName).toBe("Open")
    }).pipe(Effect.provide(once([503]))))

  it.effect("failures that are older than the window don't count", () =>
    Effect.gen(function*() {
      yield* calls(9)
      yield* TestClock.adjust("30 seconds")
      yield* calls(9)
      expect(yield* stateName).toBe("Closed")
      yield* calls(1)
      expect(yield* stateName).toBe("Open")
    }).pipe(Effect.provide(once([503], { breaker: byRatio }))))

  it.effect("what the caller did wrong is no failure of the peer: 400 404 413", () =>
    Effect.gen(function*() {
      yield* calls(30)
      expect(yield* stateName).toBe("Closed")
    }).pipe(Effect.provide(once([400, 404, 413, 501]))))

  for (
    const [name, step] of [["a reset", "reset"], ["a refused connection", "refused"], [
      "a 429",
      429
    ]] satisfies ReadonlyArray<
      readonly [string, testing.Step]
    >
  ) {
    it.effect(`${name} is a failure`, () =>
      Effect.gen(function*() {
        yield* calls(5)
        expect(yield* stateName).toBe("Open")
      }).pipe(Effect.provide(once([step]))))
  }

  it.effect("case 6: an attempt timeout is a failure", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 5; i++) yield* over(Effect.exit(head()), "10 seconds")
      expect(yield* stateName).toBe("Open")
    }).pipe(Effect.provide(once(["timeout"], { attemptTimeout: "10 seconds" }))))

  it.effect("slow calls open it when asked to", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 9; i++) yield* over(head(), "2 seconds")
      expect(yield* stateName).toBe("Closed")
      yield* over(head(), "2 seconds")
      expect(yield* stateName).toBe("Open")
    }).pipe(
      Effect.provide(once([...repeat(5, slow(1, 200)), ...repeat(5, slow(1.001, 200))], {
        breaker: { slowCalls: { threshold: "1 second", ratio: 0.5 } }
      }))
    ))
})

describe("case 8: open", () => {
  it.effect("refuses with a retryAfter that shrinks with time, and sends nothing", () =>
    Effect.gen(function*() {
      yield* calls(5)
      const breakers = yield* CircuitBreakers
      const seen: Array<readonly [number, number]> = []
      for (const _ of [0, 1, 2]) {
        const error = yield* failure(head())
        if (error._tag !== "CircuitOpen") throw new Error(error._tag)
        seen.push([
          Duration.toMillis(error.retryAfter),
          Duration.toMillis((yield* breakers.state(key)).retryAfter)
        ])
        yield* TestClock.adjust("10 seconds")
      }
      expect(seen).toEqual([[30_000, 30_000], [20_000, 20_000], [10_000, 10_000]])
      expect(yield* count).toBe(5)
      expect(yield* Effect.exit(breakers.check(key))).toEqual(Exit.void)
    }).pipe(Effect.provide(once([503]))))

  it.effect("a failure while open: no second event, the break not extended, the caller sees the real error", () =>
    Effect.gen(function*() {
      const changes = yield* recordChanges
      const late = yield* start(Effect.flip(execute()))
      yield* calls(5)
      yield* TestClock.adjust("10 seconds")
      const { exit } = yield* Fiber.join(late)
      expect(Exit.map(exit, (error) => error._tag)).toEqual(Exit.succeed("AttemptTimeout"))
      expect(yield* stateName).toBe("Open")
      yield* TestClock.adjust("20 seconds")
      const { exit: probe } = yield* over(head(), 0)
      expect(statusOf(probe)).toEqual(Exit.succeed(200))
      expect(yield* changes.steps).toEqual(["Closed→Open", "Open→HalfOpen", "HalfOpen→Closed"])
      expect(changes.seen.map(({ at, key }) => ({ at, key }))).toEqual([0, 30_000, 30_000].map((at) => ({ at, key })))
    }).pipe(
      Effect.scoped,
      Effect.provide(once(["timeout", ...repeat(5, 503), 200], { attemptTimeout: "10 seconds" }))
    ))

  it.effect("the break function sees 0 1 2 3 4, then 0 after a close", () => {
    const seen: Array<number> = []
    return Effect.gen(function*() {
      yield* calls(5)
      for (let i = 0; i < 4; i++) {
        yield* TestClock.adjust("30 seconds")
        yield* calls(1)
      }
      expect(seen).toEqual([0, 1, 2, 3, 4])
      yield* TestClock.adjust("30 seconds")
      yield* calls(1)
      expect(yield* stateName).toBe("Closed")
      yield* calls(5)
      expect(seen).toEqual([0, 1, 2, 3, 4, 0])
    }).pipe(Effect.provide(once([...repeat(9, 503), 200, 503], {
      breaker: {
        breakDuration: (failedProbes) => {
          seen.push(failedProbes)
          return "30 seconds"
        }
      }
    })))
  })

  it.effect("by default breaks of 30 60 120 240 300 300 s", () =>
    Effect.gen(function*() {
      const breakers = yield* CircuitBreakers
      const breaks: Array<number> = []
      yield* calls(5)
      for (let i = 0; i < 6; i++) {
        const { retryAfter } = yield* breakers.state(key)
        breaks.push(Duration.toSeconds(retryAfter))
        yield* TestClock.adjust(retryAfter)
        yield* calls(1)
      }
      expect(breaks).toEqual([30, 60, 120, 240, 300, 300])
    }).pipe(Effect.provide(once([503]))))
})

describe("case 8: half-open", () => {
  it.effect("two concurrent calls after the break: exactly one probe", () =>
    Effect.gen(function*() {
      yield* calls(5)
      yield* TestClock.adjust("30 seconds")
      const probe = yield* start(head())
      const refused = yield* failure(head())
      expect(refused).toMatchObject({ _tag: "CircuitOpen", retryAfter: Duration.seconds(1) })
      expect(yield* count).toBe(6)
      expect(yield* stateName).toBe("HalfOpen")
      yield* TestClock.adjust("1 second")
      expect(statusOf((yield* Fiber.join(probe)).exit)).toEqual(Exit.succeed(200))
      expect(yield* stateName).toBe("Closed")
    }).pipe(Effect.provide(once([...repeat(5, 503), slow(1, 200)]))))

  it.effect("calls that waited for the break to end go through when the probe has succeeded", () =>
    Effect.gen(function*() {
      yield* calls(5)
      const waiting = yield* Effect.forEach(repeat(10, 0), () =>
        Effect.zipLeft(
          start(RetryPolicy.withRetryPolicy(head(), RetryPolicy.make({ jitter: 0 }))),
          TestClock.adjust("1 second")
        ))
      yield* TestClock.adjust("25 seconds")
      const ended = yield* Fiber.joinAll(waiting)
      expect(ended.map(({ exit }) => statusOf(exit))).toEqual(repeat(10, Exit.succeed(200)))
      // The probe at the end of the break, the others a second later.
      expect((yield* times).slice(5)).toEqual([30_000, ...repeat(9, 31_000)])
    }).pipe(Effect.provide(client([...repeat(5, 503), slow(0.01, 200)], { retry: { maxRetries: 0 } })), quiet))

  it.effect("calls that the breaker refuses take nothing of the retry budget and no retry", () =>
    Effect.gen(function*() {
      yield* calls(5)
      const refused = yield* Effect.forEach(
        repeat(100, 0),
        () => start(head().pipe(RetryPolicy.withRetryPolicy(RetryPolicy.make({ jitter: 0 }))))
      )
      yield* TestClock.adjust("1 minute")
      const tags = (yield* Fiber.joinAll(refused)).map(({ exit }) => Exit.isFailure(exit) ? "failed" : statusOf(exit))
      expect(tags).toEqual(repeat(100, Exit.succeed(200)))
    }).pipe(Effect.provide(client([...repeat(5, 503), 200], { retry: { maxRetries: 0 } })), quiet))

  it.effect("a failed probe: a new full break", () =>
    Effect.gen(function*() {
      yield* calls(5)
      yield* TestClock.adjust("30 seconds")
      yield* over(head(), "1 second")
      expect(yield* stateName).toBe("Open")
      yield* TestClock.adjust("29999 millis")
      expect((yield* failure(head()))._tag).toBe("CircuitOpen")
      yield* TestClock.adjust("1 millis")
      expect((yield* over(head(), 0)).exit._tag).toBe("Success")
      expect(yield* times).toEqual([0, 0, 0, 0, 0, 30_000, 61_000])
    }).pipe(
      Effect.provide(once([...repeat(5, 503), slow(1, 503), 200], { breaker: { breakDuration: constantBreak } }))
    ))

  it.effect("a probe that succeeds: closed, counts zero", () =>
    Effect.gen(function*() {
      yield* calls(10)
      expect(yield* stateName).toBe("Open")
      yield* TestClock.adjust("5 seconds")
      yield* calls(1)
      expect(yield* stateName).toBe("Closed")
      yield* calls(9)
      expect(yield* stateName).toBe("Closed")
      yield* calls(1)
      expect(yield* stateName).toBe("Open")
    }).pipe(
      Effect.provide(once([...repeat(10, 503), 200, 503], {
        breaker: { ...byRatio, breakDuration: () => "5 seconds" }
      }))
    ))

  it.effect("an interrupted probe: the permit is returned, still half-open", () =>
    Effect.gen(function*() {
      yield* calls(5)
      yield* TestClock.adjust("30 seconds")
      const probe = yield* Effect.fork(head())
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(probe)
      expect(yield* stateName).toBe("HalfOpen")
      const { exit } = yield* over(head(), 0)
      expect(statusOf(exit)).toEqual(Exit.succeed(200))
      expect(yield* stateName).toBe("Closed")
    }).pipe(Effect.provide(once([...repeat(5, 503), "timeout", 200]))))

  it.effect("a hung probe: open again after the longest half-open time, for a longer break", () =>
    Effect.gen(function*() {
      yield* calls(5)
      yield* TestClock.adjust("30 seconds")
      const hung = yield* start(head())
      yield* TestClock.adjust("59999 millis")
      expect(yield* stateName).toBe("HalfOpen")
      yield* TestClock.adjust("1 millis")
      expect(yield* stateName).toBe("Open")
      expect(yield* failure(head())).toMatchObject({ retryAfter: Duration.seconds(60) })
      yield* TestClock.adjust("60 seconds")
      yield* over(head(), 0)
      expect(yield* stateName).toBe("Closed")
      yield* Fiber.interrupt(hung)
    }).pipe(Effect.provide(once([...repeat(5, 503), "timeout", 200]))))

  it.effect("two probes: both must succeed, a third call is refused meanwhile", () =>
    Effect.gen(function*() {
      yield* calls(5)
      yield* TestClock.adjust("30 seconds")
      yield* start(head())
      yield* start(head())
      expect((yield* failure(head()))._tag).toBe("CircuitOpen")
      yield* TestClock.adjust("1 second")
      expect(yield* stateName).toBe("HalfOpen")
      expect((yield* failure(head()))._tag).toBe("CircuitOpen")
      yield* TestClock.adjust("1 second")
      expect(yield* stateName).toBe("Closed")
      expect(yield* count).toBe(7)
    }).pipe(Effect.provide(once([...repeat(5, 503), slow(1, 200), slow(2, 200)], { breaker: { probes: 2 } }))))
})

describe("case 8: results of an earlier generation", () => {
  const lateInHalfOpen = (status: number) =>
    Effect.gen(function*() {
      const late = yield* start(head())
      yield* calls(5)
      yield* TestClock.adjust("30 seconds")
      const probe = yield* start(head())
      yield* TestClock.adjust("10 seconds")
      expect(statusOf((yield* Fiber.join(late)).exit)).toEqual(Exit.succeed(status))
      expect(yield* stateName).toBe("HalfOpen")
      // The permit is still taken by the probe.
      expect((yield* failure(head()))._tag).toBe("CircuitOpen")
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(probe)
      expect(yield* stateName).toBe("Closed")
    }).pipe(Effect.provide(once([slow(40, status), ...repeat(5, 503), slow(20, 200)])))

  it.effect("closed → half-open: a late failure changes nothing", () => lateInHalfOpen(503))
  it.effect("closed → half-open: a late success changes nothing", () => lateInHalfOpen(200))

  /** A probe that hangs so long that a later one closes the circuit; it ends at 25 s. */
  const lateInClosed = (status: number, consecutiveFailures: number) =>
    once([...repeat(consecutiveFailures, 503), slow(20, status), 200, 503], {
      breaker: { consecutiveFailures, maxHalfOpen: "10 seconds", breakDuration: () => "5 seconds" }
    })

  const untilClosed = (failures: number) =>
    Effect.gen(function*() {
      yield* calls(failures)
      yield* TestClock.adjust("5 seconds")
      const late = yield* start(head())
      yield* TestClock.adjust("15 seconds")
      yield* calls(1)
      expect(yield* stateName).toBe("Closed")
      return late
    })

  it.effect("half-open → closed: a late failure changes nothing", () =>
    Effect.gen(function*() {
      const late = yield* untilClosed(1)
      yield* TestClock.adjust("5 seconds")
      expect(statusOf((yield* Fiber.join(late)).exit)).toEqual(Exit.succeed(503))
      expect(yield* stateName).toBe("Closed")
      yield* calls(1)
      expect(yield* stateName).toBe("Open")
    }).pipe(Effect.provide(lateInClosed(503, 1))))

  it.effect("half-open → closed: a late success changes nothing", () =>
    Effect.gen(function*() {
      const late = yield* untilClosed(2)
      yield* calls(1)
      yield* TestClock.adjust("5 seconds")
      expect(statusOf((yield* Fiber.join(late)).exit)).toEqual(Exit.succeed(200))
      // Two in a row, unless the late success came between.
      yield* calls(1)
      expect(yield* stateName).toBe("Open")
    }).pipe(Effect.provide(lateInClosed(200, 2))))
})

describe("case 8: by hand", () => {
  it.effect("isolated twice, released once: isolated", () =>
    Effect.gen(function*() {
      const breakers = yield* CircuitBreakers
      const changes = yield* recordChanges
      yield* Effect.scoped(Effect.gen(function*() {
        yield* breakers.isolate(key)
        yield* Effect.scoped(breakers.isolate(key))
        expect(yield* breakers.state(key)).toEqual({ name: "Isolated", retryAfter: Duration.infinity })
        expect((yield* failure(head()))._tag).toBe("CircuitOpen")
        expect(yield* count).toBe(0)
      }))
      expect(yield* stateName).toBe("Closed")
      yield* calls(1)
      expect(yield* count).toBe(1)
      expect(yield* changes.steps).toEqual(["Closed→Isolated", "Isolated→Closed"])
    }).pipe(Effect.scoped, Effect.provide(once([200]))))

  it.effect("isolated: late results show only once it is released", () =>
    Effect.gen(function*() {
      const breakers = yield* CircuitBreakers
      const changes = yield* recordChanges
      for (let i = 0; i < 5; i++) yield* start(head())
      yield* Effect.scoped(Effect.gen(function*() {
        yield* breakers.isolate(key)
        yield* TestClock.adjust("1 second")
        expect(yield* stateName).toBe("Isolated")
      }))
      expect(yield* stateName).toBe("Open")
      expect(yield* changes.steps).toEqual(["Closed→Isolated", "Isolated→Open"])
    }).pipe(Effect.scoped, Effect.provide(once([slow(1, 503)]))))

  it.effect("reset: closed at once, calls under way change nothing any more", () =>
    Effect.gen(function*() {
      const breakers = yield* CircuitBreakers
      yield* calls(4)
      const late = yield* start(head())
      yield* breakers.reset(key)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(late)
      expect(yield* stateName).toBe("Closed")
      yield* calls(4)
      expect(yield* stateName).toBe("Closed")
      yield* calls(1)
      expect(yield* stateName).toBe("Open")
      yield* breakers.reset(key)
      expect(yield* stateName).toBe("Closed")
      yield* breakers.reset("never called")
    }).pipe(Effect.provide(once([...repeat(4, 503), slow(1, 503), 503]))))
})

describe("keys", () => {
  it.effect("without withKey it is the origin: other paths share the breaker, other ports don't", () =>
    Effect.gen(function*() {
      yield* calls(5)
      expect((yield* failure(head("https://user:pass@example.com/other?x=1")))._tag).toBe("CircuitOpen")
      expect((yield* failure(execute("https://example.com/other")))._tag).toBe("CircuitOpen")
      expect((yield* over(head("https://example.com:8443/hook"), 0)).exit._tag).toBe("Success")
    }).pipe(Effect.provide(once([503]))))

  it.effect("withKey: one key for several origins, several keys for one", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 5; i++) yield* over(head(`https://host${i}.example/`).pipe(withKey("ep_1")), 0)
      const error = yield* failure(head("https://another.example/").pipe(withKey("ep_1")))
      expect(error).toMatchObject({ _tag: "CircuitOpen", key: "ep_1", url: "https://another.example/" })
      expect((yield* over(head("https://host0.example/").pipe(withKey("ep_2")), 0)).exit._tag).toBe("Success")
      expect((yield* over(execute("https://host0.example/").pipe(Effect.exit, withKey("ep_1")), 0)).exit).toMatchObject(
        {
          value: { _tag: "Failure" }
        }
      )
      expect(yield* count).toBe(6)
    }).pipe(Effect.provide(once([503]))))

  it.effect("case 11: 10 001 keys: bounded, open ones kept", () =>
    Effect.gen(function*() {
      const breakers = yield* CircuitBreakers
      for (let i = 0; i < 3; i++) yield* Effect.exit(head("https://bad.example/").pipe(withKey(`bad${i}`)))
      for (let i = 0; i < 10_000; i++) yield* breakers.protect(`key${i}`, Effect.void)
      yield* head().pipe(withKey("key10000"))
      expect(yield* breakers.size).toBe(10_000)
      expect(yield* breakers.overflow).toBe(0)
      for (let i = 0; i < 3; i++) expect((yield* breakers.state(`bad${i}`)).name).toBe("Open")
    }).pipe(
      Effect.provide(once({ "https://bad.example": [503], "*": [200] }, { breaker: { consecutiveFailures: 1 } }))
    ))

  it.effect("case 11: 10 001 open keys: the last runs unprotected and is counted", () =>
    Effect.gen(function*() {
      const breakers = yield* CircuitBreakers
      for (let i = 0; i < 10_000; i++) yield* Effect.exit(breakers.protect(`key${i}`, Effect.fail("down")))
      yield* head().pipe(withKey("key10000"))
      expect(yield* breakers.size).toBe(10_000)
      expect(yield* breakers.overflow).toBe(1)
      const before = yield* count
      yield* Effect.exit(head().pipe(withKey("key10000")))
      expect(yield* breakers.overflow).toBe(2)
      expect(yield* count).toBe(before + 1)
      for (const i of [0, 5000, 9999]) expect((yield* breakers.state(`key${i}`)).name).toBe("Open")
      expect((yield* failure(head(url).pipe(withKey("key0"))))._tag).toBe("CircuitOpen")
      yield* breakers.reset("key0")
      yield* Effect.exit(head().pipe(withKey("key10000")))
      expect(yield* breakers.overflow).toBe(2)
    }).pipe(Effect.provide(once([503], { breaker: { consecutiveFailures: 1 } }))))
})
