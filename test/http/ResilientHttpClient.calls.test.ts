import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as CorrelationId from "../../src/CorrelationId.js"
import { CircuitBreakers } from "../../src/http/CircuitBreakers.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as RetryPolicy from "../../src/http/RetryPolicy.js"
import * as testing from "../../src/webhooks/testing.js"
import { client, count, execute, failure, head, key, once, over, start, times, url } from "../support/driving.js"
import { quiet } from "../support/recording.js"

const requests = Effect.flatMap(testing.FakeHttpClient, (fake) => fake.requests)

const postJson = (body: unknown, headers?: Record<string, string>) =>
  Effect.flatMap(ResilientHttpClient.ResilientHttpClient, (client) => client.postJson(url, body, headers))

describe("postJson", () => {
  const json = (body: string, status = 200): testing.Answer => ({
    status,
    body,
    headers: { "content-type": "application/json" }
  })

  it.effect("posts JSON and gives the decoded answer, one Idempotency-Key for all attempts", () =>
    Effect.gen(function*() {
      const { exit } = yield* over(postJson({ order: 1 }, { "x-own": "2" }), "10 seconds")
      expect(exit).toEqual(Exit.succeed({ ok: true }))
      const made = yield* requests
      expect(made.length).toBe(3)
      for (const request of made) {
        expect(request).toMatchObject({ method: "POST", url, text: "{\"order\":1}" })
        expect(request.headers).toMatchObject({
          "content-type": "application/json",
          "x-own": "2",
          "idempotency-key": expect.stringMatching(/^idk_[A-Za-z0-9]{24}$/)
        })
      }
      expect(new Set(made.map((request) => request.headers["idempotency-key"])).size).toBe(1)
    }).pipe(Effect.provide(client([503, "reset", json("{\"ok\":true}")])), quiet))

  it.effect("another call has another key; a key of the caller's own stays", () =>
    Effect.gen(function*() {
      yield* over(postJson(1), 0)
      yield* over(postJson(1), 0)
      yield* over(postJson(1, { "Idempotency-Key": "own" }), 0)
      const keys = (yield* requests).map((request) => request.headers["idempotency-key"])
      expect(new Set(keys).size).toBe(3)
      expect(keys[2]).toBe("own")
    }).pipe(Effect.provide(client([json("null")]))))

  it.effect("an empty answer is null", () =>
    Effect.gen(function*() {
      expect((yield* over(postJson({}), 0)).exit).toEqual(Exit.succeed(null))
      expect((yield* over(postJson({}), 0)).exit).toEqual(Exit.succeed(null))
    }).pipe(Effect.provide(client([200, 204]))))

  it.effect("an answer that is no JSON: ResponseError, Decode, with the attempts made and none of its text", () =>
    Effect.gen(function*() {
      const error = yield* failure(postJson({}), "10 seconds")
      expect(error).toMatchObject({ _tag: "ResponseError", reason: "Decode" })
      expect(error.message).toContain("attempts made: 2")
      expect(error.message).not.toContain("canary")
    }).pipe(Effect.provide(client([503, json("canary")])), quiet))

  it.effect("a body that JSON can't hold: RequestError, Encode, nothing sent", () =>
    Effect.gen(function*() {
      const cyclic: { self?: unknown } = {}
      cyclic.self = cyclic
      for (const body of [cyclic, { big: 1n }]) {
        expect(yield* failure(postJson(body))).toMatchObject({ _tag: "RequestError", reason: "Encode" })
      }
      expect(yield* count).toBe(0)
    }).pipe(Effect.provide(client([200]))))

  it.effect("another status: ResponseError", () =>
    Effect.gen(function*() {
      expect(yield* failure(postJson({}))).toMatchObject({ reason: "StatusCode", response: { status: 422 } })
    }).pipe(Effect.provide(client([json("{}", 422)]))))
})

