/**
 * What goes in and out of the HTTP API as JSON. Names are in camel case (an event's own are those of `WebhookEvent.decodeInput`), times RFC 3339 in
 * UTC, ids opaque text; a member that has nothing to say is left out.
 */
import * as Schema from "effect/Schema"

const Time = Schema.String.annotations({
  jsonSchema: { type: "string", format: "date-time" },
  description: "RFC 3339, UTC."
})

/** The state of a delivery. */
export const State = Schema.Literal("pending", "delivered", "exhausted", "discarded")

/** Ids of messages and endpoints. */
export const Name = Schema.String.pipe(Schema.pattern(/^[A-Za-z0-9_-]{1,64}$/))

/** Ids of deliveries. */
export const DeliveryId = Schema.String.pipe(Schema.pattern(/^dlv_[1-9][0-9]{0,18}$/))

/** An event as it is handed in; what it may hold is said by `WebhookEvent`, which also decodes it. */
export const EventInput = Schema.Struct({
  type: Schema.String.pipe(Schema.pattern(/^[A-Za-z0-9_.-]{1,128}$/)),
  data: Schema.Unknown.annotations({ description: "Anything; null if there is nothing to say." }),
  aggregate_id: Schema.optional(Schema.NullOr(Schema.String)),
  occurred_at: Schema.optional(Time).annotations({ description: "RFC 3339; default: now." }),
  id: Schema.optional(Name).annotations({ description: "The message's id; left out, one is generated." }),
  tenant: Schema.optional(Schema.String),
  correlation_id: Schema.optional(Schema.String).annotations({ description: "Goes before X-Correlation-ID." })
}).annotations({ identifier: "Event" })

/** What `POST /v1/events` takes. */
export const EventsInput = Schema.Union(
  EventInput,
  Schema.Array(EventInput).pipe(Schema.minItems(1), Schema.maxItems(1000))
)

/** What became of one event. */
export const Enqueued = Schema.Struct({
  messageId: Schema.String.annotations({ description: "`webhook-id` on the wire; of a duplicate, that of the first." }),
  duplicate: Schema.Boolean.annotations({ description: "It had been stored before; nothing was stored now." }),
  deliveries: Schema.Number.annotations({ description: "How many endpoints get it." })
}).annotations({ identifier: "Enqueued" })

/** The answer to `POST /v1/events`, in the order of the events. */
export const EnqueuedList = Schema.Struct({ messages: Schema.Array(Enqueued) })

const deliveryFields = {
  id: Schema.String,
  messageId: Schema.String,
  endpointId: Schema.String,
  eventType: Schema.String,
  state: State,
  reason: Schema.optional(Schema.String),
  attempts: Schema.Number.annotations({ description: "HTTP requests made." }),
  dueAt: Schema.optional(Time).annotations({ description: "When the next attempt is due, of a pending one." }),
  leased: Schema.Boolean.annotations({ description: "An attempt is under way." }),
  held: Schema.Boolean.annotations({ description: "It waits for an earlier delivery of the same aggregate." }),
  lastStatus: Schema.optional(Schema.Number),
  lastClass: Schema.optional(Schema.String),
  createdAt: Time,
  endedAt: Schema.optional(Time)
}

/** One message to one endpoint. */
export const Delivery = Schema.Struct(deliveryFields).annotations({ identifier: "Delivery" })

/** A page of deliveries, newest first. */
export const DeliveryPage = Schema.Struct({
  deliveries: Schema.Array(Delivery),
  next: Schema.optional(Schema.String).annotations({ description: "`cursor` of the next page; absent: there is none." })
})

/** One HTTP request of a delivery. */
export const Attempt = Schema.Struct({
  id: Schema.String,
  deliveryId: Schema.String,
  number: Schema.Number,
  startedAt: Time,
  durationMs: Schema.Number,
  outcome: Schema.String,
  class: Schema.optional(Schema.String),
  status: Schema.optional(Schema.Number),
  excerpt: Schema.optional(Schema.String).annotations({
    description: "The beginning of the receiver's answer: at most 1000 characters, without the request's own secrets."
  })
}).annotations({ identifier: "Attempt" })

/** A delivery and its attempts, oldest first. */
export const DeliveryDetails = Schema.Struct({ ...deliveryFields, history: Schema.Array(Attempt) })
  .annotations({ identifier: "DeliveryDetails" })

