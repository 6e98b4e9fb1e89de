/**
 * One call of the resilient client: what surrounds an attempt, layer by layer.
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import { constTrue } from "effect/Function"
import { globalValue } from "effect/GlobalValue"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import type * as Tracer from "effect/Tracer"
import * as CorrelationId from "../../CorrelationId.js"
import { defaults } from "../../Defaults.js"
import * as DurationText from "../../DurationText.js"
import * as Metrics from "../../Metrics.js"
import { type CircuitBreakers, CircuitOpen } from "../CircuitBreakers.js"
import type { ExecuteHeadOptions, Head, Options } from "../ResilientHttpClient.js"
import * as Errors from "../ResilientHttpClientError.js"
import * as RetryBudget from "../RetryBudget.js"
import * as RetryPolicy from "../RetryPolicy.js"
import * as TransportFailure from "../TransportFailure.js"
import * as Answers from "./answers.js"
import * as Body from "./body.js"
import { BoundedKeys } from "./BoundedKeys.js"
import { monotonicNow } from "./monotonic.js"
import * as Retrying from "./retrying.js"
import * as Slots from "./slots.js"

/** The key set by `withKey`. */
export const currentKey: FiberRef.FiberRef<Option.Option<string>> = globalValue(
  "effect-webhooks/ResilientHttpClient/currentKey",
  () => FiberRef.unsafeMake(Option.none<string>(), { join: (parent) => parent })
)

/** The number of the attempt under way, 0 outside one. */
export const currentAttempt: FiberRef.FiberRef<number> = globalValue(
  "effect-webhooks/ResilientHttpClient/currentAttempt",
  () => FiberRef.unsafeMake(0, { join: (parent) => parent })
)

/** The two ways to call: with the whole body of a 2xx answer in memory, or as soon as the head is there. */
export interface Calls {
  readonly buffered: <E, R>(
    request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>
  ) => Effect.Effect<HttpClientResponse.HttpClientResponse, E | Errors.ResilientHttpClientError, R>
  readonly head: <E, R>(
    request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>,
    options: ExecuteHeadOptions
  ) => Effect.Effect<Head, E | Errors.ResilientHttpClientError, R>
}

