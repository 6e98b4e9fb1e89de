/**
 * An HTTP client that survives its peers. Around every call: correlation id, deadline, retry (and its budget), concurrency, breaker,
 * attempt timeout. It decorates whatever `HttpClient` the program provides (undici, a fake in a test) and has a tag of its own, so that
 * another client in the same program does not inherit its retries.
 *
 * A call that must wait for a slot asks the breaker before the wait and takes its permit after it: what queued up behind a
 * peer that has meanwhile failed is refused at once. The deadline bounds each wait and each attempt.
 */
import type * as Headers from "@effect/platform/Headers"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberRef from "effect/FiberRef"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as DurationText from "../DurationText.js"
import * as Own from "../Own.js"
import * as SecureRandom from "../SecureRandom.js"
import * as CircuitBreakers from "./CircuitBreakers.js"
import * as HeaderName from "./HeaderName.js"
import * as Calls from "./internal/calls.js"
import type { ExecuteHeadOptions, Head, Options } from "./internal/model.js"
import type { ResilientHttpClientError } from "./ResilientHttpClientError.js"
import * as Errors from "./ResilientHttpClientError.js"

export type { AttemptResult, ExecuteHeadOptions, Head, Options } from "./internal/model.js"
export * from "./ResilientHttpClientError.js"

/** The resilient client: platform's client interface, and two calls more. */
export interface Service extends HttpClient.HttpClient.With<ResilientHttpClientError> {
  /**
   * Makes a request and succeeds as soon as a complete answer head is there, whatever its status: once a 2xx head has arrived, nothing in the body can
   * undo it. The body is captured best-effort, then the socket is destroyed. `request` is run anew for each attempt, when its slot
   * is free, so that it may sign with a fresh timestamp. Retries as `execute` does; an answer that is still not 2xx in the end is returned, not failed.
   */
  readonly executeHead: <E, R>(
    request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>,
    options: ExecuteHeadOptions
  ) => Effect.Effect<Head, E | ResilientHttpClientError, R>
  /**
   * Posts a JSON body and gives the decoded JSON answer (`null` for an empty one). Each call carries an `Idempotency-Key` of its own (unless
   * `headers` has one), so that it may be retried. A status other than 2xx fails with `ResponseError`.
   */
  readonly postJson: (
    url: string | URL,
    body: unknown,
    headers?: Headers.Input
  ) => Effect.Effect<unknown, ResilientHttpClientError>
}

/**
 * The tag of the resilient client. Its `execute` succeeds with a 2xx answer whose body (at most 1 MiB) is in memory, and fails with
 * `ResponseError` (reason `StatusCode`) on any other status.
 */
export class ResilientHttpClient extends Context.Tag("effect-webhooks/ResilientHttpClient")<
  ResilientHttpClient,
  Service
>() {}

/** Makes the client from the `HttpClient` and the `CircuitBreakers` in context. */
export const make = (
  options: Options = {}
): Effect.Effect<Service, never, HttpClient.HttpClient | CircuitBreakers.CircuitBreakers> =>
  Effect.map(
    Effect.all([HttpClient.HttpClient, CircuitBreakers.CircuitBreakers]),
    ([inner, breakers]) => {
      const calls = Calls.make(inner, breakers, options)

      const client = HttpClient.makeWith<
        HttpClientError.HttpClientError,
        never,
        ResilientHttpClientError,
        never
      >((request) => Effect.map(calls.buffered(request), ({ response }) => response), Effect.succeed)

      const postJson: Service["postJson"] = (url, body, headers = {}) => {
        const request = HttpClientRequest.post(url, { headers })
        return Effect.flatMap(SecureRandom.alphanumeric(24), (key) =>
          Effect.matchEffect(HttpBody.json(body), {
            onFailure: () => Effect.fail(Errors.requestError(request, "Encode", undefined, 0)),
            onSuccess: (json) =>
              calls.buffered(Effect.succeed(request.pipe(
                HttpClientRequest.setBody(json),
                "idempotency-key" in request.headers
                  ? (same) => same
                  : HttpClientRequest.setHeader("idempotency-key", `idk_${key}`)
              )))
          })).pipe(
            Effect.flatMap(({ attempts, response }) =>
              Effect.mapError(response.json, () => undecodable(request, response, attempts))
            )
          )
      }

      return Object.assign(client, { executeHead: Own.register(calls.head), postJson })
    }
  )

/** The client and its breakers over the `HttpClient` in context. */
export const layer = (
  options: Options = {}
): Layer.Layer<ResilientHttpClient | CircuitBreakers.CircuitBreakers, never, HttpClient.HttpClient> =>
  Layer.provideMerge(
    Layer.effect(ResilientHttpClient, make(options)),
    CircuitBreakers.layer({ ...options.breaker, maxKeys: options.maxKeys })
  )

