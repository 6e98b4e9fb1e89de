import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as TestClock from "effect/TestClock"
import { CircuitBreakers } from "../../src/http/CircuitBreakers.js"
import type { Service } from "../../src/http/ResilientHttpClient.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as RetryPolicy from "../../src/http/RetryPolicy.js"
import * as testing from "../../src/webhooks/testing.js"
import { client, count, execute, failure, head, key, over, start, stateName, times, url } from "../support/driving.js"
import { logs, quiet } from "../support/recording.js"

/** A breaker that never opens, for tests of what lies around it. */
const noBreaker = { consecutiveFailures: Infinity, minimumThroughput: Infinity }

const retryAfter = (value: string): testing.Script => [{ status: 503, headers: { "retry-after": value } }, 200]

describe("case 1: the number of requests and their times", () => {
  for (
    const [name, script] of [
      ["503 for ever", [503]],
      ["transport errors for ever", ["reset"]],
      ["503 and transport errors by turns", [503, "reset", "refused", 503]],
      ["transport errors and 503 by turns", ["refused", 503, "reset", 503]],
      ["500 502 504", [500, 502, 504]]
    ] satisfies ReadonlyArray<readonly [string, testing.Script]>
  ) {
    for (const [call, make] of [["executeHead", head], ["execute", execute]] as const) {
      it.effect(`${name}: 4 requests at [0, 1000, 3000, 7000] by ${call}`, () =>
        Effect.gen(function*() {
          yield* over(
            Effect.exit(Effect.asVoid<unknown, unknown, ResilientHttpClient.ResilientHttpClient>(make())),
            "50 seconds"
          )
          expect(yield* times).toEqual([0, 1000, 3000, 7000])
        }).pipe(Effect.provide(client(script)), quiet))
    }
  }

  it.effect("attempt timeouts count as attempts", () =>
    Effect.gen(function*() {
      const error = yield* failure(head(), "1 minute")
      expect(error._tag).toBe("AttemptTimeout")
      expect(yield* times).toEqual([0, 11_000, 23_000, 37_000])
    }).pipe(Effect.provide(client(["timeout"])), quiet))

  it.effect("base 1 s, cap 30 s: delays of 1 2 4 8 16 30 30 s", () =>
    Effect.gen(function*() {
      yield* over(head(), "10 minutes")
      const at = yield* times
      expect(at.slice(1).map((time, i) => (time - at[i]!) / 1000)).toEqual([1, 2, 4, 8, 16, 30, 30])
    }).pipe(
      Effect.provide(client([503], { retry: { maxRetries: 7 }, deadline: "1 hour", breaker: noBreaker })),
      quiet
    ))

  it.effect("maxRetries 0: one request", () =>
    Effect.gen(function*() {
      yield* over(head(), 0)
      expect(yield* times).toEqual([0])
    }).pipe(Effect.provide(client([503], { retry: { maxRetries: 0 } }))))

  it.effect("withRetryPolicy(none): one request, for the calls inside only", () =>
    Effect.gen(function*() {
      yield* over(head().pipe(RetryPolicy.withRetryPolicy(RetryPolicy.none)), 0)
      expect(yield* times).toEqual([0])
      yield* over(head(), "10 seconds")
      expect(yield* count).toBe(5)
    }).pipe(Effect.provide(client([503])), quiet))

  it.effect("each retry is one log line, http_retry, without secrets", () => {
    const log = logs()
    return Effect.gen(function*() {
      yield* over(head("https://user:canary@example.com/hook?canary=1"), "10 seconds")
      const lines = log.lines.filter((line) => line.message === "http_retry")
      expect(lines.map((line) => line.annotations)).toEqual([
        { url, attempt: 1, delayMs: 1000, error: "status 503", correlationId: expect.stringMatching(/^cid_/) },
        {
          url,
          attempt: 2,
          delayMs: 2000,
          error: "the connection broke (ECONNRESET)",
          correlationId: expect.any(String)
        },
        { url, attempt: 3, delayMs: 4000, error: "could not connect (ECONNREFUSED)", correlationId: expect.any(String) }
      ])
      expect(JSON.stringify(log.lines)).not.toContain("canary")
    }).pipe(Effect.provide(client([503, "reset", "refused", 200])), Effect.provide(log.layer))
  })

  it.effect("jitter keeps each delay within ±20 % of its own, and varies it", () =>
    Effect.gen(function*() {
      const waits = new Set<number>()
      for (let i = 0; i < 20; i++) {
        const before = yield* count
        yield* over(head(`https://host${i}.example/`), "50 seconds")
        const at = (yield* times).slice(before)
        const own = at.slice(1).map((time, n) => time - at[n]!)
        expect(own.length).toBe(3)
        for (const [n, wait] of own.entries()) {
          expect(wait).toBeGreaterThanOrEqual(2 ** n * 800)
          expect(wait).toBeLessThanOrEqual(2 ** n * 1200)
          waits.add(wait)
        }
      }
      expect(waits.size).toBeGreaterThan(30)
    }).pipe(
      Effect.provide(client([503], { retry: { jitter: 0.2 } })),
      Effect.withRandom(Random.make("jitter")),
      quiet
    ))
})

