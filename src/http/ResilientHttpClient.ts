/**
 * An HTTP client that survives its peers. Around every call, from the outside in: correlation id → deadline → retry (and its budget) →
 * breaker → concurrency → attempt timeout. It decorates whatever `HttpClient` the program provides (undici, a fake in a test)
 * and has a tag of its own, so that another client in the same program does not inherit its retries.
 *
 * A call that must wait for a slot asks the breaker before the wait and takes its permit after it: what queued up behind a
 * peer that has meanwhile failed is refused at once.
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
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as DurationText from "../DurationText.js"
import * as SecureRandom from "../SecureRandom.js"
import type * as Circuit from "./Circuit.js"
import * as CircuitBreakers from "./CircuitBreakers.js"
import * as Calls from "./internal/calls.js"
import type { ResilientHttpClientError } from "./ResilientHttpClientError.js"
import * as Errors from "./ResilientHttpClientError.js"
import type * as RetryBudget from "./RetryBudget.js"
import type * as RetryPolicy from "./RetryPolicy.js"

export * from "./ResilientHttpClientError.js"

/** The head of an answer, and of its body what could be had within the bounds of `defaults.capture`. */
export interface Head {
  readonly status: number
  readonly headers: Headers.Headers
  /** At most 16 KiB. */
  readonly body: Uint8Array
  /** Whether `body` is the whole body. */
  readonly complete: boolean
  /** Requests that the call made. */
  readonly attempts: number
}

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

export interface ExecuteHeadOptions {
  /** Where the requests go: for errors and, without `withKey`, for the key. */
  readonly url: string
  /** In place of the client's attempt timeout. */
  readonly attemptTimeout?: Duration.DurationInput | undefined
  /** In place of the client's limit of requests in flight for the key. */
  readonly concurrency?: number | undefined
  /** Told how each request ended, before a retry is thought of. A call that the breaker refused made no request. */
  readonly onAttempt?: ((attempt: AttemptResult) => Effect.Effect<void>) | undefined
}

/** How one request ended. */
export interface AttemptResult {
  /** 1, 2, … */
  readonly attempt: number
  /** Milliseconds. */
  readonly duration: number
  /** The head, the failure, or an interruption (by the deadline or by the caller). */
  readonly exit: Exit.Exit<Pick<Head, "headers" | "status">, ResilientHttpClientError>
}

/**
 * The tag of the resilient client. Its `execute` succeeds with a 2xx answer whose body (at most 1 MiB) is in memory, and fails with
 * `ResponseError` (reason `StatusCode`) on any other status.
 */
export class ResilientHttpClient extends Context.Tag("effect-webhooks/ResilientHttpClient")<
  ResilientHttpClient,
  Service
>() {}

/** All optional; the defaults are those of `defaults`. */
export interface Options {
  /** Backoff of retries within a call. `maxRetries` N: at most N + 1 requests. */
  readonly retry?: RetryPolicy.Options | undefined
  /** Replaces the backoff altogether. */
  readonly retryPolicy?: RetryPolicy.RetryPolicy | undefined
  /** Time for one attempt; default 10 seconds. */
  readonly attemptTimeout?: Duration.DurationInput | undefined
  /** Time for a whole call, at most 24 days; default 60 seconds. */
  readonly deadline?: Duration.DurationInput | undefined
  readonly budget?: RetryBudget.Options | undefined
  readonly breaker?: Circuit.Options | undefined
  /** Requests in flight in the process; default 64. */
  readonly concurrency?: number | undefined
  /** Requests in flight for one key; default 10. */
  readonly keyConcurrency?: number | undefined
  /** Keys with state at one time; default 10 000. */
  readonly maxKeys?: number | undefined
  /** Header that carries the correlation id; default `X-Correlation-ID`. */
  readonly correlationHeader?: string | undefined
}

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
      >(calls.buffered, Effect.succeed)

      const postJson: Service["postJson"] = (url, body, headers = {}) => {
        const request = HttpClientRequest.post(url, { headers })
        return Effect.flatMap(SecureRandom.alphanumeric(24), (key) =>
          Effect.matchEffect(HttpBody.json(body), {
            onFailure: () => Effect.fail(Errors.requestError(request, "Encode", undefined, 0)),
            onSuccess: (json) =>
              client.execute(request.pipe(
                HttpClientRequest.setBody(json),
                "idempotency-key" in request.headers
                  ? (same) => same
                  : HttpClientRequest.setHeader("idempotency-key", `idk_${key}`)
              ))
          })).pipe(
            Effect.flatMap((response) =>
              Effect.mapError(response.json, () => undecodable(request, response))
            )
          )
      }

      return Object.assign(client, { executeHead: calls.head, postJson })
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
> => Layer.unwrapEffect(Effect.map(environment, (options) =>
  layer({ ...options, ...overrides, retry: { ...options.retry, ...overrides.retry } })))

/** Runs an effect whose calls share breaker, budget and slots under `key` instead of their URL's origin. */
export const withKey: {
  (key: string): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, key: string): Effect.Effect<A, E, R>
} = dual(2, <A, E, R>(effect: Effect.Effect<A, E, R>, key: string): Effect.Effect<A, E, R> =>
  Effect.locally(effect, Calls.currentKey, Option.some(key)))

/** The number of the attempt under way (1, 2, …), for what runs inside it (a signer, a span); 0 outside. */
export const currentAttempt: Effect.Effect<number> = Effect.suspend(() => FiberRef.get(Calls.currentAttempt))

// --- internal

const undecodable = (
  request: HttpClientRequest.HttpClientRequest,
  response: HttpClientResponse.HttpClientResponse
): HttpClientError.HttpClientError =>
  Errors.responseError(
    request,
    { status: response.status, headers: response.headers, body: new Uint8Array() },
    1,
    "Decode"
  )

const optional = <A>(config: Config.Config<A>): Config.Config<A | undefined> =>
  Config.map(Config.option(config), Option.getOrUndefined)

const maxRetries = Config.mapOrFail(Config.integer("WEBHOOKS_MAX_RETRIES"), (n) =>
  n >= 0 && n <= 100
    ? Either.right(n)
    : Either.left(ConfigError.InvalidData([], "must be a whole number from 0 to 100")))

const correlationHeader = Config.mapOrFail(Config.string("WEBHOOKS_CORRELATION_HEADER"), (name) =>
  isHeaderName(name)
    ? Either.right(name)
    : Either.left(ConfigError.InvalidData([], "must be a header name: letters, digits and !#$%&'*+-.^_`|~")))

const isHeaderName = (name: string): boolean => /^[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,128}$/.test(name)

const environment: Config.Config<Options> = Config.map(
  Config.all({
    maxRetries: optional(maxRetries),
    baseDelay: optional(DurationText.config("WEBHOOKS_BASE_DELAY")),
    maxDelay: optional(DurationText.config("WEBHOOKS_MAX_DELAY")),
    attemptTimeout: optional(DurationText.config("WEBHOOKS_TIMEOUT")),
    deadline: optional(DurationText.config("WEBHOOKS_DEADLINE")),
    correlationHeader: optional(correlationHeader)
  }),
  ({ attemptTimeout, correlationHeader, deadline, ...retry }) => ({ retry, attemptTimeout, deadline, correlationHeader })
)
