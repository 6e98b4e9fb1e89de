/**
 * What the HTTP API says when it says no. Every error has the body `{ "error": { "code", "message", "path"? } }`: `code` is for programs and
 * stays, `message` is for people and may change, `path` leads to the member, parameter or header that is wrong. None repeats a value that was sent.
 */
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as Schema from "effect/Schema"

/** The body of every error. */
export const ErrorBody = Schema.Struct({
  error: Schema.Struct({
    code: Schema.String.annotations({ description: "What is wrong, for programs." }),
    message: Schema.String.annotations({ description: "What is wrong and what to do, for people." }),
    path: Schema.optional(Schema.String).annotations({
      description: "Where: `[3].data.items`, a query parameter or a header."
    })
  })
}).annotations({ identifier: "Error" })

/** Statuses that the API answers with when it says no. */
export const statuses = {
  400: "The request can't be read: not JSON, or not HTTP.",
  401: "The token is missing or unknown.",
  403: "The server has another name than it is asked by, or a browser asks on behalf of another site.",
  404: "There is no such thing.",
  405: "The path knows other methods, see Allow.",
  409: "Not in the state that it is in, or not with what was sent before under the same key.",
  413: "The body, or an event in it, is too large.",
  415: "The body is not application/json.",
  422: "The request has the wrong shape (`path` says where), or a rule of the database refuses it.",
  429: "Too many requests are under way; see Retry-After.",
  500: "A fault in the server; its log says more.",
  503: "The database does not take it; nothing was stored. See Retry-After."
} as const

/** A status of `statuses`. */
export type Status = keyof typeof statuses

/** An answer other than the one that was asked for. */
export class ApiError extends Schema.TaggedError<ApiError>("effect-webhooks/ApiError")("ApiError", {
  status: Schema.Number,
  code: Schema.String,
  message: Schema.String,
  path: Schema.optional(Schema.String),
  /** Of the answer, beside those that every answer has. */
  headers: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.String }))
}) {
  /** The body of the answer. */
  get body(): typeof ErrorBody.Type {
    const { code, message, path } = this
    return { error: path === undefined ? { code, message } : { code, message, path } }
  }
}

/** What an endpoint of the API declares of a status that it may answer with. */
export const answering = (status: Status) =>
  Schema.transform(
    ErrorBody,
    Schema.declare((value): value is ApiError => value instanceof ApiError && value.status === status),
    {
      strict: true,
      decode: ({ error }) => new ApiError({ status, ...error }),
      encode: (error) => error.body
    }
  ).annotations(HttpApiSchema.annotations({ status, description: statuses[status] }))
