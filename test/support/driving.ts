import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { CircuitBreakers } from "../../src/http/CircuitBreakers.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as testing from "../../src/webhooks/testing.js"

/** Where the calls of these tests go. */
export const url = "https://example.com/hook"
export const key = "https://example.com"

/** The exported client without jitter, over a fake that answers by `script`. */
export const client = (script: testing.Script, options: ResilientHttpClient.Options = {}) =>
  Layer.provideMerge(
    ResilientHttpClient.layer({ ...options, retry: { jitter: 0, ...options.retry } }),
    testing.scriptedClient(script)
  )

/** The same making one request a call, with all the time it wants. */
export const once = (script: testing.Script, options: ResilientHttpClient.Options = {}) =>
  client(script, { attemptTimeout: "1 day", deadline: "2 days", ...options, retry: { maxRetries: 0 } })

/** One call by `executeHead` with a POST that may be repeated. */
export const head = (to = url, headers: Record<string, string> = { "webhook-id": "msg_1" }) =>
  Effect.flatMap(
    ResilientHttpClient.ResilientHttpClient,
    (client) => client.executeHead(Effect.succeed(HttpClientRequest.post(to, { headers })), { url: to })
  )

/** One call by `execute` with a POST that may be repeated. */
export const execute = (to = url, headers: Record<string, string> = { "webhook-id": "msg_1" }) =>
  Effect.flatMap(ResilientHttpClient.ResilientHttpClient, (client) => client.post(to, { headers }))

/** When the requests were made. */
export const times = Effect.flatMap(
  testing.FakeHttpClient,
  (fake) => Effect.map(fake.requests, (requests) => requests.map((request) => request.at))
)

/** How many requests there were. */
export const count = Effect.flatMap(testing.FakeHttpClient, (fake) => fake.count)

/** The name of the state of the circuit of `url`. */
export const stateName = Effect.flatMap(
  CircuitBreakers,
  (breakers) => Effect.map(breakers.state(key), (state) => state.name)
)

/** How an effect ended, and when. */
export interface Ended<A, E> {
  readonly exit: Exit.Exit<A, E>
  readonly at: number
}

/** Starts an effect; it has made what it makes without waiting when this returns. */
export const start = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<Fiber.RuntimeFiber<Ended<A, E>>, never, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(
      Effect.flatMap(Effect.exit(effect), (exit) => Effect.map(Clock.currentTimeMillis, (at) => ({ exit, at })))
    )
    yield* TestClock.adjust(0)
    return fiber
  })

/** Runs an effect while `duration` passes; it must end within it. */
export const over = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  duration: Duration.DurationInput
): Effect.Effect<Ended<A, E>, never, R> =>
  Effect.gen(function*() {
    const fiber = yield* start(effect)
    yield* TestClock.adjust(duration)
    return yield* Effect.flatten(Fiber.poll(fiber)).pipe(
      Effect.catchTag("NoSuchElementException", () => Effect.die("the call has not ended")),
      Effect.flatten
    )
  })

/** The failure of an effect that ends while `duration` passes. */
export const failure = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  duration: Duration.DurationInput = 0
): Effect.Effect<E, never, R> =>
  Effect.flatMap(over(effect, duration), ({ exit }) =>
    Exit.isSuccess(exit)
      ? Effect.die("succeeded")
      : Effect.catchAll(Effect.flip(exit), () => Effect.die("succeeded")))
