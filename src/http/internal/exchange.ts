/**
 * One HTTP request and its answer: the innermost layer of a call, in a span and within the attempt timeout.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Tracer from "effect/Tracer"
import { defaults } from "../../Defaults.js"
import * as Errors from "../ResilientHttpClientError.js"
import * as TransportFailure from "../TransportFailure.js"
import * as Answers from "./answers.js"
import * as Body from "./body.js"
import type { ExecuteHeadOptions, Head } from "./model.js"
import { monotonicNow } from "./monotonic.js"

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

/** One request and its answer, in a span. */
export const exchange = (
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
      Effect.flatMap(() =>
        answer === undefined ? Effect.dieMessage("an attempt ended without answer") : Effect.succeed(answer)
      )
    )
  })

/** What surrounds an exchange. */
export interface Exchange {
  readonly n: number
  readonly timeout: Duration.Duration
  readonly correlationHeader: string
  readonly correlationId: string
  readonly onAttempt: ExecuteHeadOptions["onAttempt"]
}

// --- internal

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
      Effect.flatMap((response) =>
        Effect.map(read(response, url, n), (body) => ({ response, body }))
      ),
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
  Effect.flatMap(
    monotonicNow,
    (now) => Body.capture(response, { ...defaults.capture, time: Math.min(captureTime, until - now) })
  )

const told = <A extends Pick<Head, "headers" | "status">>(
  attempt: Effect.Effect<A, Errors.ResilientHttpClientError>,
  n: number,
  startedAt: number,
  onAttempt: NonNullable<ExecuteHeadOptions["onAttempt"]>
): Effect.Effect<A, Errors.ResilientHttpClientError> =>
  Effect.onExit(
    attempt,
    (exit) => Effect.flatMap(monotonicNow, (now) => onAttempt({ attempt: n, duration: now - startedAt, exit }))
  )

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
