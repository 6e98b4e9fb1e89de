/**
 * What an attempt or a delivery came to: one pure classifier of status, headers and error, for every path.
 */
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as Circuit from "../http/Circuit.js"
import { CircuitOpen } from "../http/CircuitBreakers.js"
import { isPassing } from "../http/internal/answers.js"
import * as Client from "../http/ResilientHttpClient.js"
import * as RetryAfter from "../http/RetryAfter.js"

/**
 * Why a delivery failed:
 *
 * - `connect`, `dns`, `tls`: no connection came about; `connection`: it broke; `protocol`: what came was not valid HTTP;
 * - `timeout`: no answer in time;
 * - `http-status`: an answer other than 2xx, 3xx or 410; `redirect`: a 3xx, which is never followed; `gone`: 410;
 * - `blocked`: the endpoint's URL may not be used; nothing was sent;
 * - `circuit-open`: the endpoint's breaker refused; `budget`: its retry budget is used up;
 * - `interrupted`: the program stopped it.
 */
export type FailureClass =
  | "blocked"
  | "budget"
  | "circuit-open"
  | "connect"
  | "connection"
  | "dns"
  | "gone"
  | "http-status"
  | "interrupted"
  | "protocol"
  | "redirect"
  | "timeout"
  | "tls"

/** `delivered`: a complete 2xx head came. `failed`: it may work another time. `rejected`: it can't be sent as it is. */
export type OutcomeName = "delivered" | "failed" | "rejected"

/** The meaning of one answer or error. */
export interface Outcome {
  readonly outcome: OutcomeName
  /** Absent when delivered. */
  readonly class: FailureClass | undefined
  readonly status: number | undefined
  /** Milliseconds that the receiver asked us to wait, if it did. */
  readonly retryAfter: number | undefined
  /** What the receiver asked for with `webhook-delivery` on an answer other than 2xx; the direct path ignores it. */
  readonly directive: "abort-message" | "disable" | undefined
}

/** Classifies a complete head. `now`: milliseconds since the epoch. */
export const fromHead = (
  head: { readonly status: number; readonly headers: Readonly<Record<string, string | undefined>> },
  now: number
): Outcome => {
  const { headers, status } = head
  if (status >= 200 && status < 300) {
    return { outcome: "delivered", class: undefined, status, retryAfter: undefined, directive: undefined }
  }
  const directive = headers["webhook-delivery"]
  return {
    outcome: "failed",
    class: status < 100 || status > 599
      ? "protocol"
      : status === 410
      ? "gone"
      : status >= 300 && status < 400
      ? "redirect"
      : "http-status",
    status,
    retryAfter: RetryAfter.parse(headers["retry-after"], now),
    directive: directive === "abort-message" || directive === "disable" ? directive : undefined
  }
}

/** Classifies a failure of the client; an error of another kind means that nothing could be sent. */
export const fromError = (error: unknown): Outcome => {
  if (error instanceof Client.AttemptTimeout || error instanceof Client.DeadlineExceeded) return failed("timeout")
  if (error instanceof CircuitOpen) return failed("circuit-open")
  if (error instanceof Client.EgressBlocked) return blocked
  if (error instanceof Client.RetryBudgetExhausted) return { ...failed("budget"), status: error.status }
  const failure = Client.transportFailure(error)
  if (failure !== undefined) return failed(failure.kind)
  return HttpClientError.isHttpClientError(error) && error.reason === "InvalidUrl"
    ? blocked
    : { ...nothing, outcome: "rejected" }
}

/** The program stopped the attempt or the delivery. */
export const interrupted: Outcome = {
  outcome: "failed",
  class: "interrupted",
  status: undefined,
  retryAfter: undefined,
  directive: undefined
}

/**
 * What a single attempt says of the other side, for its circuit: an answer is a success, be it a refusal of the content, unless its status tells of a
 * passing condition (408 425 429 500 502 503 504); a connection that failed or time that ran out is a failure; all else, such as an
 * interruption, says nothing. A report can be given as it is: without a request (`attempts` 0) it says nothing either.
 */
export const forCircuit = (
  outcome: Pick<Outcome, "class" | "outcome" | "status"> & { readonly attempts?: number | undefined }
): Circuit.Result => {
  if (outcome.attempts === 0) return "Neutral"
  switch (outcome.class) {
    case undefined:
      return outcome.outcome === "delivered" ? "Success" : "Neutral"
    case "blocked":
    case "budget":
    case "circuit-open":
    case "interrupted":
      return "Neutral"
    default:
      return outcome.status === undefined || isPassing(outcome.status) ? "Failure" : "Success"
  }
}

// --- internal

const nothing = { class: undefined, status: undefined, retryAfter: undefined, directive: undefined } as const

const failed = (failureClass: FailureClass): Outcome => ({ ...nothing, outcome: "failed", class: failureClass })

const blocked: Outcome = { ...failed("blocked"), outcome: "rejected" }
