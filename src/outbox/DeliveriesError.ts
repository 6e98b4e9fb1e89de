/**
 * What can stand in the way of reading, replaying or cancelling a delivery, beside a database that is not available.
 */
import * as Schema from "effect/Schema"

/** No message of this id is stored: it never was, its transaction was rolled back, or its retention has passed. */
export class MessageNotFound
  extends Schema.TaggedError<MessageNotFound>("effect-webhooks/MessageNotFound")("MessageNotFound", {
    id: Schema.String
  })
{
  override get message(): string {
    return `no message ${shown(this.id)} is stored: check the id; messages whose retention has passed are gone`
  }
}

/** No delivery of this id is stored: it never was, or its retention has passed. Ids look like `dlv_123`. */
export class DeliveryNotFound
  extends Schema.TaggedError<DeliveryNotFound>("effect-webhooks/DeliveryNotFound")("DeliveryNotFound", {
    id: Schema.String
  })
{
  override get message(): string {
    return `no delivery ${
      shown(this.id)
    } is stored: check the id (they look like dlv_123); deliveries whose retention has passed are gone`
  }
}

/** The delivery has ended already, so there is nothing to cancel. */
export class DeliveryEnded extends Schema.TaggedError<DeliveryEnded>("effect-webhooks/DeliveryEnded")("DeliveryEnded", {
  id: Schema.String,
  state: Schema.Literal("delivered", "exhausted", "discarded")
}) {
  override get message(): string {
    return `delivery ${this.id} has ended already (${this.state}): only a pending one can be cancelled`
  }
}

/** An attempt is under way, so the delivery can't be cancelled at this moment. */
export class DeliveryLeased extends Schema.TaggedError<DeliveryLeased>("effect-webhooks/DeliveryLeased")(
  "DeliveryLeased",
  {
    id: Schema.String,
    /** Milliseconds since the epoch: when the worker's lease ends at the latest, unless it is renewed. */
    until: Schema.Number
  }
) {
  override get message(): string {
    return `an attempt of delivery ${this.id} is under way: ask again when it has ended`
  }
}

/** The endpoint is disabled, so nothing that is made due would be sent. */
export class EndpointDisabled
  extends Schema.TaggedError<EndpointDisabled>("effect-webhooks/EndpointDisabled")("EndpointDisabled", {
    endpointId: Schema.String,
    reason: Schema.String
  })
{
  override get message(): string {
    return `endpoint ${this.endpointId} is disabled (${this.reason}): enable it first`
  }
}

/** Deliveries of the endpoint are being recovered over another range already. */
export class RecoveryUnderWay
  extends Schema.TaggedError<RecoveryUnderWay>("effect-webhooks/RecoveryUnderWay")("RecoveryUnderWay", {
    endpointId: Schema.String,
    /** The range under way: milliseconds since the epoch. */
    since: Schema.Number,
    until: Schema.Number
  })
{
  override get message(): string {
    return `failed deliveries of endpoint ${this.endpointId} are being recovered over another range: ask again when that has ended`
  }
}

/** The cursor is not one that `list` gave. */
export class InvalidCursor
  extends Schema.TaggedError<InvalidCursor>("effect-webhooks/InvalidCursor")("InvalidCursor", {})
{
  override get message(): string {
    return "the cursor is not one that a list gave as its next: begin without one"
  }
}

// --- internal

/** What can't be an id may be anything, of any length. */
const shown = (id: string): string => /^[A-Za-z0-9_-]{1,64}$/.test(id) ? id : "of such an id"