describe("the attempt", () => {
  it.effect("executeHead makes the request anew for each one, told its number", () =>
    Effect.gen(function*() {
      const client = yield* ResilientHttpClient.ResilientHttpClient
      const request = Effect.gen(function*() {
        const at = yield* Clock.currentTimeMillis
        const attempt = yield* ResilientHttpClient.currentAttempt
        return HttpClientRequest.post(url, {
          headers: { "webhook-id": "m", "webhook-timestamp": `${at}`, n: `${attempt}` }
        })
      })
      yield* over(client.executeHead(request, { url }), "10 seconds")
      expect((yield* requests).map(({ attempt, headers }) => [headers["webhook-timestamp"], headers["n"], attempt]))
        .toEqual([
          ["0", "1", 1],
          ["1000", "2", 2],
          ["3000", "3", 3]
        ])
      expect(yield* ResilientHttpClient.currentAttempt).toBe(0)
    }).pipe(Effect.provide(client([503, 503, 200])), quiet))

  it.effect("executeHead makes the request only once its slot is free", () =>
    Effect.gen(function*() {
      const client = yield* ResilientHttpClient.ResilientHttpClient
      const made: Array<number> = []
      const request = Effect.map(Clock.currentTimeMillis, (at) => {
        made.push(at)
        return HttpClientRequest.post(url)
      })
      yield* start(client.executeHead(request, { url }))
      yield* start(client.executeHead(request, { url }))
      yield* TestClock.adjust("10 seconds")
      expect(made).toEqual([0, 5000])
    }).pipe(Effect.provide(once([{ status: 200, delay: "5 seconds" }], { keyConcurrency: 1 }))))

  it.effect("a request that can't be made is the call's failure: not retried, no failure for the breaker", () =>
    Effect.gen(function*() {
      const client = yield* ResilientHttpClient.ResilientHttpClient
      const call = client.executeHead(Effect.fail("unsigned" as const), { url })
      for (let i = 0; i < 10; i++) expect(yield* failure(call)).toBe("unsigned")
      const breakers = yield* CircuitBreakers
      expect((yield* breakers.state(key)).name).toBe("Closed")
      expect(yield* count).toBe(0)
    }).pipe(Effect.provide(client([200]))))

  it.effect("executeHead's own attempt timeout", () =>
    Effect.gen(function*() {
      const client = yield* ResilientHttpClient.ResilientHttpClient
      const call = client.executeHead(Effect.succeed(HttpClientRequest.post(url)), { url, attemptTimeout: "2 seconds" })
      const { at, exit } = yield* over(Effect.flip(call), "1 minute")
      expect(at).toBe(2000)
      expect(Exit.map(exit, (error) => error.message)).toEqual(
        Exit.succeed("https://example.com/hook gave no answer within 2s; attempts made: 1")
      )
    }).pipe(Effect.provide(client(["timeout"]))))

  it.effect("onAttempt is told of each request, and of none that was refused", () =>
    Effect.gen(function*() {
      const client = yield* ResilientHttpClient.ResilientHttpClient
      const told: Array<unknown> = []
      const request = HttpClientRequest.post(url, { headers: { "webhook-id": "m" } })
      yield* over(
        client.executeHead(Effect.succeed(request), {
          url,
          onAttempt: ({ attempt, duration, exit }) =>
            Effect.sync(() => told.push([attempt, duration, Exit.isSuccess(exit) ? exit.value.status : "failed"]))
        }),
        "1 hour"
      )
      expect(told).toEqual([[1, 5000, 503], [2, 0, "failed"], [3, 0, 200]])
    }).pipe(
      Effect.provide(
        client([{ status: 503, delay: "5 seconds" }, "reset", 200], { breaker: { consecutiveFailures: 2 } })
      ),
      quiet
    ))

  it.effect("an inner client that fails on statuses by itself changes nothing", () =>
    Effect.gen(function*() {
      const { exit } = yield* over(head(), "10 seconds")
      expect(Exit.map(exit, (head) => head.status)).toEqual(Exit.succeed(503))
      expect(yield* times).toEqual([0, 1000, 3000, 7000])
    }).pipe(
      Effect.provide(Layer.provideMerge(
        ResilientHttpClient.layer({ retry: { jitter: 0 } }).pipe(
          Layer.provide(
            Layer.effect(HttpClient.HttpClient, Effect.map(HttpClient.HttpClient, HttpClient.filterStatusOk))
          )
        ),
        testing.scriptedClient([503])
      )),
      quiet
    ))
})

