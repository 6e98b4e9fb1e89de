/**
 * One HTTP request and its answer: the innermost layer of a call, in a span and within the time that it has.
 */
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import { constTrue } from "effect/Function"
import { globalValue } from "effect/GlobalValue"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import * as CorrelationId from "../../CorrelationId.js"
import { defaults } from "../../Defaults.js"
import * as Errors from "../ResilientHttpClientError.js"
import * as TransportFailure from "../TransportFailure.js"
import * as Answers from "./answers.js"
import * as Body from "./body.js"
import type { ExecuteHeadOptions } from "./model.js"
import { monotonicNow } from "./monotonic.js"

/** The key set by `withKey`. */
export const currentKey: FiberRef.FiberRef<Option.Option<string>> = globalValue(
  "effect-webhooks/ResilientHttpClient/currentKey",
  () => FiberRef.unsafeMake(Option.none<string>(), { join: (parent) => parent })
)

/** The number of the one attempt that each call makes, set by `withSingleAttempt`. */
export const currentSingle: FiberRef.FiberRef<Option.Option<number>> = globalValue(
  "effect-webhooks/ResilientHttpClient/currentSingle",
  () => FiberRef.unsafeMake(Option.none<number>(), { join: (parent) => parent })
)

/** Runs what a caller hands in for a call: calls that it makes itself go by neither the key nor the single attempt of this one. */
export const apart = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.locally(Effect.locally(effect, currentKey, Option.none()), currentSingle, Option.none())

/** What is known of a call so far, and what bounds it. */
export interface Call {
  /** Whether this is one attempt of the caller's own counting: no retry, no breaker, no budget. */
  readonly single: boolean
  /** Attempts made before this call. */
  readonly earlier: number
  readonly correlationId: string
  readonly attemptTimeout: Duration.Duration
  readonly deadline: Duration.Duration
  /** When the deadline passes: monotonic milliseconds. */
  readonly deadlineAt: number
  key: string | undefined
  url: string | undefined
  /** Requests made. */
  attempts: number
  /** The last request that was made. */
  request: HttpClientRequest.HttpClientRequest | undefined
  /** The answer to it, from the moment that its head is complete: nothing that happens after that can undo it. */
  answer: Answers.Answer | undefined
  /** The response whose body still waits to be read. */
  response: HttpClientResponse.HttpClientResponse | undefined
  /** When the last attempt began, in its slot: monotonic milliseconds. */
  startedAt: number
  /** Whether the deadline left the last attempt so little time that its end says nothing of the other side. */
  cutShort: boolean
  readonly onHead: ExecuteHeadOptions["onHead"]
}

/** Why a call failed whose deadline has passed. */
export const deadlineExceeded = (call: Call): Errors.DeadlineExceeded =>
  new Errors.DeadlineExceeded({
    url: Errors.safeUrl(call.url ?? ""),
    attempts: call.attempts,
    deadline: call.deadline
  })

/** Reads what must be read within the attempt; what it leaves is captured afterwards. */
export type Read = (
  response: HttpClientResponse.HttpClientResponse,
  url: string,
  n: number
) => Effect.Effect<Body.Body | undefined, HttpClientError.ResponseError | Errors.ResponseTooLarge>

/** Leaves the body for later. */
export const readHead: Read = () => Effect.succeed(undefined)

/** Takes the whole body of a 2xx answer. */
export const readWhole: Read = (response, url, n) =>
  Answers.isOk(response)
    ? Effect.flatMap(Body.buffer(response, defaults.maxResponseBytes), (body) =>
      body.complete
        ? Effect.succeed(body)
        : Effect.fail(new Errors.ResponseTooLarge({ url, attempts: n, maxBytes: defaults.maxResponseBytes })))
    : Effect.succeed(undefined)

/** What stays the same for all calls of a client. */
export interface Settings {
  readonly inner: HttpClient.HttpClient
  /** In lower case. */
  readonly correlationHeader: string
}

/** One request and its answer. */
export const exchange = <E, R>(
  settings: Settings,
  call: Call,
  read: Read,
  request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>
): Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R> =>
  Effect.suspend(() => {
    let answer: Answers.Answer | undefined
    return Effect.useSpan(
      "ResilientHttpClient.attempt",
      {
        kind: "client",
        captureStackTrace: false,
        attributes: { "http.request.resend_count": call.earlier + call.attempts }
      },
      (span) =>
        // A span keeps the value that it ends with, and an answer may echo secrets: so it ends with none.
        Effect.map(answered(settings, call, read, request, span), (received) => {
          answer = received
        })
    ).pipe(
      Effect.flatMap(() =>
        answer === undefined ? Effect.dieMessage("an attempt ended without answer") : Effect.succeed(answer)
      )
    )
  })

