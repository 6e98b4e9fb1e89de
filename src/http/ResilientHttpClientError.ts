/**
 * How a call of the resilient client fails. Each error says how many requests were made and to which URL: scheme, host, port and path, never
 * userinfo or query.
 */
import type * as Headers from "@effect/platform/Headers"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import type { CircuitOpen } from "./CircuitBreakers.js"
import * as Urls from "./internal/urls.js"
import * as TransportFailure from "./TransportFailure.js"

const call = {
  /** Scheme, host, port and path. */
  url: Schema.String,
  /** Requests made in this call. */
  attempts: Schema.Number
}

/** One attempt took longer than the attempt timeout; retries, if any, ended the same way. */
export class AttemptTimeout
  extends Schema.TaggedError<AttemptTimeout>("effect-webhooks/AttemptTimeout")("AttemptTimeout", {
    ...call,
    timeout: Schema.DurationFromSelf
  })
{
  override get message(): string {
    return `${this.url} gave no answer within ${Duration.format(this.timeout)}; attempts made: ${this.attempts}`
  }
}

/** The deadline of the whole call passed while an attempt was under way or waited for a free slot. */
export class DeadlineExceeded extends Schema.TaggedError<DeadlineExceeded>("effect-webhooks/DeadlineExceeded")(
  "DeadlineExceeded",
  { ...call, deadline: Schema.DurationFromSelf }
) {
  override get message(): string {
    return `the deadline of ${Duration.format(this.deadline)} for ${this.url} passed; attempts made: ${this.attempts}`
  }
}

/** A retry was due but the key's retry budget is used up; nothing was waited for. `reason` is the failure that was to be retried. */
export class RetryBudgetExhausted
  extends Schema.TaggedError<RetryBudgetExhausted>("effect-webhooks/RetryBudgetExhausted")("RetryBudgetExhausted", {
    ...call,
    key: Schema.String,
    reason: Schema.String,
    /** Status of the last answer, if there was one. */
    status: Schema.optional(Schema.Number)
  })
{
  override get message(): string {
    return `the retry budget of ${this.key} is used up, not retrying ${this.url} (${this.reason}); attempts made: ${this.attempts}`
  }
}

/**
 * The egress policy doesn't let requests go there: no connection was opened and nothing was sent. Never retried by the client, and no matter of a breaker. Which
 * addresses a name had stays in the operator's log.
 */
export class EgressBlocked extends Schema.TaggedError<EgressBlocked>("effect-webhooks/EgressBlocked")("EgressBlocked", {
  /** Host name or address literal of the URL; empty: it has none. */
  host: Schema.String,
  /** Why, as in `EgressPolicy.Decision`. */
  rule: Schema.String,
  /** `url`: what the URL says is refused, today and tomorrow. `name`: an address that the name resolves to at present. */
  by: Schema.Literal("name", "url")
}) {
  override get message(): string {
    return this.by === "url"
      ? `requests to ${this.host || "no host"} are blocked by the egress policy (${this.rule})`
      : `requests to ${this.host} are blocked by the egress policy: it resolves to an address that is not allowed (${this.rule})`
  }
}

/** A successful answer's body is longer than the client takes; it was not read further and the connection was closed. */
export class ResponseTooLarge extends Schema.TaggedError<ResponseTooLarge>("effect-webhooks/ResponseTooLarge")(
  "ResponseTooLarge",
  { ...call, maxBytes: Schema.Number }
) {
  override get message(): string {
    return `${this.url} answered with a body of more than ${this.maxBytes} bytes; attempts made: ${this.attempts}`
  }
}

/**
 * All that a call may fail with. Platform's `RequestError` and `ResponseError` come without the request's headers, body, query and userinfo; a
 * `ResponseError` holds the answer as the peer gave it, and a `RequestError`'s `cause` is a `TransportFailure`.
 */
