/**
 * The sender of `dispatch`: tells of each delivery as soon as it has ended, of one that was cut off, too.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ResilientHttpClient from "../http/ResilientHttpClient.js"
import * as Outcome from "../webhooks/Outcome.js"
import * as WebhookSender from "../webhooks/WebhookSender.js"
import type { Delivery } from "./DispatchLines.js"

/** The sender over the resilient client, with `tell` run at the end of each delivery. */
export const layer = (
  tell: (delivery: Delivery) => Effect.Effect<void>
): Layer.Layer<WebhookSender.WebhookSender, never, ResilientHttpClient.ResilientHttpClient> =>
  Layer.effect(
    WebhookSender.WebhookSender,
    Effect.suspend(() => {
      // Of deliveries under way: how many attempts each has made.
      const attempts = new Map<string, number>()
      const key = (messageId: string, endpointId: string) => `${messageId} ${endpointId}`
      return Effect.map(
        WebhookSender.make({
          onAttempt: ({ attempt, endpointId, messageId }) =>
            Effect.sync(() => {
              attempts.set(key(messageId, endpointId), attempt)
            })
        }),
        ({ send }) => ({
          send: (message, endpoint) =>
            // Uninterruptible around it: a delivery is told of exactly once, as what it came to.
            Effect.uninterruptibleMask((restore) =>
              Effect.flatMap(Clock.currentTimeMillis, (startedAt) =>
                restore(send(message, endpoint)).pipe(
                  Effect.onInterrupt(() =>
                    Effect.flatMap(Clock.currentTimeMillis, (now) => {
                      const made = attempts.get(key(message.id, endpoint.id)) ?? 0
                      return tell({
                        messageId: message.id,
                        eventType: message.eventType,
                        endpointId: endpoint.id,
                        url: ResilientHttpClient.safeUrl(endpoint.url),
                        outcome: Outcome.interrupted.outcome,
                        class: Outcome.interrupted.class,
                        status: undefined,
                        attempts: made,
                        duration: now - startedAt,
                        correlationId: message.correlationId,
                        error: new WebhookSender.DeliveryInterrupted({ endpointId: endpoint.id, attempts: made })
                      })
                    })
                  ),
                  Effect.tap(tell),
                  Effect.ensuring(Effect.sync(() => attempts.delete(key(message.id, endpoint.id))))
                ))
            )
        })
      )
    })
  )
