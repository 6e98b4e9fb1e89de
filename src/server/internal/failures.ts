/**
 * From whatever went wrong to the answer that says so, in our own words: the texts of schemas, drivers and defects hold what was sent, or worse.
 */
import { HttpApiDecodeError } from "@effect/platform/HttpApiError"
import { RouteNotFound } from "@effect/platform/HttpServerError"
import * as Cause from "effect/Cause"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import type * as Deliveries from "../../outbox/Deliveries.js"
import type * as EndpointHealth from "../../outbox/EndpointHealth.js"
import type * as Outbox from "../../outbox/Outbox.js"
import { formatPath } from "../../webhooks/internal/encodeTree.js"
import { ApiError } from "../ApiError.js"

/** What the services below fail with. */
export type ServiceError =
  | Outbox.EnqueueError
  | Deliveries.MessageNotFound
  | Deliveries.DeliveryNotFound
  | Deliveries.InvalidCursor
  | Deliveries.DeliveryEnded
  | Deliveries.DeliveryLeased
  | Deliveries.RecoveryUnderWay
  | EndpointHealth.EndpointNotFound
  | EndpointHealth.EndpointDisabled

/** What the API itself fails with. */
export type Foreseen = ApiError | HttpApiDecodeError | RouteNotFound

/** The answer to a failure of a service. `at` is where in the body the failing event stands. */
export const fromService = (error: ServiceError, at = ""): ApiError => {
  switch (error._tag) {
    case "OutboxUnavailable":
      // About what was sent: a rule of the host's own schema, which the same again would meet again.
      if (error.reason === "constraint") {
        return new ApiError({ ...refusedByDatabase, ...(at === "" ? {} : { path: at }) })
      }
      return new ApiError({
        status: 503,
        code: "database_unavailable",
        message: unavailable[error.reason] ?? "the database does not take it; try again later",
        headers: { "retry-after": "5" }
      })
    case "InvalidEvent":
      return refusal(error.problem, joined(at, error.path))
    case "UnserializableEvent":
      return refusal(error.problem, joined(at, error.path))
    case "InvalidIdempotencyKey":
      return shape("idempotency-key")
    case "PayloadTooLarge":
      return new ApiError({
        status: 413,
        code: "payload_too_large",
        message:
          `the event takes ${error.bytes} bytes or more and ${error.limit} are allowed; send a link in place of the content`,
        ...(at === "" ? {} : { path: at })
      })
    case "IdempotencyConflict":
      return new ApiError({
        status: 409,
        code: "idempotency_conflict",
        message:
          `${
            error.by === "id" ? "the event's id" : "the idempotency key"
          } has been used before, for an event of another type or ` +
          "content; nothing was stored. Use a new one for a new event",
        path: error.by === "id" ? joined(at, "id") : at === "" ? "Idempotency-Key" : at
      })
    case "MessageNotFound":
      return notFound("message")
    case "DeliveryNotFound":
      return notFound("delivery")
    case "EndpointNotFound":
      return notFound("endpoint")
    case "InvalidCursor":
      return shape("cursor")
    case "DeliveryEnded":
      return conflict("delivery_ended", "the delivery has ended, so there is nothing to take back")
    case "DeliveryLeased":
      return conflict("delivery_leased", "an attempt of the delivery is under way; ask again when it has ended")
    case "EndpointDisabled":
      return conflict("endpoint_disabled", "the endpoint is disabled; enable it first")
    case "RecoveryUnderWay":
      return conflict(
        "recovery_under_way",
        "another recovery of the endpoint is under way; ask again when it has ended"
      )
  }
}

/** The answer to a value of the wrong shape, by the first thing that is wrong with it. */
export const fromIssues = (issues: ReadonlyArray<Pick<ParseResult.ArrayFormatterIssue, "_tag" | "path">>): ApiError => {
  const [issue] = issues
  const names = issue?.path ?? []
  const name = String(names.at(-1) ?? "")
  // Names are the sender's: `constructor`, say.
  const resource = Object.hasOwn(resources, name) ? resources[name] : undefined
  if (resource !== undefined) return notFound(resource)
  if (issue?._tag === "Missing") return refusal("is missing", at(names))
  if (issue?._tag === "Unexpected") return refusal("is not known here", at(names))
  return shape(name)
}

