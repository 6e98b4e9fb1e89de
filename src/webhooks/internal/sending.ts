/** Sends by whatever `WebhookSender` there is: one that a host has made, or put around ours, need not know of the options. */
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import { currentSingle } from "../../http/internal/exchange.js"
import { isOwn } from "../../Own.js"
import * as Surroundings from "../../Surroundings.js"
import type { Endpoint } from "../Endpoint.js"
import type { Message } from "../Message.js"
import type { DeliveryReport, SendOptions, WebhookSender } from "../WebhookSender.js"

/** Sends; what the options say is set for the fiber, too, where it isn't certain that they are heeded. */
export const send = (
  sender: WebhookSender["Type"],
  message: Message,
  endpoint: Endpoint,
  options: SendOptions
): Effect.Effect<DeliveryReport> => {
  if (isOwn(sender.send)) return sender.send(message, endpoint, options)
  const { restore = identity, single, ...others } = options
  // Without `restore`: within what it puts around ours, say, that is none of the caller's mask.
  const sent = Effect.suspend(() => sender.send(message, endpoint, { ...others, single }))
  return restore(Surroundings.within(
    single === undefined ? sent : Effect.locally(sent, currentSingle, Option.some(single)),
    message.correlationId,
    options
  ))
}
