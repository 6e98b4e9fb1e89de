/**
 * An event with an id and its bytes: encoded once, and those very bytes are signed, sent and sent again.
 *
 * Three formats. `event` (the default): `{"aggregate_id", "data", "event_type", "occurred_at"}` exactly as Python's
 * `json.dumps(…, sort_keys=True)` writes it (keys sorted by code point, `", "` and `": "`, ASCII only), since receivers of the source
 * system verify over the raw bytes or over their own re-serialisation. `standard`: `{"type", "timestamp", "data"}` as
 * Standard Webhooks recommends. `cloudevents`: CloudEvents 1.0, structured mode. The latter two are plain JSON.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import * as CorrelationId from "../CorrelationId.js"
import { defaults } from "../Defaults.js"
import { alphanumeric } from "../SecureRandom.js"
import type { Format } from "./Endpoint.js"
import { encodeCanonical } from "./internal/encodeCanonical.js"
import { copy, type Json, type Refusal } from "./internal/encodeTree.js"
import {
  hasGeneratedTime,
  type InvalidEvent,
  isWebhookEvent,
  make,
  UnserializableEvent,
  type WebhookEvent
} from "./WebhookEvent.js"

/** The body of a request. */
export interface Encoded {
  /** A view: its `buffer` may hold other messages, too. */
  readonly bytes: Uint8Array
  /** What the request says that they are: `content-type`. */
  readonly contentType: string
}

/** What is sent, to any number of endpoints any number of times. */
export interface Message {
  /** `webhook-id`: 1 to 64 characters of `[A-Za-z0-9_-]`, the same on every attempt. */
  readonly id: string
  readonly eventType: string
  readonly tenant: string | undefined
  readonly aggregateId: string | null
  /** RFC 3339. */
  readonly occurredAt: string
  readonly correlationId: string
  /** The bytes of each format that was asked for. */
  readonly encoded: ReadonlyMap<Format, Encoded>
}

/** How events become messages. */
export interface MessageOptions {
  /** Most bytes that a format may take. Default: 262 144 (256 KiB). */
  readonly maxBytes?: number | undefined
  /**
   * CloudEvents `source`, a URI reference that names the producer: with the id it identifies an event everywhere, so a
   * program that sends to the outside says its own, `https://shop.example/orders`. Default: `/effect-webhooks`.
   */
  readonly source?: string | undefined
}

/**
 * Encodes an event, each format once. Without an id the message gets `msg_` and 24 random characters of `[A-Za-z0-9]`;
 * without a correlation id the running fiber's, else a fresh one.
 *
 * Members that are `undefined` are left out, dates become ISO text and `toJSON` is honoured once a value, all as `JSON.stringify`
 * does. What that would lose is `UnserializableEvent`, no format asked for or not; members with symbol keys are not data.
 * Beyond `maxBytes` is `PayloadTooLarge`. `InvalidEvent`: the event was put together by hand, and a field is wrong.
 */
export const toMessage = (
  given: WebhookEvent,
  formats: Iterable<Format>,
  options: MessageOptions = {}
): Effect.Effect<Message, InvalidEvent | PayloadTooLarge | UnserializableEvent> => {
  const encode = (event: WebhookEvent): Effect.Effect<Message, PayloadTooLarge | UnserializableEvent> => {
    const limit = options.maxBytes ?? defaults.maxPayloadBytes
    const source = options.source ?? defaultSource
    if (!sourcePattern.test(source)) {
      return Effect.fail(
        new UnserializableEvent({ path: "source", problem: "must be a URI reference, ASCII without spaces" })
      )
    }
    const data = copyData(event, limit)
    if (Either.isLeft(data)) return Effect.fail(data.left)
    return Effect.flatMap(event.id === undefined ? alphanumeric(24, "msg_") : Effect.succeed(event.id), (id) => {
      const encoded = new Map<Format, Encoded>()
      for (const format of formats) {
        if (encoded.has(format)) continue
        const bytes = documents[format](event, id, data.right, source)
        if (bytes.length > limit) {
          return Effect.fail(new PayloadTooLarge({ eventType: event.type, format, bytes: bytes.length, limit }))
        }
        encoded.set(format, { bytes, contentType: contentTypes[format] })
      }
      return Effect.map(correlationId(event), (correlationId) => ({
        id,
        eventType: event.type,
        tenant: event.tenant,
        aggregateId: event.aggregateId,
        occurredAt: event.occurredAt,
        correlationId,
        encoded
      }))
    })
  }
  return isWebhookEvent(given) ? Effect.suspend(() => encode(given)) : Effect.flatMap(make(given), encode)
}