describe("case 2: Retry-After", () => {
  const delays = (value: string, expected: number) =>
    Effect.gen(function*() {
      yield* over(head(), "10 minutes")
      expect(yield* times).toEqual([0, expected])
    }).pipe(Effect.provide(client(retryAfter(value), { deadline: "1 hour" })), quiet)

  it.effect("10 → 10 s", () => delays("10", 10_000))
  it.effect("120.1 → 121 s", () => delays("120.1", 121_000))
  it.effect("an HTTP date → until then", () => delays("Thu, 01 Jan 1970 00:01:30 GMT", 90_000))
  it.effect("an RFC 850 date → until then", () => delays("Thursday, 01-Jan-70 00:01:30 GMT", 90_000))
  it.effect("an asctime date → until then", () => delays("Thu Jan  1 00:01:30 1970", 90_000))
  it.effect("a longer own delay stays", () => delays("0.5", 1000))
  for (const value of ["0", "-5", "0.0", "soon", "", "10, 20", "1e3", "Infinity", "NaN", "+7", "0x10", "10s"]) {
    it.effect(`${JSON.stringify(value)} → own delay`, () => delays(value, 1000))
  }
  it.effect("a date in the past → own delay", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust("1 day")
      yield* over(head(), "10 minutes")
      expect(yield* times).toEqual([86_400_000, 86_401_000])
    }).pipe(Effect.provide(client(retryAfter("Thu, 01 Jan 1970 00:01:30 GMT"), { deadline: "1 hour" })), quiet))

  it.effect("on 429 and by execute, too", () =>
    Effect.gen(function*() {
      yield* over(execute(), "1 minute")
      expect(yield* times).toEqual([0, 10_000])
    }).pipe(Effect.provide(client([{ status: 429, headers: { "Retry-After": "10" } }, 200])), quiet))

  it.effect("jitter never goes below it", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 40; i++) {
        const before = yield* count
        yield* over(head(`https://host${i}.example/`), "1 minute")
        const [first, second] = (yield* times).slice(before)
        expect(second! - first!).toBeGreaterThanOrEqual(1000)
      }
    }).pipe(
      Effect.provide(client(
        Object.fromEntries(
          Array.from(
            { length: 40 },
            (_, i) => [`https://host${i}.example`, retryAfter("1") as ReadonlyArray<testing.Step>]
          )
        ),
        { retry: { jitter: 0.9 } }
      )),
      Effect.withRandom(Random.make("floor")),
      quiet
    ))

  it.effect("longer than the remaining deadline: ends now, executeHead with that answer", () =>
    Effect.gen(function*() {
      const { at, exit } = yield* over(head(), 0)
      expect(at).toBe(0)
      expect(Exit.map(exit, ({ attempts, status }) => ({ attempts, status }))).toEqual(
        Exit.succeed({ attempts: 1, status: 503 })
      )
      expect(yield* times).toEqual([0])
    }).pipe(Effect.provide(client(retryAfter("60")))))

  it.effect("longer than the remaining deadline: ends now, execute with that answer as ResponseError", () =>
    Effect.gen(function*() {
      const error = yield* failure(execute())
      expect(error).toBeInstanceOf(HttpClientError.ResponseError)
      expect(error).toMatchObject({ reason: "StatusCode", response: { status: 503 } })
    }).pipe(Effect.provide(client(retryAfter("61")))))

  it.effect("what fits the deadline only just is waited for", () =>
    Effect.gen(function*() {
      yield* over(head(), "1 minute")
      expect(yield* times).toEqual([0, 59_000])
    }).pipe(Effect.provide(client(retryAfter("59"))), quiet))
})