// --- internal

const answered = <E, R>(
  settings: Settings,
  call: Call,
  read: Read,
  request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>,
  span: Tracer.Span
): Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R> =>
  Effect.flatMap(monotonicNow, (startedAt) => {
    const own = Duration.toMillis(call.attemptTimeout)
    const left = Math.max(0, call.deadlineAt - startedAt)
    call.startedAt = startedAt
    call.cutShort = left < Math.min(own, Duration.toMillis(call.deadline)) / 2
    return apart(request).pipe(
      Effect.flatMap((made) => send(settings, call, read, made, span)),
      // Time runs out even where the caller can't be interrupted.
      Effect.interruptible,
      Effect.timeoutFail({
        duration: Duration.millis(Math.min(own, left)),
        onTimeout: () =>
          own <= left
            ? new Errors.AttemptTimeout({
              url: Errors.safeUrl(call.url ?? ""),
              attempts: call.attempts,
              timeout: call.attemptTimeout
            })
            : deadlineExceeded(call)
      }),
      // The timer may fire in the very moment of the answer: what counts is the answer.
      Effect.catchAll((error) => call.answer === undefined ? Effect.fail(error) : Effect.succeed(call.answer)),
      Effect.flatMap((answer) =>
        call.response === undefined
          ? Effect.succeed(answer)
          : captureInto(answer, call.response, startedAt + Math.min(own, left))
      ),
      Effect.map((answer) => {
        call.answer = answer
        call.response = undefined
        return answer
      }),
      Effect.ensuring(Effect.suspend(() => {
        const unread = call.response
        call.response = undefined
        return unread === undefined ? Effect.void : Body.discard(unread)
      }))
    )
  })

/** Sends a request and waits for the complete head of the answer, and for what `read` wants of the body. */
const send = (
  settings: Settings,
  call: Call,
  read: Read,
  made: HttpClientRequest.HttpClientRequest,
  span: Tracer.Span
): Effect.Effect<Answers.Answer, Errors.ResilientHttpClientError> => {
  const n = call.attempts + 1
  const url = Errors.safeUrl(made.url)
  // A request may bring an id of its own, if it is one.
  const own = made.headers[settings.correlationHeader]
  const correlationId = own !== undefined && CorrelationId.isValid(own) ? own : call.correlationId
  call.attempts = n
  call.request = made
  call.url = made.url
  span.attribute("http.request.method", made.method)
  span.attribute("server.address", Errors.originOf(made.url))
  span.attribute("url.full", url)
  span.attribute("correlationId", correlationId)
  const request = HttpClientRequest.setHeaders(made, {
    [settings.correlationHeader]: correlationId,
    ...traceParent(span)
  })
  return settings.inner.execute(request).pipe(
    // The client below would put the whole URL and all headers into a span of its own, and its texts into the log of a fiber that fails.
    Effect.locally(HttpClient.currentTracerDisabledWhen, constTrue),
    Effect.withUnhandledErrorLogLevel(Option.none()),
    // A client that filters statuses by itself gives the answer inside an error.
    Effect.catchTag(
      "ResponseError",
      (error) => error.reason === "StatusCode" ? Effect.succeed(error.response) : Effect.fail(error)
    ),
    Effect.flatMap((response) =>
      Effect.map(read(response, url, n), (body) => {
        const answer: Answers.Answer = {
          request,
          attempts: n,
          status: response.status,
          headers: response.headers,
          body: body?.bytes ?? new Uint8Array(),
          complete: body?.complete ?? false
        }
        span.attribute("http.response.status_code", response.status)
        call.answer = answer
        call.response = body === undefined ? response : undefined
        call.onHead?.(answer)
        return answer
      })
    ),
    Effect.mapError((error) => {
      if (error instanceof Errors.ResponseTooLarge) return error
      const blocked = Errors.egressBlocked(error)
      if (blocked === undefined) return presentable(error, request, n)
      // No request was made of it.
      call.attempts = n - 1
      return blocked
    })
  )
}

/** The answer with what can be had of its body before `until` (monotonic milliseconds), and within the usual bounds. */
const captureInto = (
  answer: Answers.Answer,
  response: HttpClientResponse.HttpClientResponse,
  until: number
): Effect.Effect<Answers.Answer> =>
  Effect.flatMap(monotonicNow, (now) =>
    Effect.map(
      Body.capture(response, { ...defaults.capture, time: Math.min(captureTime, until - now) }),
      ({ bytes, complete }) => ({ ...answer, body: bytes, complete })
    ))

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