/** A message as it is stored. */
export const Message = Schema.Struct({
  id: Schema.String,
  eventType: Schema.String,
  tenant: Schema.optional(Schema.String),
  aggregateId: Schema.optional(Schema.String),
  occurredAt: Schema.String.annotations({ description: "RFC 3339, as the event gave it." }),
  correlationId: Schema.String,
  idempotencyKey: Schema.optional(Schema.String),
  createdAt: Time,
  deliveries: Schema.Array(Delivery),
  bodies: Schema.Struct({
    event: Schema.optional(Schema.String),
    standard: Schema.optional(Schema.String),
    cloudevents: Schema.optional(Schema.String)
  }).annotations({ description: "What is sent, by format: the stored text, byte for byte." })
}).annotations({ identifier: "Message" })

/** An endpoint: what is configured, and how it fares. */
export const Endpoint = Schema.Struct({
  id: Schema.String,
  url: Schema.optional(Schema.String).annotations({
    description: "Scheme, host, port and path; absent: not configured."
  }),
  configured: Schema.Boolean,
  enabled: Schema.Boolean.annotations({ description: "It gets deliveries: configured as enabled, and not disabled." }),
  circuit: Schema.Literal("Closed", "Open", "HalfOpen"),
  opensAgainAt: Schema.optional(Time).annotations({ description: "When an open circuit lets a probe through." }),
  pausedUntil: Schema.optional(Time),
  disabled: Schema.optional(Schema.Struct({ at: Time, by: Schema.String, reason: Schema.String })),
  consecutiveFailures: Schema.Number,
  firstFailureAt: Schema.optional(Time),
  lastFailureAt: Schema.optional(Time),
  lastSuccessAt: Schema.optional(Time)
}).annotations({ identifier: "Endpoint" })

/** All endpoints: the configured ones, and those that the database remembers. */
export const EndpointList = Schema.Struct({ endpoints: Schema.Array(Endpoint) })

/** Why an endpoint is disabled. */
export const DisableInput = Schema.Struct({
  reason: Schema.String.pipe(Schema.filter((text) => text.trim() !== "" && text.length <= 500 && !/\p{Cc}/u.test(text)))
    .annotations({ jsonSchema: { type: "string", minLength: 1, maxLength: 500 } })
}).annotations({ identifier: "Disable" })

/** Which failed deliveries are sent again: those that ended in `[since, until]`. */
export const RecoverInput = Schema.Struct({
  since: Time,
  until: Schema.optional(Time).annotations({ description: "RFC 3339; default: now." })
}).annotations({ identifier: "Recover" })

/** How far a recovery is. */
export const Recovery = Schema.Struct({
  id: Schema.String.annotations({ description: "The endpoint's." }),
  done: Schema.Boolean.annotations({ description: "False: it goes on in the background." }),
  recovered: Schema.optional(Schema.Number).annotations({ description: "Deliveries that are sent again, once done." })
}).annotations({ identifier: "Recovery" })

/** How a test event fared. */
export const TestReport = Schema.Struct({
  id: Schema.String.annotations({ description: "The same as messageId." }),
  messageId: Schema.String,
  eventType: Schema.String,
  endpointId: Schema.String,
  url: Schema.String,
  outcome: Schema.String,
  class: Schema.optional(Schema.String),
  status: Schema.optional(Schema.Number),
  attempts: Schema.Number,
  durationMs: Schema.Number,
  correlationId: Schema.String,
  error: Schema.optional(Schema.String),
  excerpt: Schema.optional(Schema.String)
}).annotations({ identifier: "TestReport" })

/** Counts of deliveries. */
export const Stats = Schema.Struct({
  states: Schema.Struct({
    pending: Schema.Number,
    delivered: Schema.Number,
    exhausted: Schema.Number,
    discarded: Schema.Number
  }),
  oldestDueAt: Schema.optional(Time),
  orphaned: Schema.Number.annotations({ description: "Pending deliveries of endpoints that are not configured." }),
  endpoints: Schema.Array(Schema.Struct({
    id: Schema.String,
    pending: Schema.Number,
    leased: Schema.Number,
    oldestDueAt: Schema.optional(Time),
    orphaned: Schema.Boolean
  }))
}).annotations({ identifier: "Stats" })

/** What `/health/*` says. */
export const Healthy = Schema.Struct({ status: Schema.Literal("ok") })