describe("limits of requests in flight", () => {
  const hang = (
    n: number,
    call: (i: number) => Effect.Effect<unknown, unknown, ResilientHttpClient.ResilientHttpClient>
  ) => Effect.forEach(Array.from({ length: n }, (_, i) => i), (i) => Effect.fork(call(i)))

  it.effect("64 in the process, 10 of one key", () =>
    Effect.gen(function*() {
      yield* hang(20, () => head())
      yield* TestClock.adjust(0)
      expect(yield* count).toBe(10)
      yield* hang(100, (i) => head(`https://host${i}.example/`))
      yield* TestClock.adjust(0)
      expect(yield* count).toBe(64)
    }).pipe(Effect.provide(once(["timeout"]))))

  it.effect("who waits for a slow key holds no slot of the process", () =>
    Effect.gen(function*() {
      yield* hang(500, () => head())
      yield* TestClock.adjust(0)
      yield* over(head("https://fast.example/"), 0)
      expect(yield* count).toBe(11)
    }).pipe(Effect.provide(once({ "https://fast.example": [200], "*": ["timeout"] }))))

  it.effect("a slot is freed by success, failure, timeout and interruption alike", () =>
    Effect.gen(function*() {
      const fake = yield* testing.FakeHttpClient
      for (const step of [200, 503, "reset", "timeout"] satisfies ReadonlyArray<testing.Step>) {
        yield* fake.play([step])
        yield* over(Effect.exit(execute()), "10 seconds")
      }
      const fiber = yield* Effect.fork(execute())
      yield* TestClock.adjust("1 second")
      const queued = yield* Effect.fork(execute())
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(queued)
      yield* Fiber.interrupt(fiber)
      yield* fake.play([200])
      expect((yield* over(execute(), 0)).exit._tag).toBe("Success")
    }).pipe(Effect.provide(once([200], {
      concurrency: 1,
      keyConcurrency: 1,
      attemptTimeout: "10 seconds"
    }))))

  it.effect("executeHead's own limit for its key", () =>
    Effect.gen(function*() {
      const client = yield* ResilientHttpClient.ResilientHttpClient
      const call = client.executeHead(Effect.succeed(HttpClientRequest.post(url)), { url, concurrency: 3 })
      yield* hang(20, () => call)
      yield* TestClock.adjust(0)
      expect(yield* count).toBe(3)
    }).pipe(Effect.provide(once(["timeout"]))))

  it.effect("what queued up behind a peer that has failed meanwhile is refused once the breaker opens", () =>
    Effect.gen(function*() {
      const calls = yield* Effect.forEach(Array.from({ length: 50 }), () => start(Effect.flip(execute())))
      expect(yield* count).toBe(10)
      yield* TestClock.adjust("5 seconds")
      const tags = yield* Effect.forEach(
        calls,
        (call) => Effect.map(Fiber.join(call), ({ at, exit }) => [at, exit] as const)
      )
      expect(tags.map(([at]) => at)).toEqual(Array.from({ length: 50 }, () => 5000))
      expect(
        tags.map(([, exit]) => Exit.map(exit, (error) => error._tag)).filter((tag) =>
          Exit.isSuccess(tag) && tag.value === "CircuitOpen"
        ).length
      ).toBe(40)
      expect(yield* count).toBe(10)
    }).pipe(Effect.provide(once([{ status: 503, delay: "5 seconds" }], { breaker: { consecutiveFailures: 1 } }))))

  it.effect("with the circuit open, a call does not even queue", () =>
    Effect.gen(function*() {
      const breakers = yield* CircuitBreakers
      yield* hang(10, () => head())
      yield* TestClock.adjust(0)
      yield* breakers.isolate(key)
      expect((yield* failure(head()))._tag).toBe("CircuitOpen")
    }).pipe(Effect.scoped, Effect.provide(once(["timeout"]))))
})

describe("correlation", () => {
  const header = (name = "x-correlation-id") =>
    Effect.map(requests, (made) => made.map((request) => request.headers[name]))

  it.effect("the id of the context goes out, the same on each attempt", () =>
    Effect.gen(function*() {
      yield* over(CorrelationId.withCorrelationId(head(), "order-42"), "10 seconds")
      expect(yield* header()).toEqual(["order-42", "order-42", "order-42", "order-42"])
    }).pipe(Effect.provide(client([503])), quiet))

  it.effect("without one, one is generated a call, the same on each attempt", () =>
    Effect.gen(function*() {
      yield* over(head(), "10 seconds")
      const first = yield* header()
      expect(new Set(first).size).toBe(1)
      expect(first[0]).toMatch(/^cid_[A-Za-z0-9]{24}$/)
      yield* over(head("https://other.example/"), "10 seconds")
      expect(new Set(yield* header()).size).toBe(2)
    }).pipe(Effect.provide(client([503])), quiet))

  it.effect("the header's name is configurable", () =>
    Effect.gen(function*() {
      yield* over(CorrelationId.withCorrelationId(execute(), "order-42"), 0)
      expect(yield* header("x-request-id")).toEqual(["order-42"])
      expect(yield* header()).toEqual([undefined])
    }).pipe(Effect.provide(client([200], { correlationHeader: "X-Request-ID" }))))
})

