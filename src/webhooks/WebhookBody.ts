/**
 * The bodies of incoming webhooks: read once and within a bound, kept as the bytes that were signed, and only then read as text or JSON.
 */
import * as HttpServerError from "@effect/platform/HttpServerError"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as UrlParams from "@effect/platform/UrlParams"
import * as Effect from "effect/Effect"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

/** The body of a verified request. */
export interface VerifiedBody {
  /** The bytes that were signed. */
  readonly body: Uint8Array
  /** The body as text; `InvalidWebhookBody` (`not-utf-8`) if it is none. */
  readonly text: Effect.Effect<string, InvalidWebhookBody>
  /** The body as JSON, decoded by a schema; `InvalidWebhookBody` says which step failed and, for the schema, at which paths. */
  readonly json: <A, I, R>(schema: Schema.Schema<A, I, R>) => Effect.Effect<A, InvalidWebhookBody, R>
}

/** The views of a body; text counts as its UTF-8 bytes. */
export const fromBytes = (input: Uint8Array | string): VerifiedBody => {
  const body = typeof input === "string" ? Buffer.from(input) : input
  const text = Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body),
    catch: () => new InvalidWebhookBody({ reason: "not-utf-8", paths: [] })
  })
  const parsed = Effect.flatMap(text, (text) =>
    Effect.try({
      try: (): unknown => JSON.parse(text),
      catch: () => new InvalidWebhookBody({ reason: "not-json", paths: [] })
    }))
  return {
    body,
    text,
    json: (schema) => {
      const decode = Schema.decodeUnknown(schema, { errors: "all" })
      return Effect.flatMap(parsed, (value) => Effect.mapError(decode(value), schemaFailure))
    }
  }
}

/**
 * Reads the whole body of a request; `limit` in bytes. A longer one is `WebhookBodyTooLarge`, but up to four times the limit is read, and
 * thrown away: ending the stream early destroys the sender's socket, and with it the answer that would have told it why.
 */
export const read = (
  request: HttpServerRequest.HttpServerRequest,
  limit: number
): Effect.Effect<Uint8Array, WebhookBodyTooLarge | InvalidWebhookBody> =>
  Effect.suspend(() => {
    const patience = limit * 4
    const tooLarge = new WebhookBodyTooLarge({ limit })
    if (Number(request.headers["content-length"] ?? 0) > patience) return Effect.fail(tooLarge)
    // One buffer that grows: a list of chunks would let a sender of one-byte chunks cost a hundred times its bytes.
    let kept = Buffer.alloc(0)
    let size = 0
    return request.stream.pipe(
      Stream.mapError(() => new InvalidWebhookBody({ reason: "unreadable", paths: [] })),
      Stream.runForEach((chunk) => {
        const end = size + chunk.length
        if (end > patience) return Effect.fail(tooLarge)
        if (end <= limit) {
          if (end > kept.length) kept = Buffer.concat([kept], Math.min(limit, Math.max(end, kept.length * 2)))
          kept.set(chunk, size)
        }
        size = end
        return Effect.void
      }),
      Effect.flatMap(() => size > limit ? Effect.fail(tooLarge) : Effect.succeed(kept.subarray(0, size)))
    )
  })

/**
 * The same request with its body already read. A request's stream can be read once; whoever asks again would wait for ever.
 */
export const withBody = (
  request: HttpServerRequest.HttpServerRequest,
  body: Uint8Array
): HttpServerRequest.HttpServerRequest => {
  const text = Effect.sync(() => new TextDecoder().decode(body))
  const decode = <A>(parse: (text: string) => A) =>
    Effect.flatMap(text, (text) =>
      Effect.try({
        try: () => parse(text),
        catch: () =>
          new HttpServerError.RequestError({ request, reason: "Decode", description: "the body is not valid" })
      }))
  return Object.create(request, {
    text: { value: text },
    json: { value: decode((text): unknown => text === "" ? null : JSON.parse(text)) },
    urlParamsBody: { value: decode((text) => UrlParams.fromInput(new URLSearchParams(text))) },
    arrayBuffer: { value: Effect.sync(() => Uint8Array.from(body).buffer) },
    stream: { value: Stream.make(body) }
  })
}

/** A body longer than the limit. */
export class WebhookBodyTooLarge extends Schema.TaggedError<WebhookBodyTooLarge>()("WebhookBodyTooLarge", {
  /** In bytes. */
  limit: Schema.Number
}) {
  override get message(): string {
    return `the body is longer than ${this.limit} bytes; raise maxBodySize if the sender sends such bodies`
  }
}

/**
 * A body that can't be used: it broke off (`unreadable`), is not UTF-8 (`not-utf-8`), not JSON (`not-json`), or not what the schema
 * describes (`schema`, with up to ten paths). It holds nothing of the body but the names on those paths.
 */
export class InvalidWebhookBody extends Schema.TaggedError<InvalidWebhookBody>()("InvalidWebhookBody", {
  reason: Schema.Literal("unreadable", "not-utf-8", "not-json", "schema"),
  paths: Schema.Array(Schema.String)
}) {
  override get message(): string {
    switch (this.reason) {
      case "unreadable":
        return "the body broke off before its end"
      case "not-utf-8":
        return "the body is not UTF-8 text"
      case "not-json":
        return "the body is not JSON"
      case "schema":
        return `the body does not fit the schema at ${this.paths.map((path) => path || "its root").join(", ")}`
    }
  }
}

// --- internal

// The formatter's own messages quote the values.
const schemaFailure = (error: ParseResult.ParseError): InvalidWebhookBody => {
  const paths = ParseResult.ArrayFormatter.formatErrorSync(error).map((issue) => issue.path.map(String).join("."))
  return new InvalidWebhookBody({ reason: "schema", paths: Array.from(new Set(paths)).slice(0, 10) })
}