describe("case 3: which statuses are retried", () => {
  for (const status of [200, 201, 204, 301, 302, 304, 400, 401, 403, 404, 409, 410, 413, 422, 501, 505]) {
    it.effect(`${status}: one request`, () =>
      Effect.gen(function*() {
        yield* over(head(), "50 seconds")
        expect(yield* times).toEqual([0])
      }).pipe(Effect.provide(client([status]))))
  }
  for (const status of [408, 425, 429, 500, 502, 503, 504]) {
    it.effect(`${status}: retried`, () =>
      Effect.gen(function*() {
        const { exit } = yield* over(head(), "50 seconds")
        expect(Exit.map(exit, (head) => head.status)).toEqual(Exit.succeed(200))
        expect(yield* times).toEqual([0, 1000])
      }).pipe(Effect.provide(client([status, 200])), quiet))
  }
  it.effect("execute fails with ResponseError for what is not 2xx", () =>
    Effect.gen(function*() {
      const error = yield* failure(execute())
      expect(error).toMatchObject({ _tag: "ResponseError", reason: "StatusCode", response: { status: 404 } })
      expect(error.message).toContain("attempts made: 1")
    }).pipe(Effect.provide(client([404]))))
})

describe("case 4: requests that can't be repeated safely", () => {
  const plain = (script: testing.Script) =>
    Effect.zipRight(over(head(url, {}), "50 seconds"), times).pipe(Effect.provide(client(script)), quiet)

  it.effect("a POST without an id: 503 is not retried", () =>
    Effect.map(plain([503, 200]), (at) => expect(at).toEqual([0])))
  it.effect("a POST without an id: a reset after the write is not retried", () =>
    Effect.map(plain(["reset", 200]), (at) => expect(at).toEqual([0])))
  it.effect("a POST without an id: an attempt timeout is not retried", () =>
    Effect.map(plain(["timeout", 200]), (at) => expect(at).toEqual([0])))
  it.effect("a POST without an id: ECONNREFUSED is retried", () =>
    Effect.map(plain(["refused", 200]), (at) => expect(at).toEqual([0, 1000])))
  it.effect("a POST without an id: once it has left, it stays unrepeated", () =>
    Effect.map(plain(["refused", "refused", "reset", 200]), (at) => expect(at).toEqual([0, 1000, 3000])))
  it.effect("a POST with an Idempotency-Key is retried", () =>
    Effect.gen(function*() {
      yield* over(head(url, { "Idempotency-Key": "k" }), "50 seconds")
      expect(yield* count).toBe(2)
    }).pipe(Effect.provide(client(["reset", 200])), quiet))

  for (
    const [method, requests] of [["get", 2], ["put", 2], ["del", 2], ["head", 2], ["options", 2], ["patch", 1]] as const
  ) {
    it.effect(`${method} without an id: ${requests} request(s)`, () =>
      Effect.gen(function*() {
        const call: (client: Service) => Effect.Effect<unknown, unknown> = (client) => client[method](url)
        yield* over(Effect.flatMap(ResilientHttpClient.ResilientHttpClient, call), "50 seconds")
        expect(yield* count).toBe(requests)
      }).pipe(Effect.provide(client([503, 200])), quiet))
  }
})

describe("case 5: interruption, on the clock", () => {
  it.effect("during backoff: ends at once, no further request", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(head())
      yield* TestClock.adjust("500 millis")
      const exit = yield* Fiber.interrupt(fiber)
      expect(Exit.isInterrupted(exit)).toBe(true)
      yield* TestClock.adjust("1 hour")
      expect(yield* times).toEqual([0])
    }).pipe(Effect.provide(client([503])), quiet))

  it.effect("during an attempt: not a timeout, breaker unchanged", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 30; i++) {
        const fiber = yield* Effect.fork(head())
        yield* TestClock.adjust("1 second")
        const exit = yield* Fiber.interrupt(fiber)
        expect(Exit.isInterrupted(exit)).toBe(true)
      }
      expect(yield* count).toBe(30)
      expect(yield* stateName).toBe("Closed")
      const fake = yield* testing.FakeHttpClient
      // The count of failures must be untouched as well: four more must not open it, the fifth must.
      yield* fake.play([503])
      const once = RetryPolicy.withRetryPolicy(head(), RetryPolicy.none)
      for (let i = 0; i < 4; i++) yield* over(once, 0)
      expect(yield* stateName).toBe("Closed")
      yield* over(once, 0)
      expect(yield* stateName).toBe("Open")
    }).pipe(Effect.provide(client(["timeout"]))))

  it.effect("by a timeout of the caller's own: an interruption as any other", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 6; i++) {
        const { at, exit } = yield* over(Effect.timeoutOption(head(), "1 second"), "1 second")
        expect(Exit.map(exit, (option) => option._tag)).toEqual(Exit.succeed("None"))
        expect(at).toBe((i + 1) * 1000)
      }
      expect(yield* stateName).toBe("Closed")
    }).pipe(Effect.provide(client(["timeout"]))))
})