export const make = (inner: HttpClient.HttpClient, breakers: CircuitBreakers["Type"], options: Options): Calls => {
  const ownPolicy = options.retryPolicy ?? RetryPolicy.make(options.retry)
  const ownTimeout = Duration.decode(options.attemptTimeout ?? defaults.attemptTimeout)
  const deadline = Duration.min(Duration.decode(options.deadline ?? defaults.deadline), DurationText.longest)
  const correlationHeader = (options.correlationHeader ?? defaults.correlationHeader).toLowerCase()
  const maxKeys = options.maxKeys ?? defaults.maxKeys
  const budget = RetryBudget.settings(options.budget)
  const budgets = new BoundedKeys(maxKeys, () => Ref.unsafeMake(RetryBudget.initial(budget)))
  const slots = Slots.make({
    concurrency: options.concurrency ?? defaults.concurrency,
    keyConcurrency: options.keyConcurrency ?? defaults.keyConcurrency,
    maxKeys
  })

  const run = <E, R>(
    request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>,
    read: Read,
    settings: Partial<ExecuteHeadOptions>
  ): Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R> =>
    Effect.withFiberRuntime<Answers.Answer, E | Errors.ResilientHttpClientError, R>((fiber) => {
      const timeout = settings.attemptTimeout === undefined ? ownTimeout : Duration.decode(settings.attemptTimeout)
      const policy = Option.getOrElse(fiber.getFiberRef(RetryPolicy.currentRetryPolicy), () => ownPolicy)
      const key = Option.getOrUndefined(fiber.getFiberRef(currentKey)) ??
        (settings.url === undefined ? undefined : Errors.originOf(settings.url))
      const call: Call = { key, url: settings.url, attempts: 0, request: undefined }

      const attempt = (correlationId: string) => {
        // Not the step of the retry loop: what the breaker refused was no request.
        const n = call.attempts + 1
        const send = (made: HttpClientRequest.HttpClientRequest) => {
          call.request = made
          call.url = made.url
          call.attempts = n
          const exchanged = exchange(inner, made, read, {
            n,
            timeout,
            correlationHeader,
            correlationId,
            onAttempt: settings.onAttempt
          })
          return n === 1 ? Effect.zipRight(spend(call), exchanged) : exchanged
        }
        return Effect.locally(
          // Where the key is known, the request is made (and signed) only once its slot is free.
          key !== undefined
            ? guard(call, key, Effect.flatMap(request, send))
            : Effect.flatMap(request, (made) => guard(call, Errors.originOf(made.url), Effect.suspend(() => send(made)))),
          currentAttempt,
          n
        )
      }

      const guard = <E2, R2>(call: Call, key: string, effect: Effect.Effect<Answers.Answer, E2, R2>) => {
        call.key = key
        const protectedInSlot = slots.withSlot(
          key,
          settings.concurrency,
          breakers.protect(key, effect, Answers.judgeExit)
        )
        return slots.wouldWait(key) ? Effect.zipRight(breakers.check(key), protectedInSlot) : protectedInSlot
      }

      return Effect.flatMap(CorrelationId.currentOrGenerate, (correlationId) =>
        Effect.flatMap(monotonicNow, (now) =>
          Retrying.run<
            Answers.Answer,
            E | Errors.ResilientHttpClientError,
            Errors.RetryBudgetExhausted,
            R
          >(policy, now + Duration.toMillis(deadline), {
            attempt: () => attempt(correlationId),
            judgeAnswer: Answers.judgeAnswer,
            judgeFailure: (error) => Answers.judgeFailure(error, call.request),
            grant: (last) => grant(call, last),
            onRetry: (_, delay, last) =>
              Effect.annotateLogs(Effect.logWarning("http_retry"), {
                url: Errors.safeUrl(call.url ?? ""),
                attempt: call.attempts,
                delay,
                error: Answers.describe(last),
                correlationId
              })
          }).pipe(
            // The client below would put the whole URL and all headers into a span of its own.
            Effect.locally(HttpClient.currentTracerDisabledWhen, constTrue),
            Effect.timeoutFail({
              duration: deadline,
              onTimeout: () =>
                new Errors.DeadlineExceeded({ url: Errors.safeUrl(call.url ?? ""), attempts: call.attempts, deadline })
            }),
            Effect.mapError((error) =>
              error instanceof CircuitOpen
                ? new CircuitOpen({
                  key: error.key,
                  retryAfter: error.retryAfter,
                  attempts: call.attempts,
                  url: Errors.safeUrl(call.url ?? error.key)
                })
                : error
            )
          )))
    })

  /** Counts the first request of a call. */
  const spend = (call: Call): Effect.Effect<void> =>
    Effect.flatMap(monotonicNow, (now) => {
      const spent = call.key === undefined ? undefined : budgets.get(call.key)
      return spent === undefined ? Effect.void : Ref.update(spent, (state) => RetryBudget.request(state, now))
    })

  /** Asks for one retry. */
  const grant = (call: Call, last: unknown): Effect.Effect<void, Errors.RetryBudgetExhausted> =>
    Effect.flatMap(monotonicNow, (now) => {
      const spent = call.key === undefined ? undefined : budgets.get(call.key)
      if (spent === undefined) return Effect.void
      return Effect.flatMap(
        Ref.modify(spent, (state) => RetryBudget.retry(state, now, budget)),
        (granted) => granted ? Effect.void : Effect.zipRight(Metrics.budgetRefusal, refuse(call, last))
      )
    })

  const refuse = (call: Call, last: unknown): Effect.Effect<never, Errors.RetryBudgetExhausted> =>
    Effect.fail(
      new Errors.RetryBudgetExhausted({
        url: Errors.safeUrl(call.url ?? ""),
        attempts: call.attempts,
        key: call.key ?? "",
        reason: Answers.describe(last),
        status: statusOf(last)
      })
    )

  return {
    buffered: (request) =>
      Effect.flatMap(run(request, readWhole, {}), (answer) => {
        const response = Answers.isOk(answer) ? Errors.toResponse(answer.request, answer) : undefined
        return response !== undefined
          ? Effect.succeed(response)
          : Effect.fail(Errors.responseError(answer.request, answer, answer.attempts))
      }),
    head: (request, options) =>
      Effect.map(run(request, readHead, options), ({ attempts, body, complete, headers, status }) => ({
        status,
        headers,
        body,
        complete,
        attempts
      }))
  }
}

// --- internal

/** What is known of a call so far. */
interface Call {
  key: string | undefined
  url: string | undefined
  attempts: number
  request: HttpClientRequest.HttpClientRequest | undefined
}

/** Reads what must be read within the attempt; what it leaves is captured afterwards. */
type Read = (
  response: HttpClientResponse.HttpClientResponse,
  url: string,
  n: number
) => Effect.Effect<Body.Body | undefined, HttpClientError.ResponseError | Errors.ResponseTooLarge>

const readHead: Read = () => Effect.succeed(undefined)

const readWhole: Read = (response, url, n) =>
  Answers.isOk(response)
    ? Effect.flatMap(Body.buffer(response, defaults.maxResponseBytes), (body) =>
      body.complete
        ? Effect.succeed(body)
        : Effect.fail(new Errors.ResponseTooLarge({ url, attempts: n, maxBytes: defaults.maxResponseBytes })))
    : Effect.succeed(undefined)