/**
 * What an event says, as the lower-case hex SHA-256 of its type, tenant, aggregate id and data (keys in order), and of its time if the caller gave one: two
 * events with the same digest are the same said twice, whatever their ids. A time that `WebhookEvent.make` or
 * `decodeInput` filled in doesn't count; that of a copy (`{ ...event }`) does. Fails as `toMessage` does; of the sizes it sees `maxBytes` of data.
 */
export const digest = (
  given: WebhookEvent,
  options: Pick<MessageOptions, "maxBytes"> = {}
): Effect.Effect<string, InvalidEvent | PayloadTooLarge | UnserializableEvent> =>
  Effect.gen(function*() {
    const event = isWebhookEvent(given) ? given : yield* make(given)
    const data = yield* copyData(event, options.maxBytes ?? defaults.maxPayloadBytes)
    const canonical = encodeCanonical({
      type: event.type,
      tenant: event.tenant ?? null,
      aggregate_id: event.aggregateId,
      data,
      ...(hasGeneratedTime(event) ? {} : { occurred_at: event.occurredAt })
    })
    return createHash("sha256").update(canonical).digest("hex")
  })

/** The event takes more bytes than are allowed; nothing has been sent or stored. */
export class PayloadTooLarge
  extends Schema.TaggedError<PayloadTooLarge>("effect-webhooks/PayloadTooLarge")("PayloadTooLarge", {
    eventType: Schema.String,
    /** Absent: too large in any format. */
    format: Schema.optional(Schema.Literal("event", "standard", "cloudevents")),
    /** Encoded size; without a format, a lower bound. */
    bytes: Schema.Number,
    limit: Schema.Number
  })
{
  override get message(): string {
    const size = this.format === undefined
      ? `takes at least ${this.bytes} bytes`
      : `takes ${this.bytes} bytes in format "${this.format}"`
    return `event ${this.eventType} ${size} and ${this.limit} are allowed; send a link in place of the content, or raise the limit (maxPayloadBytes; of toMessage itself, maxBytes)`
  }
}

// --- internal

const defaultSource = "/effect-webhooks"
const sourcePattern = /^[!-~]{1,2048}$/
const encoder = new TextEncoder()

/** The `content-type` of each format. */
export const contentTypes: Readonly<Record<Format, string>> = {
  event: "application/json",
  standard: "application/json",
  cloudevents: "application/cloudevents+json"
}

const documents: Readonly<Record<Format, (event: WebhookEvent, id: string, data: Json, source: string) => Uint8Array>> =
  {
    event: (event, _id, data) =>
      encodeCanonical({
        event_type: event.type,
        data,
        aggregate_id: event.aggregateId,
        occurred_at: event.occurredAt
      }),
    standard: (event, _id, data) =>
      encoder.encode(JSON.stringify({ type: event.type, timestamp: event.occurredAt, data })),
    cloudevents: (event, id, data, source) =>
      encoder.encode(JSON.stringify({
        specversion: "1.0",
        id,
        source,
        type: event.type,
        // CloudEvents allows no empty subject.
        ...(event.aggregateId === null || event.aggregateId === "" ? {} : { subject: event.aggregateId }),
        time: event.occurredAt,
        datacontenttype: "application/json",
        data
      }))
  }

const copyData = (
  event: WebhookEvent,
  limit: number
): Either.Either<Json, PayloadTooLarge | UnserializableEvent> =>
  Either.mapLeft(copy(event.data, "data", limit), (refusal) => toError(refusal, event, limit))

const toError = (refusal: Refusal, event: WebhookEvent, limit: number): UnserializableEvent | PayloadTooLarge =>
  refusal._tag === "TooLarge"
    ? new PayloadTooLarge({ eventType: event.type, bytes: refusal.bytes, limit })
    : new UnserializableEvent(refusal)

const correlationId = (event: WebhookEvent): Effect.Effect<string> =>
  event.correlationId !== undefined && CorrelationId.isValid(event.correlationId)
    ? Effect.succeed(event.correlationId)
    : CorrelationId.currentOrGenerate