describe("the deadline", () => {
  it.effect("cuts an attempt off: DeadlineExceeded with the attempts made", () =>
    Effect.gen(function*() {
      const { at, exit } = yield* over(Effect.flip(head()), "2 minutes")
      expect(at).toBe(5000)
      expect(Exit.map(exit, ({ _tag, message }) => ({ _tag, message }))).toEqual(Exit.succeed({
        _tag: "DeadlineExceeded",
        message: "the deadline of 5s for https://example.com/hook passed; attempts made: 2"
      }))
      expect(yield* times).toEqual([0, 1000])
    }).pipe(Effect.provide(client([503, "timeout"], { deadline: "5 seconds" })), quiet))

  it.effect("an attempt that it cuts off is a failure for the breaker …", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 5; i++) yield* over(Effect.exit(head()), "1 minute")
      expect(yield* stateName).toBe("Open")
    }).pipe(Effect.provide(client(["timeout"], { attemptTimeout: "2 minutes" })), quiet))

  it.effect("… but not one that it had left hardly any time", () =>
    Effect.gen(function*() {
      const { at } = yield* over(Effect.flip(head()), "1 minute")
      expect(at).toBe(3500)
      expect(yield* times).toEqual([0, 1000, 3000])
      expect(yield* stateName).toBe("Closed")
    }).pipe(
      Effect.provide(client([503, 503, "timeout"], { deadline: "3500 millis", breaker: { consecutiveFailures: 3 } })),
      quiet
    ))

  it.effect("an attempt whose request could not even be made says nothing of the other side, and is told of no one", () => {
    const told: Array<unknown> = []
    return Effect.gen(function*() {
      const { executeHead } = yield* ResilientHttpClient.ResilientHttpClient
      for (let i = 0; i < 6; i++) {
        const { exit } = yield* over(
          executeHead(Effect.never, { url, onAttempt: () => Effect.sync(() => told.push(1)) }),
          "2 minutes"
        )
        expect(Exit.isFailure(exit)).toBe(true)
      }
      expect(yield* stateName).toBe("Closed")
      expect(told).toEqual([])
    }).pipe(Effect.provide(client([200])), quiet)
  })

  it.effect("each request is told of once, with its own time: no wait for a slot in it", () => {
    const told: Array<unknown> = []
    return Effect.gen(function*() {
      const { executeHead } = yield* ResilientHttpClient.ResilientHttpClient
      const one = executeHead(Effect.succeed(HttpClientRequest.post(url)), {
        url,
        concurrency: 1,
        onAttempt: ({ duration }) => Effect.sync(() => told.push(duration))
      })
      yield* over(Effect.all([one, one, one], { concurrency: "unbounded" }), "1 minute")
      expect(told).toEqual([1000, 1000, 1000])
    }).pipe(Effect.provide(client([{ status: 200, delay: "1 second" }])), quiet)
  })

  it.effect("a client that is interrupted by itself is told of once", () => {
    const told: Array<unknown> = []
    return Effect.gen(function*() {
      const { executeHead } = yield* ResilientHttpClient.ResilientHttpClient
      yield* Effect.exit(executeHead(Effect.succeed(HttpClientRequest.post(url)), {
        url,
        onAttempt: ({ exit }) => Effect.sync(() => told.push(exit._tag))
      }))
      yield* TestClock.adjust(0)
      expect(told).toEqual(["Failure"])
    }).pipe(
      Effect.provide(ResilientHttpClient.layer()),
      Effect.provideService(HttpClient.HttpClient, HttpClient.make(() => Effect.interrupt)),
      quiet
    )
  })

  it.effect("passes where the caller can't be interrupted, too", () =>
    Effect.gen(function*() {
      const { at, exit } = yield* over(Effect.uninterruptible(Effect.flip(head())), "2 minutes")
      expect(at).toBe(60_000)
      expect(Exit.map(exit, ({ _tag }) => _tag)).toEqual(Exit.succeed("DeadlineExceeded"))
    }).pipe(Effect.provide(client(["timeout"], { attemptTimeout: "2 minutes" })), quiet))

  it.effect("no retry is begun that can't start before it", () =>
    Effect.gen(function*() {
      const { at } = yield* over(head(), "2 minutes")
      expect(yield* times).toEqual([0, 1000])
      expect(at).toBe(1000)
    }).pipe(Effect.provide(client([503], { deadline: "3 seconds" })), quiet))

  it.effect("covers the wait for a slot", () =>
    Effect.gen(function*() {
      const first = yield* start(head())
      const error = yield* failure(head(), "60 seconds")
      expect(error).toMatchObject({ _tag: "DeadlineExceeded", attempts: 0 })
      yield* Fiber.interrupt(first)
    }).pipe(Effect.provide(client(["timeout"], { keyConcurrency: 1, attemptTimeout: "1 hour" }))))
})