/** One request and its answer, in a span. */
const exchange = (
  inner: HttpClient.HttpClient,
  request: HttpClientRequest.HttpClientRequest,
  read: Read,
  settings: Exchange
): Effect.Effect<Answers.Answer, Errors.ResilientHttpClientError> =>
  Effect.suspend(() => {
    const url = Errors.safeUrl(request.url)
    let answer: Answers.Answer | undefined
    return Effect.useSpan(
      "ResilientHttpClient.attempt",
      {
        kind: "client",
        captureStackTrace: false,
        attributes: {
          "http.request.method": request.method,
          "http.request.resend_count": settings.n - 1,
          "server.address": Errors.originOf(request.url),
          "url.full": url,
          correlationId: settings.correlationId
        }
      },
      (span) => {
        const tagged = HttpClientRequest.setHeaders(request, {
          [settings.correlationHeader]: request.headers[settings.correlationHeader] ?? settings.correlationId,
          ...traceParent(span)
        })
        // A span keeps the value that it ends with, and an answer may echo secrets: so it ends with none.
        return Effect.map(answered(inner, tagged, url, read, settings), (received) => {
          span.attribute("http.response.status_code", received.status)
          answer = received
        })
      }
    ).pipe(
      Effect.flatMap(() => answer === undefined ? Effect.dieMessage("an attempt ended without answer") : Effect.succeed(answer))
    )
  })

interface Exchange {
  readonly n: number
  readonly timeout: Duration.Duration
  readonly correlationHeader: string
  readonly correlationId: string
  readonly onAttempt: ExecuteHeadOptions["onAttempt"]
}

const answered = (
  inner: HttpClient.HttpClient,
  request: HttpClientRequest.HttpClientRequest,
  url: string,
  read: Read,
  { n, onAttempt, timeout }: Exchange
): Effect.Effect<Answers.Answer, Errors.ResilientHttpClientError> =>
  Effect.flatMap(monotonicNow, (startedAt) => {
    const attempt = inner.execute(request).pipe(
      // A client that filters statuses by itself gives the answer inside an error.
      Effect.catchTag("ResponseError", (error) =>
        error.reason === "StatusCode" ? Effect.succeed(error.response) : Effect.fail(error)),
      Effect.flatMap((response) => Effect.map(read(response, url, n), (body) => ({ response, body }))),
      Effect.mapError((error) => error instanceof Errors.ResponseTooLarge ? error : presentable(error, request, n)),
      Effect.timeoutFail({
        duration: timeout,
        onTimeout: () => new Errors.AttemptTimeout({ url, attempts: n, timeout })
      }),
      Effect.flatMap(({ body, response }) =>
        Effect.map(
          body === undefined ? captureWithin(response, startedAt + Duration.toMillis(timeout)) : Effect.succeed(body),
          ({ bytes, complete }): Answers.Answer => ({
            request,
            attempts: n,
            status: response.status,
            headers: response.headers,
            body: bytes,
            complete
          })
        )
      )
    )
    return onAttempt === undefined ? attempt : told(attempt, n, startedAt, onAttempt)
  })

/** Captures what can be had of a body before `until` (monotonic milliseconds), and within the usual bounds. */
const captureWithin = (response: HttpClientResponse.HttpClientResponse, until: number): Effect.Effect<Body.Body> =>
  Effect.flatMap(monotonicNow, (now) =>
    Body.capture(response, { ...defaults.capture, time: Math.min(captureTime, until - now) }))

const told = <A extends Pick<Head, "headers" | "status">>(
  attempt: Effect.Effect<A, Errors.ResilientHttpClientError>,
  n: number,
  startedAt: number,
  onAttempt: NonNullable<ExecuteHeadOptions["onAttempt"]>
): Effect.Effect<A, Errors.ResilientHttpClientError> =>
  Effect.onExit(attempt, (exit) =>
    Effect.flatMap(monotonicNow, (now) => onAttempt({ attempt: n, duration: now - startedAt, exit })))

const captureTime = Duration.toMillis(defaults.capture.time)

/** W3C Trace Context; absent when tracing is off. */
const traceParent = (span: Tracer.Span): { readonly traceparent?: string } =>
  span.traceId.length === 32
    ? { traceparent: `00-${span.traceId}-${span.spanId}-${span.sampled ? "01" : "00"}` }
    : {}

const presentable = (
  error: HttpClientError.HttpClientError,
  request: HttpClientRequest.HttpClientRequest,
  n: number
): HttpClientError.HttpClientError =>
  error._tag === "RequestError" && error.reason !== "Transport"
    ? Errors.requestError(request, error.reason, undefined, n)
    : Errors.requestError(request, "Transport", TransportFailure.fromCause(error.cause), n)

const statusOf = (last: unknown): number | undefined =>
  typeof last === "object" && last !== null && "status" in last && typeof last.status === "number"
    ? last.status
    : undefined
