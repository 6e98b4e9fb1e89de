/**
 * A receiver: an HTTP server that lets only signed, fresh and new webhooks through to its handler.
 */
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { WebhookVerifier } from "effect-webhooks"
import * as Effect from "effect/Effect"

/** Handles what was verified; the rest has been answered by the middleware. */
export const receiver = HttpRouter.empty.pipe(
  HttpRouter.post(
    "/hooks",
    Effect.gen(function*() {
      const webhook = yield* WebhookVerifier.CurrentWebhook
      yield* Effect.logInfo("received").pipe(Effect.annotateLogs({ id: webhook.id, body: yield* webhook.text }))
      return HttpServerResponse.empty({ status: 204 })
    })
  ),
  WebhookVerifier.middleware
)