/** As `fromIssues`, of a schema's own error. */
export const fromParseError = (error: ParseResult.ParseError): ApiError =>
  fromIssues(ParseResult.ArrayFormatter.formatErrorSync(error))

/** The answer to whatever made a request fail; `undefined` if that is a fault that nobody foresaw. */
export const fromCause = (cause: Cause.Cause<unknown>): ApiError | undefined => {
  const failure = Option.getOrUndefined(Cause.failureOption(cause))
  if (failure instanceof ApiError) return failure
  if (failure instanceof HttpApiDecodeError) return fromIssues(failure.issues)
  if (failure instanceof RouteNotFound) return unknownPath
  return Cause.isInterruptedOnly(cause)
    ? new ApiError({
      status: 503,
      code: "stopping",
      message: "the server is stopping; try again",
      headers: { "retry-after": "1" }
    })
    : undefined
}

/** The answer to a fault; what it was is in the log only. */
export const fault = new ApiError({
  status: 500,
  code: "internal_error",
  message: "a fault in the server; its log says more, under the correlation id of this answer"
})

/** The answer to a path that nothing is at. */
export const unknownPath = new ApiError({
  status: 404,
  code: "not_found",
  message: "there is nothing at this path; /openapi.json lists what there is"
})

/** A value of the wrong shape, and where; without a path, the body as a whole. */
export const refusal = (message: string, path = ""): ApiError =>
  new ApiError({ status: 422, code: "invalid", message, ...(path === "" ? {} : { path }) })

/** A member, a parameter or a header that is not what its name asks for. */
export const shape = (name: string): ApiError =>
  refusal(
    (Object.hasOwn(words, name) ? words[name] : undefined) ?? "is not of the shape that is expected",
    name === "idempotency-key" ? "Idempotency-Key" : name
  )

// --- internal

const refusedByDatabase = {
  status: 422,
  code: "refused_by_database",
  message:
    "a rule of the database refuses it, and will again; nothing was stored. An operator knows its constraints and triggers"
}

const unavailable: Readonly<Record<string, string>> = {
  unreachable: "the database can't be reached; try again later",
  credentials: "the database refuses the server's login; an operator must mend it",
  "disk-full": "the database has no space left; an operator must make room",
  "read-only": "the database is read-only; an operator must mend it",
  busy: "another process keeps the database locked; try again",
  "queue-full": "too many events wait to be stored; try again later, with fewer at a time",
  "missing-tables": "the database has no tables of the outbox; an operator must run `effect-webhooks migrate`",
  corrupt: "the database is damaged; an operator must mend it"
}

const resources: Readonly<Record<string, string>> = {
  messageId: "message",
  deliveryId: "delivery",
  endpointId: "endpoint"
}

const notFound = (what: string): ApiError =>
  new ApiError({ status: 404, code: `${what}_not_found`, message: `there is no ${what} with this id` })

const conflict = (code: string, message: string): ApiError => new ApiError({ status: 409, code, message })

const words: Readonly<Record<string, string>> = {
  "": "the body must be a JSON object",
  "idempotency-key": "must be 1 to 255 visible ASCII characters, without spaces",
  state: "must be pending, delivered, exhausted or discarded",
  endpoint: "must be 1 to 64 characters of A-Z a-z 0-9 _ -",
  type: "must be 1 to 128 characters of A-Z a-z 0-9 _ . -",
  cursor: "must be the `next` of an earlier page of this list",
  limit: "must be a whole number from 1 to 1000",
  reason: "must be text of 1 to 500 characters, without control characters",
  since: "must be an RFC 3339 time with its offset, such as 2026-01-27T12:00:00Z",
  until: "must be an RFC 3339 time with its offset, such as 2026-01-27T12:00:00Z"
}

const at = (path: ReadonlyArray<PropertyKey>): string => formatPath("", path).replace(/^\./, "")

/** `[3]` and `type` as `[3].type`, `[3]` and the event itself as `[3]`. */
const joined = (index: string, path: string): string => {
  if (index === "") return path === "event" ? "" : path
  return path === "event" ? index : path.startsWith("[") ? `${index}${path}` : `${index}.${path}`
}
