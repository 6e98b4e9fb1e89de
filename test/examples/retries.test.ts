import { it } from "@effect/vitest"
import { Effect, Fiber, Layer, TestClock } from "effect"
import { ResilientHttpClient, WebhookConfig, WebhookDispatcher, WebhookEvent } from "effect-webhooks"
import { scriptedClient } from "effect-webhooks/testing"
import { expect } from "vitest"

it.effect("retries what failed", () =>
  Effect.gen(function*() {
    const { dispatch } = yield* WebhookDispatcher.WebhookDispatcher
    const event = yield* WebhookEvent.make({ type: "OrderPlaced", data: {} })
    const fiber = yield* Effect.fork(dispatch(event))
    yield* TestClock.adjust("1 minute")
    const { deliveries: [delivery] } = yield* Fiber.join(fiber)
    expect(delivery).toMatchObject({ outcome: "delivered", attempts: 3 })
  }).pipe(Effect.provide(
    WebhookDispatcher.layer().pipe(
      Layer.provide(ResilientHttpClient.layer()),
      Layer.provide(WebhookConfig.layer({ OrderPlaced: [{ url: "https://hooks.example.com/in" }] })),
      Layer.provide(scriptedClient([503, "reset", 200]))
    )
  )))
