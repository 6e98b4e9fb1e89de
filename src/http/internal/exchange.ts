/**
 * One HTTP request and its answer: the innermost layer of a call, in a span and within the time that it has.
 */
import type * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import { globalValue } from "effect/GlobalValue"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import * as CorrelationId from "../../CorrelationId.js"
import { defaults } from "../../Defaults.js"
import * as FiberClock from "../../FiberClock.js"
import { isInterrupted } from "../../Masking.js"
import * as Spans from "../../Spans.js"
import type { Within } from "../../Surroundings.js"
import * as Errors from "../ResilientHttpClientError.js"
import * as TransportFailure from "../TransportFailure.js"
import type * as Answers from "./answers.js"
import { currentAttempt } from "./currentAttempt.js"
import * as Deadlines from "./deadlines.js"
import type { ExecuteHeadOptions } from "./model.js"
import type * as Transport from "./transport.js"

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
  Effect.withFiberRuntime((fiber) => apartOf(fiber, effect))

/** The same in a fiber that is at hand. */
export const apartOf = <A, E, R>(
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Option.isNone(fiber.getFiberRef(currentKey)) && Option.isNone(fiber.getFiberRef(currentSingle))
    ? effect
    : Effect.locally(Effect.locally(effect, currentKey, Option.none()), currentSingle, Option.none())

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
  /** When the last attempt began, in its slot: monotonic milliseconds. */
  startedAt: number
  /** Whether the deadline left the last attempt so little time that its end says nothing of the other side. */
  cutShort: boolean
  readonly onHead: ExecuteHeadOptions["onHead"]
  /** Most bytes of a 2xx answer's body, where the whole of it must come with the answer. */
  readonly whole: number | undefined
  /** Whether the request is made without waiting for anything. */
  readonly prompt: boolean
  /** Of the attempts' spans; `undefined`: the fiber's. */
  readonly parent: Tracer.AnySpan | undefined
  readonly within: Within
  /** Makes interruptible what waits, where the caller isn't. */
  readonly restore: Within
}

/** The number of the attempt that is made next, or that is under way and has made no request yet. */
export const numberOf = (call: Call): number => call.earlier + call.attempts + 1

/** Why a call failed whose deadline has passed. */
export const deadlineExceeded = (call: Call): Errors.DeadlineExceeded =>
  new Errors.DeadlineExceeded({
    url: Errors.safeUrl(call.url ?? ""),
    attempts: call.attempts,
    deadline: call.deadline
  })

/** What stays the same for all calls of a client. */
export interface Settings {
  readonly transport: Transport.Transport
  /** In lower case. */
  readonly correlationHeader: string
}

/** One request and its answer. */
export const exchange = <E, R>(
  settings: Settings,
  call: Call,
  request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>
): Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R> =>
  Spans.around(
    "ResilientHttpClient.attempt",
    {
      kind: "client",
      parent: call.parent,
      attributes: { "http.request.resend_count": numberOf(call) - 1 }
    },
    (span, fiber) =>
      // Nobody waits for it any more: an attempt is one for which a request was made.
      isInterrupted(fiber) ? Effect.interrupt : answered(settings, call, request, span, FiberClock.of(fiber))
  )

// --- internal

const answered = <E, R>(
  settings: Settings,
  call: Call,
  request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>,
  span: Tracer.Span,
  clock: Clock.Clock
): Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R> => {
  const startedAt = Deadlines.monotonic(clock)
  const own = Duration.toMillis(call.attemptTimeout)
  const left = Math.max(0, call.deadlineAt - startedAt)
  const time = Math.min(own, left)
  call.startedAt = startedAt
  call.cutShort = left < Math.min(own, Duration.toMillis(call.deadline)) / 2
  const outOfTime = () =>
    own <= left
      ? new Errors.AttemptTimeout({
        url: Errors.safeUrl(call.url ?? ""),
        attempts: call.attempts,
        timeout: call.attemptTimeout
      })
      : deadlineExceeded(call)
  const made = call.prompt
    ? request
    // It is interrupted, as time runs out, even where the caller can't be.
    : Effect.interruptible(
      Deadlines.within(Effect.locally(apart(request), currentAttempt, numberOf(call)), time, outOfTime)
    )
  return Effect.flatMap(made, (made) => send(settings, call, made, span, clock, startedAt, time, outOfTime))
}

/** Sends a request and waits for the answer. */
const send = (
  settings: Settings,
  call: Call,
  made: HttpClientRequest.HttpClientRequest,
  span: Tracer.Span,
  clock: Clock.Clock,
  startedAt: number,
  time: number,
  outOfTime: () => Errors.AttemptTimeout | Errors.DeadlineExceeded
): Effect.Effect<Answers.Answer, Errors.ResilientHttpClientError> => {
  const n = call.attempts + 1
  // A request may bring an id of its own, if it is one.
  const own = made.headers[settings.correlationHeader]
  const correlationId = own !== undefined && CorrelationId.isValid(own) ? own : call.correlationId
  call.attempts = n
  call.request = made
  call.url = made.url
  span.attribute("http.request.method", made.method)
  span.attribute("server.address", Errors.originOf(made.url))
  span.attribute("url.full", Errors.safeUrl(made.url))
  span.attribute("correlationId", correlationId)
  const replied = settings.transport(made, {
    clock,
    headers: { [settings.correlationHeader]: correlationId, ...traceParent(span) },
    // Lengths that recur share a queue: that of a request that took no time to make is the whole.
    time: call.prompt ? time : Math.max(0, startedAt + time - Deadlines.monotonic(clock)),
    whole: call.whole,
    capture,
    attempt: call.earlier + n,
    correlationId,
    within: call.within,
    onHead: (status, headers) => {
      span.attribute("http.response.status_code", status)
      call.answer = { request: made, attempts: n, status, headers, body: noBytes, complete: false }
      call.onHead?.(call.answer)
    }
  })
  return Effect.matchEffect(replied, {
    onSuccess: ({ bytes, complete, headers, status }) => {
      call.answer = { request: made, attempts: n, status, headers, body: bytes, complete }
      return Effect.succeed(call.answer)
    },
    onFailure: (error): Effect.Effect<Answers.Answer, Errors.ResilientHttpClientError> => {
      // The time may be over in the very moment of the answer: what counts is the answer.
      if (call.answer !== undefined) return Effect.succeed(call.answer)
      if (error === "OutOfTime") return Effect.failSync(outOfTime)
      if (error === "TooLarge") {
        return Effect.fail(
          new Errors.ResponseTooLarge({ url: Errors.safeUrl(made.url), attempts: n, maxBytes: call.whole ?? 0 })
        )
      }
      const blocked = Errors.egressBlocked(error)
      if (blocked === undefined) return Effect.fail(presentable(error, made, n))
      // No request was made of it.
      call.attempts = n - 1
      return Effect.fail(blocked)
    }
  })
}

const noBytes = new Uint8Array()

const capture = { ...defaults.capture, time: Duration.toMillis(defaults.capture.time) }

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