describe("configuration", () => {
  const from = (env: Record<string, string>, overrides?: ResilientHttpClient.Options) =>
    Layer.provideMerge(
      ResilientHttpClient.layerFromEnv(overrides).pipe(
        Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(env)))))
      ),
      testing.scriptedClient(["timeout"])
    )

  const timesFrom = (env: Record<string, string>, overrides?: ResilientHttpClient.Options) =>
    Effect.gen(function*() {
      const { at } = yield* over(Effect.exit(CorrelationId.withCorrelationId(head(), "c")), "1 hour")
      const made = yield* requests
      return { at, times: made.map((request) => request.at), headers: Object.keys(made[0]!.headers) }
    }).pipe(Effect.provide(from(env, overrides)), quiet)

  it.effect("layerFromEnv reads every variable, durations in both forms", () =>
    Effect.gen(function*() {
      const { at, headers, times } = yield* timesFrom({
        WEBHOOKS_MAX_RETRIES: "4",
        WEBHOOKS_BASE_DELAY: "2s",
        WEBHOOKS_MAX_DELAY: "3 seconds",
        WEBHOOKS_TIMEOUT: "500ms",
        WEBHOOKS_DEADLINE: "10 seconds",
        WEBHOOKS_CORRELATION_HEADER: "X-Trace"
      }, { retry: { jitter: 0 } })
      expect(times).toEqual([0, 2500, 6000, 9500])
      expect(at).toBe(10_000)
      expect(headers).toContain("x-trace")
    }))

  it.effect("layerFromEnv: the defaults where nothing is set, overrides on top", () =>
    Effect.gen(function*() {
      expect((yield* timesFrom({}, { retry: { jitter: 0 } })).times).toEqual([0, 11_000, 23_000, 37_000])
    }))

  it.effect("layerFromEnv: overrides win, member by member", () =>
    Effect.gen(function*() {
      const { times } = yield* timesFrom(
        { WEBHOOKS_TIMEOUT: "1s", WEBHOOKS_MAX_RETRIES: "2" },
        { retry: { jitter: 0 }, attemptTimeout: "2 seconds" }
      )
      expect(times).toEqual([0, 3000, 7000])
    }))

  it.effect("layerFromEnv: an override that is undefined overrides nothing", () =>
    Effect.gen(function*() {
      const { times } = yield* timesFrom(
        { WEBHOOKS_TIMEOUT: "1s", WEBHOOKS_MAX_RETRIES: "0" },
        { retry: { maxRetries: undefined }, attemptTimeout: undefined }
      )
      expect(times).toEqual([0])
    }))

  for (
    const [name, values] of [
      ["WEBHOOKS_MAX_RETRIES", ["-1", "1.5", "many", "101", "Infinity"]],
      ["WEBHOOKS_BASE_DELAY", ["soon", "-1s", "10", "25 days", "1e3s"]],
      ["WEBHOOKS_MAX_DELAY", ["10 fortnights"]],
      ["WEBHOOKS_TIMEOUT", ["s", "NaN"]],
      ["WEBHOOKS_DEADLINE", ["Infinity"]],
      ["WEBHOOKS_CORRELATION_HEADER", ["X Correlation", "x:y", "x\r\ny", "ü"]]
    ] as const
  ) {
    for (const value of values) {
      it.effect(`${name}=${JSON.stringify(value)}: a ConfigError that names the variable`, () =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(Effect.scoped(Layer.build(from({ [name]: value }))))
          expect(error._op).toBeDefined()
          expect(String(error)).toContain(name)
        }))
    }
  }

  it.effect("layerConfig takes a Config for each option", () =>
    Effect.gen(function*() {
      yield* over(head(), "1 hour")
      expect(yield* times).toEqual([0, 1000, 3000])
    }).pipe(
      Effect.provide(Layer.provideMerge(
        ResilientHttpClient.layerConfig({
          retry: { maxRetries: Config.integer("RETRIES"), jitter: Config.succeed(0) }
        }),
        testing.scriptedClient([503])
      )),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["RETRIES", "2"]]))),
      quiet
    ))
})

describe("a policy of the host's own", () => {
  it.effect("retryPolicy replaces the backoff, withRetryPolicy replaces that, read at the start of each call", () =>
    Effect.gen(function*() {
      yield* over(head(), "1 minute")
      expect(yield* times).toEqual([0, 5000])
      const before = yield* count
      yield* over(
        head("https://other.example/").pipe(
          RetryPolicy.withRetryPolicy(RetryPolicy.make({ baseDelay: "100 millis", maxRetries: 2, jitter: 0 }))
        ),
        "1 minute"
      )
      expect((yield* times).slice(before).map((at) => at - 60_000)).toEqual([0, 100, 300])
    }).pipe(
      Effect.provide(
        client([503], { retryPolicy: RetryPolicy.make({ baseDelay: "5 seconds", maxRetries: 1, jitter: 0 }) })
      ),
      quiet
    ))

  it.effect("a child's policy does not reach its parent", () =>
    Effect.gen(function*() {
      yield* over(
        Effect.asVoid(head()).pipe(
          Effect.fork,
          RetryPolicy.withRetryPolicy(RetryPolicy.none),
          Effect.flatMap(Fiber.join)
        ),
        0
      )
      expect(yield* count).toBe(1)
      yield* over(Effect.map(Effect.either(head()), Either.isRight), "1 minute")
      expect(yield* count).toBe(5)
    }).pipe(Effect.provide(client([503])), quiet))
})
