/**
 * What an attempt gave, and what that means for a retry and for the breaker.
 */
import type * as Headers from "@effect/platform/Headers"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Circuit from "../Circuit.js"
import { CircuitOpen } from "../CircuitBreakers.js"
import { AttemptTimeout, DeadlineExceeded, ResponseTooLarge, transportFailure } from "../ResilientHttpClientError.js"
import * as RetryAfter from "../RetryAfter.js"
import * as TransportFailure from "../TransportFailure.js"
import type { Repeatable } from "./retrying.js"

/** A complete head and what was read of its body. */
export interface Answer {
  readonly request: HttpClientRequest.HttpClientRequest
  /** The number of the attempt that it answers. */
  readonly attempts: number
  readonly status: number
  readonly headers: Headers.Headers
  readonly body: Uint8Array
  readonly complete: boolean
}

/** Whether a status tells of a passing condition (the design's table; RFC 9110 §15, RFC 6585 §4, RFC 8470 §5.2). */
export const isPassing = (status: number): boolean => passingStatuses.has(status)

export const isOk = (answer: { readonly status: number }): boolean => answer.status >= 200 && answer.status < 300

/** What an answer means for the retry loop at `now` (milliseconds since the epoch); `undefined`: it is final. */
export const judgeAnswer = (answer: Answer, now: number): Repeatable | undefined =>
  isPassing(answer.status)
    ? {
      retryable: isRepeatable(answer.request),
      refused: false,
      atOnce: false,
      retryAfter: RetryAfter.parse(answer.headers["retry-after"], now)
    }
    : undefined

/** What a failed attempt means for the retry loop; `request` is the last one that was made, if any. */
export const judgeFailure = (
  error: unknown,
  request: HttpClientRequest.HttpClientRequest | undefined
): Repeatable => {
  // A refused call made no request, so whatever it was may be asked again.
  if (error instanceof CircuitOpen) {
    return {
      retryable: Duration.isFinite(error.retryAfter),
      refused: true,
      atOnce: false,
      retryAfter: Duration.toMillis(error.retryAfter)
    }
  }
  const failure = transportFailure(error)
  const transient = failure !== undefined || error instanceof AttemptTimeout
  return {
    retryable: transient && (failure?.neverLeft === true || (request !== undefined && isRepeatable(request))),
    refused: false,
    atOnce: failure?.stale === true,
    retryAfter: undefined
  }
}

/**
 * What the end of an attempt says of the other side, for its breaker. Time that ran out counts against it, unless it had hardly any or was
 * never asked (`noVerdict`).
 */
export const judgeExit = (exit: Exit.Exit<Answer, unknown>, noVerdict: boolean): Circuit.Result => {
  if (exit._tag === "Success") return isPassing(exit.value.status) ? "Failure" : "Success"
  const error = Option.getOrUndefined(Cause.failureOption(exit.cause))
  if (error instanceof DeadlineExceeded || error instanceof AttemptTimeout) return noVerdict ? "Neutral" : "Failure"
  const failure = transportFailure(error)
  // That a peer closes connections that nobody uses is no fault of it.
  if (failure !== undefined) return failure.stale === true ? "Neutral" : "Failure"
  return error instanceof ResponseTooLarge ? "Success" : "Neutral"
}

/** An answer or a failure in a few words, none of them the peer's. */
export const describe = (last: unknown): string => {
  if (typeof last !== "object" || last === null) return "failure"
  if ("status" in last && typeof last.status === "number") return `status ${last.status}`
  const failure = transportFailure(last)
  if (failure !== undefined) return TransportFailure.describe(failure)
  if (HttpClientError.isHttpClientError(last)) return last.reason
  return "_tag" in last && typeof last._tag === "string" ? last._tag : "failure"
}

// --- internal

const passingStatuses: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504])

/** Methods that may be repeated (RFC 9110 §9.2.2), and requests that say so themselves. */
const isRepeatable = (request: HttpClientRequest.HttpClientRequest): boolean =>
  idempotentMethods.has(request.method) || "webhook-id" in request.headers || "idempotency-key" in request.headers

const idempotentMethods: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