/** The same from a `Config` of the options. */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<
  ResilientHttpClient | CircuitBreakers.CircuitBreakers,
  ConfigError.ConfigError,
  HttpClient.HttpClient
> => Layer.unwrapEffect(Effect.map(Config.unwrap(config), layer))

/**
 * The same from the environment, with `overrides` on top: `WEBHOOKS_MAX_RETRIES`, `WEBHOOKS_BASE_DELAY`, `WEBHOOKS_MAX_DELAY`,
 * `WEBHOOKS_TIMEOUT`, `WEBHOOKS_DEADLINE` and `WEBHOOKS_CORRELATION_HEADER`.
 */
export const layerFromEnv = (overrides: Options = {}): Layer.Layer<
  ResilientHttpClient | CircuitBreakers.CircuitBreakers,
  ConfigError.ConfigError,
  HttpClient.HttpClient
> =>
  Layer.unwrapEffect(
    Effect.map(optionsFromEnv, (options) =>
      layer({ ...options, ...given(overrides), retry: { ...options.retry, ...given(overrides.retry ?? {}) } }))
  )

/** Runs an effect whose calls share breaker, budget and slots under `key` instead of their URL's origin. */
export const withKey: {
  (key: string): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, key: string): Effect.Effect<A, E, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, key: string): Effect.Effect<A, E, R> =>
    Effect.locally(effect, Calls.currentKey, Option.some(key))
)

/**
 * Runs an effect whose calls are single attempts: each makes one request at most, whatever it comes to. No retry (a `withRetryPolicy` doesn't count),
 * and neither the circuit breaker nor the retry budget is asked or told: whoever calls keeps count, as a durable queue does. Slots,
 * attempt timeout and deadline stay. `attempt` (1, 2, …) is the `currentAttempt` of each call and what `onAttempt` and
 * spans tell; errors still count the requests of their own call. Calls made by what prepares a request or is told of one are ordinary.
 */
export const withSingleAttempt: {
  (attempt: number): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, attempt: number): Effect.Effect<A, E, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, attempt: number): Effect.Effect<A, E, R> =>
    Effect.locally(effect, Calls.currentSingle, Option.some(attempt))
)

/** The number of the attempt under way (1, 2, …), for what runs inside it (a signer, a span); 0 outside. */
export const currentAttempt: Effect.Effect<number> = Effect.suspend(() => FiberRef.get(Calls.currentAttempt))

// --- internal

/** The options that say something: one that is `undefined` overrides nothing. */
const given = <A extends object>(options: A): Partial<A> =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<A>

const undecodable = (
  request: HttpClientRequest.HttpClientRequest,
  response: HttpClientResponse.HttpClientResponse,
  attempts: number
): HttpClientError.HttpClientError =>
  Errors.responseError(
    request,
    { status: response.status, headers: response.headers, body: new Uint8Array() },
    attempts,
    "Decode"
  )

const optional = <A>(config: Config.Config<A>): Config.Config<A | undefined> =>
  Config.map(Config.option(config), Option.getOrUndefined)

// `Config.integer` would repeat the text in its error.
const maxRetries = Config.mapOrFail(
  Config.string("WEBHOOKS_MAX_RETRIES"),
  (text) =>
    /^(?:\d{1,2}|100)$/.test(text.trim())
      ? Either.right(Number(text))
      : Either.left(ConfigError.InvalidData([], "must be a whole number from 0 to 100"))
)

const correlationHeader = Config.mapOrFail(Config.string("WEBHOOKS_CORRELATION_HEADER"), (name) => {
  const wrong = HeaderName.correlationProblem(name)
  return wrong === undefined ? Either.right(name) : Either.left(ConfigError.InvalidData([], wrong))
})

const positive = { least: "1 milli" } as const

/** What `layerFromEnv` reads, for a host that changes it before it makes the client. */
export const optionsFromEnv: Config.Config<Options> = Config.map(
  Config.all({
    maxRetries: optional(maxRetries),
    baseDelay: optional(DurationText.config("WEBHOOKS_BASE_DELAY")),
    maxDelay: optional(DurationText.config("WEBHOOKS_MAX_DELAY")),
    attemptTimeout: optional(DurationText.config("WEBHOOKS_TIMEOUT", positive)),
    deadline: optional(DurationText.config("WEBHOOKS_DEADLINE", positive)),
    correlationHeader: optional(correlationHeader)
  }),
  ({ attemptTimeout, correlationHeader, deadline, ...retry }) => ({
    retry,
    attemptTimeout,
    deadline,
    correlationHeader
  })
)