describe("case 9: the breaker opens inside a retry", () => {
  const breaker = { consecutiveFailures: 2, breakDuration: () => "30 seconds" as const }

  it.effect("stops with CircuitOpen when retryAfter does not fit the deadline", () =>
    Effect.gen(function*() {
      const { at, exit } = yield* over(Effect.flip(head()), "2 minutes")
      expect(at).toBe(3000)
      expect(Exit.map(exit, ({ _tag, message }) => ({ _tag, message }))).toEqual(Exit.succeed({
        _tag: "CircuitOpen",
        message:
          "the circuit of https://example.com (https://example.com/hook) is open: retry after 28000 ms; attempts made: 2"
      }))
      expect(yield* times).toEqual([0, 1000])
    }).pipe(Effect.provide(client([503], { breaker, deadline: "20 seconds" })), quiet))

  it.effect("waits for retryAfter when that fits, and counts requests only", () =>
    Effect.gen(function*() {
      const { exit } = yield* over(head(), "2 minutes")
      expect(yield* times).toEqual([0, 1000, 31_000])
      const fake = yield* testing.FakeHttpClient
      expect((yield* fake.requests).map((request) => request.attempt)).toEqual([1, 2, 3])
      expect(Exit.map(exit, ({ attempts, status }) => ({ attempts, status }))).toEqual(
        Exit.succeed({ attempts: 3, status: 200 })
      )
    }).pipe(Effect.provide(client([503, 503, 200], { breaker })), quiet))

  it.effect("isolated by hand: refused at once, whatever the deadline", () =>
    Effect.gen(function*() {
      const breakers = yield* CircuitBreakers
      yield* breakers.isolate(key)
      const error = yield* failure(head())
      expect(error).toMatchObject({ _tag: "CircuitOpen", attempts: 0 })
      expect(error.message).toContain("isolated by hand")
      expect(yield* times).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(client([200]))))
})

describe("case 10: the retry budget", () => {
  const outage = (budget: { readonly ratio?: number; readonly perSecond?: number }) =>
    client([503], { breaker: noBreaker, budget, concurrency: 100, keyConcurrency: 100 })

  it.effect("an outage adds at most the budget's extra requests, and a refusal comes before the sleep", () =>
    Effect.gen(function*() {
      const calls = yield* Effect.forEach(
        Array.from({ length: 100 }),
        () => Effect.fork(Effect.zip(Effect.flip(head()), Clock.currentTimeMillis))
      )
      yield* TestClock.adjust("50 seconds")
      const ended = yield* Effect.forEach(calls, (call) => Fiber.join(call))
      // 0.2 × 100 requests + 3 a second × 10 s: 50 retries in the window.
      expect((yield* times).filter((at) => at === 0).length).toBe(100)
      expect((yield* times).filter((at) => at < 10_000).length).toBe(150)
      expect(ended.filter(([, at]) => at === 0).length).toBe(50)
      expect(ended.filter(([, at]) => at === 1000).length).toBe(50)
      expect(new Set(ended.map(([error]) => error._tag))).toEqual(new Set(["RetryBudgetExhausted"]))
    }).pipe(Effect.provide(outage({})), quiet))

  it.effect("one key's outage leaves another key its budget", () =>
    Effect.gen(function*() {
      const spent = yield* failure(head(), "50 seconds")
      expect(spent).toMatchObject({ _tag: "RetryBudgetExhausted", key, attempts: 3, reason: "status 503", status: 503 })
      expect(yield* times).toEqual([0, 1000, 3000])
      const before = yield* count
      yield* over(Effect.either(head("https://other.example/")), "5 seconds")
      expect((yield* count) - before).toBe(3)
    }).pipe(Effect.provide(outage({ ratio: 0, perSecond: 0.2 })), quiet))

  it.effect("comes back as the window moves on", () =>
    Effect.gen(function*() {
      const first = yield* over(Effect.either(head()), "20 seconds")
      expect(first.at).toBe(1000)
      const second = yield* over(Effect.either(head()), "20 seconds")
      expect(second.at).toBe(21_000)
    }).pipe(Effect.provide(outage({ ratio: 0, perSecond: 0.1 })), quiet))
})
