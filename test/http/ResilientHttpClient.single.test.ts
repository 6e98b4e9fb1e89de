import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as RetryPolicy from "../../src/http/RetryPolicy.js"
import * as testing from "../../src/webhooks/testing.js"
import { client, count, execute, failure, head, over, start, stateName, times, url } from "../support/driving.js"
import { quiet, spans } from "../support/recording.js"

const single = ResilientHttpClient.withSingleAttempt
const attempts = Effect.flatMap(
  testing.FakeHttpClient,
  (fake) => Effect.map(fake.requests, (requests) => requests.map((request) => request.attempt))
)

describe("withSingleAttempt", () => {
  it.effect("one request, whatever it comes to, and whatever the policy says", () =>
    Effect.gen(function*() {
      expect((yield* over(single(head(), 1), 0)).exit).toMatchObject({ value: { status: 503, attempts: 1 } })
      expect(yield* failure(single(head(), 2))).toMatchObject({ _tag: "RequestError" })
      const persistent = head().pipe(single(3), RetryPolicy.withRetryPolicy(RetryPolicy.make({ maxRetries: 9 })))
      expect((yield* over(persistent, 0)).exit).toMatchObject({ value: { status: 429, attempts: 1 } })
      expect(yield* failure(single(execute(), 4))).toMatchObject({ _tag: "ResponseError", response: { status: 500 } })
      expect(yield* attempts).toEqual([1, 2, 3, 4])
    }).pipe(Effect.provide(client([503, "reset", 429, 500]))))

  it.effect("the number is seen by what prepares the request, by onAttempt and by the span, and ends with the effect", () => {
    const trace = spans()
    return Effect.gen(function*() {
      const seen: Array<number> = []
      const told: Array<number> = []
      const call = Effect.flatMap(ResilientHttpClient.ResilientHttpClient, (client) =>
        client.executeHead(
          Effect.map(ResilientHttpClient.currentAttempt, (attempt) => {
            seen.push(attempt)
            return HttpClientRequest.post(url)
          }),
          { url, onAttempt: ({ attempt }) => Effect.sync(() => told.push(attempt)) }
        ))
      yield* single(call, 7)
      yield* call
      expect(seen).toEqual([7, 1])
      expect(told).toEqual([7, 1])
      expect(yield* attempts).toEqual([7, 1])
      const resends = trace.recorded.map(({ attributes }) => attributes.get("http.request.resend_count"))
      expect(resends).toEqual([6, 0])
    }).pipe(Effect.provide(client([200])), Effect.provide(trace.layer))
  })

  it.effect("the breaker hears nothing of it, and does not stop it", () =>
    Effect.gen(function*() {
      for (let n = 1; n <= 20; n++) yield* single(head(), n)
      expect(yield* stateName).toBe("Closed")
      for (let n = 1; n <= 5; n++) yield* RetryPolicy.withRetryPolicy(head(), RetryPolicy.none)
      expect(yield* stateName).toBe("Open")
      expect((yield* single(head(), 3)).status).toBe(503)
      expect(yield* failure(RetryPolicy.withRetryPolicy(head(), RetryPolicy.none))).toMatchObject({
        _tag: "CircuitOpen"
      })
      expect(yield* count).toBe(26)
    }).pipe(Effect.provide(client([503]))))

  it.effect("a call that waits for its slot doesn't ask the breaker either", () =>
    Effect.gen(function*() {
      for (let n = 1; n <= 5; n++) yield* RetryPolicy.withRetryPolicy(head(), RetryPolicy.none)
      expect(yield* stateName).toBe("Open")
      const first = yield* start(single(head(), 1))
      const second = yield* start(single(head(), 1))
      expect(yield* count).toBe(6)
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(first)
      expect((yield* Fiber.join(second)).exit).toMatchObject({ _tag: "Success" })
      expect(yield* times).toEqual([0, 0, 0, 0, 0, 0, 1000])
    }).pipe(
      Effect.provide(client([503, 503, 503, 503, 503, { status: 200, delay: "1 second" }], { keyConcurrency: 1 }))
    ))

  it.effect("it adds nothing to the retry budget", () =>
    Effect.gen(function*() {
      // A budget of a tenth of the requests: a thousand single ones would pay for a hundred retries.
      for (let n = 1; n <= 100; n++) yield* single(head(), n)
      expect((yield* over(Effect.flip(execute()), "1 minute")).exit).toMatchObject({
        value: { _tag: "RetryBudgetExhausted", attempts: 1 }
      })
    }).pipe(
      Effect.provide(
        client([503], { budget: { ratio: 0.1, perSecond: 0 }, breaker: { consecutiveFailures: Infinity } })
      ),
      quiet
    ))

  it.effect("attempt timeout and deadline stay", () =>
    Effect.gen(function*() {
      const limits = { attemptTimeout: "2 seconds", deadline: "3 seconds" } as const
      const timeout = yield* Effect.provide(
        over(Effect.flip(single(head(), 1)), "2 seconds"),
        client(["timeout"], limits)
      )
      expect(timeout.exit).toMatchObject({ value: { _tag: "AttemptTimeout", attempts: 1 } })
      const deadline = yield* Effect.gen(function*() {
        yield* start(single(head(), 1))
        return yield* failure(single(head(), 1), "3 seconds")
      }).pipe(
        Effect.provide(client(["timeout"], { attemptTimeout: "1 day", deadline: "3 seconds", keyConcurrency: 1 }))
      )
      expect(deadline).toMatchObject({ _tag: "DeadlineExceeded", attempts: 0, deadline: Duration.seconds(3) })
    }))

  it.effect("calls made while a request is prepared, and by onAttempt, are ordinary ones", () =>
    Effect.gen(function*() {
      const other = "https://tokens.example.com/"
      const call = Effect.flatMap(ResilientHttpClient.ResilientHttpClient, (client) =>
        client.executeHead(
          Effect.as(client.get(other), HttpClientRequest.post(url)),
          { url, onAttempt: () => Effect.ignore(client.get(other)) }
        ))
      expect((yield* over(single(call, 4), "10 seconds")).exit).toMatchObject({ value: { status: 503 } })
      const made = yield* Effect.flatMap(testing.FakeHttpClient, (fake) => fake.requests)
      expect(made.map(({ attempt, url }) => [new URL(url).host, attempt])).toEqual([
        ["tokens.example.com", 1],
        ["tokens.example.com", 2],
        ["example.com", 4],
        ["tokens.example.com", 1],
        ["tokens.example.com", 2]
      ])
    }).pipe(
      Effect.provide(client({ [url]: [503], "https://tokens.example.com/": [503, 200, 503, 200] })),
      quiet
    ))

  it.effect("a child fiber has it, and what a child sets never flows back", () =>
    Effect.gen(function*() {
      const child = yield* Effect.fork(head()).pipe(single(5))
      expect(Exit.isSuccess(yield* Fiber.await(child))).toBe(true)
      yield* Fiber.join(yield* Effect.fork(single(head(), 6)))
      yield* over(head(), "10 seconds")
      expect(yield* attempts).toEqual([5, 6, 1, 2])
    }).pipe(Effect.provide(client([503, 503, 503, 200])), quiet))
})