export type ResilientHttpClientError =
  | AttemptTimeout
  | CircuitOpen
  | DeadlineExceeded
  | EgressBlocked
  | HttpClientError.HttpClientError
  | ResponseTooLarge
  | RetryBudgetExhausted

/**
 * Scheme, host, port and path of an http or https URL, of another the scheme alone or `(not an http URL)`; what is no URL becomes `(invalid URL)`.
 */
export const safeUrl = (url: string): string => Urls.parse(url)?.safe ?? "(invalid URL)"

/** The same without the path: the key of breaker, budget and slots when no other is set. */
export const originOf = (url: string): string => Urls.parse(url)?.safeOrigin ?? "(invalid URL)"

/** The transport failure inside an error of this client, if it has one. */
export const transportFailure = (error: unknown): TransportFailure.TransportFailure | undefined =>
  HttpClientError.isHttpClientError(error) && error._tag === "RequestError" && isTransportFailure(error.cause)
    ? error.cause
    : undefined

/** The refusal inside the error of a client whose dispatcher guards, if that is what it is. */
export const egressBlocked = (error: HttpClientError.HttpClientError): EgressBlocked | undefined =>
  error._tag === "RequestError" && error.cause instanceof EgressBlocked ? error.cause : undefined

/** A `RequestError` that carries no header, no body, no query and no text of another program. */
export const requestError = (
  request: HttpClientRequest.HttpClientRequest,
  reason: HttpClientError.RequestError["reason"],
  failure: TransportFailure.TransportFailure | undefined,
  attempts: number
): HttpClientError.RequestError =>
  new HttpClientError.RequestError({
    request: safeRequest(request),
    reason,
    description: `${
      failure !== undefined
        ? TransportFailure.describe(failure)
        : reason === "InvalidUrl"
        ? "not a valid URL"
        : "the body could not be encoded"
    }; attempts made: ${attempts}`,
    cause: failure
  })

/**
 * A `ResponseError` for an answer: its status, headers and (bounded) body stay readable, the request's secrets don't. Where the error is shown, the answer shows
 * its status alone: receivers like to repeat what they were sent.
 */
export const responseError = (
  request: HttpClientRequest.HttpClientRequest,
  answer: { readonly status: number; readonly headers: Headers.Headers; readonly body: Uint8Array },
  attempts: number,
  reason: HttpClientError.ResponseError["reason"] = "StatusCode"
): HttpClientError.HttpClientError => {
  const response = toResponse(safeRequest(request), answer)
  return response === undefined
    ? requestError(request, "Transport", { kind: "protocol", code: undefined, neverLeft: false }, attempts)
    : new HttpClientError.ResponseError({
      request: response.request,
      response: Object.defineProperty(response, "toJSON", {
        value: () => ({ _id: "HttpClientResponse", request: response.request.toJSON(), status: response.status })
      }),
      reason,
      description: `attempts made: ${attempts}`
    })
}

/** A response over bytes that are in memory; `undefined` for a status that is no final HTTP status (outside 200 to 599). */
export const toResponse = (
  request: HttpClientRequest.HttpClientRequest,
  answer: { readonly status: number; readonly headers: Headers.Headers; readonly body: Uint8Array }
): HttpClientResponse.HttpClientResponse | undefined => {
  if (answer.status < 200 || answer.status > 599) return undefined
  const bodiless = answer.status === 204 || answer.status === 205 || answer.status === 304
  return HttpClientResponse.fromWeb(
    request,
    new Response(bodiless || answer.body.length === 0 ? null : answer.body, {
      status: answer.status,
      headers: answer.headers
    })
  )
}

// --- internal

const safeRequest = (request: HttpClientRequest.HttpClientRequest): HttpClientRequest.HttpClientRequest =>
  HttpClientRequest.make(request.method)(safeUrl(request.url))

const isTransportFailure = (cause: unknown): cause is TransportFailure.TransportFailure =>
  typeof cause === "object" && cause !== null && "kind" in cause && "neverLeft" in cause
