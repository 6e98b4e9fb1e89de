/**
 * One attempt of a claimed delivery.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Tracer from "effect/Tracer"
import * as Spans from "../../Spans.js"
import { Endpoint } from "../../webhooks/Endpoint.js"
import * as Sending from "../../webhooks/internal/sending.js"
import * as Message from "../../webhooks/Message.js"
import type { DeliveryReport, WebhookSender } from "../../webhooks/WebhookSender.js"
import type { Claimed } from "./claiming.js"
import type { Store } from "./store.js"

export interface Attempted {
  readonly report: DeliveryReport | undefined
  /** Milliseconds since the epoch. */
  readonly startedAt: number
}

/** The attempt's report, and when it began; without a report it was stopped before. Must run uninterruptibly: an interruption ends the request, not this. */
export const attempt = (
  store: Store,
  sender: WebhookSender["Type"],
  claimed: Claimed
): Effect.Effect<Attempted> =>
  Effect.flatMap(
    claimed.endpoint.rateLimit === undefined ? inTime : paced(store, claimed),
    (isInTime) =>
      Effect.flatMap(store.now, (startedAt) =>
        // Its time in a paced endpoint's row is over: sent now, it would come too close to the next.
        !isInTime || (claimed.endpoint.rateLimit !== undefined && startedAt > claimed.notBefore + tolerance)
          ? Effect.succeed<Attempted>({ report: undefined, startedAt })
          : Effect.map(send(sender, claimed), (report): Attempted => ({ report, startedAt })))
  )

// --- internal

const inTime = Effect.succeed(true)

/** Waits until it may go; false: stopped before. */
const paced = (store: Store, claimed: Claimed): Effect.Effect<boolean> =>
  Effect.flatMap(store.now, (now) =>
    now >= claimed.notBefore
      ? inTime
      : Effect.map(
        Effect.exit(Effect.interruptible(Effect.sleep(Duration.millis(claimed.notBefore - now)))),
        Exit.isSuccess
      ))

const send = (sender: WebhookSender["Type"], claimed: Claimed): Effect.Effect<DeliveryReport> =>
  Spans.around(
    "DeliveryWorker.attempt",
    {
      parent: "root",
      // The event may have been stored days ago: its trace is over, and this one tells where it came from.
      links: linksTo(claimed.traceParent),
      attributes: {
        messageId: claimed.messageId,
        deliveryId: claimed.id,
        endpointId: claimed.endpoint.id,
        eventType: claimed.eventType,
        attempt: claimed.attempts + 1
      }
    },
    (parent) =>
      Sending.send(sender, toMessage(claimed), toEndpoint(claimed), {
        parent,
        single: claimed.attempts + 1,
        // The sender tells of its own `attempts`, which here is one.
        annotations: { deliveryId: `dlv_${claimed.id}`, attemptsBefore: claimed.attempts }
      })
  )

/** Milliseconds; less than what `Planning.grant` puts between the requests of one second beyond what was asked for. */
const tolerance = 50

const toMessage = (claimed: Claimed): Message.Message => ({
  id: claimed.messageId,
  eventType: claimed.eventType,
  tenant: claimed.tenant,
  aggregateId: claimed.aggregateId,
  occurredAt: claimed.occurredAt,
  correlationId: claimed.correlationId,
  encoded: new Map(
    claimed.body === undefined
      ? []
      : [[claimed.format, { bytes: claimed.body, contentType: Message.contentTypes[claimed.format] }]]
  )
})

/** The endpoint with the format that the message was stored in: the bytes stay the same, whatever the configuration says today. */
const toEndpoint = ({ endpoint, format }: Claimed): Endpoint =>
  endpoint.format === format ? endpoint : new Endpoint({ ...endpoint, format })

const linksTo = (traceParent: string | undefined): Array<Tracer.SpanLink> => {
  const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(traceParent ?? "")
  return match === null ? [] : [{
    _tag: "SpanLink",
    span: Tracer.externalSpan({ traceId: match[1]!, spanId: match[2]!, sampled: match[3] !== "00" }),
    attributes: {}
  }]
}
