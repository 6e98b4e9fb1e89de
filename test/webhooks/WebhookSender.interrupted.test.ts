import * as Headers from "@effect/platform/Headers"
import * as HttpClient from "@effect/platform/HttpClient"
import { expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Transport from "../../src/http/internal/transport.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as Message from "../../src/webhooks/Message.js"
import * as WebhookEvent from "../../src/webhooks/WebhookEvent.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"

/** Answers, and interrupts whoever asked before it gets the answer. */
const interrupting = Transport.register(
  HttpClient.make(() => Effect.dieMessage("the transport is used in its place")),
  (_, { onHead }) =>
    Effect.withFiberRuntime((fiber) => {
      onHead(204, Headers.empty)
      fiber.unsafeInterruptAsFork(FiberId.none)
      return Effect.succeed({ status: 204, headers: Headers.empty, bytes: new Uint8Array(), complete: true })
    })
)

it.effect("who is interrupted just after the answer has delivered, and each attempt is told", () =>
  Effect.gen(function*() {
    const attempt = yield* Deferred.make<WebhookSender.AttemptReport>()
    const delivery = yield* Deferred.make<WebhookSender.DeliveryReport>()
    const endpoint = yield* Endpoint.make({ id: "a", url: "https://a.example.com/in" })
    const message = yield* Effect.flatMap(
      WebhookEvent.make({ type: "a", data: 1 }),
      (event) => Message.toMessage(event, ["event"])
    )
    const sender = WebhookSender.layer({
      onAttempt: (report) => Deferred.succeed(attempt, report),
      onDelivery: (report) => Deferred.succeed(delivery, report)
    }).pipe(
      Layer.provide(ResilientHttpClient.layer()),
      Layer.provide(Layer.succeed(HttpClient.HttpClient, interrupting))
    )
    const fiber = yield* Effect.forkDaemon(
      Effect.provide(Effect.flatMap(WebhookSender.WebhookSender, ({ send }) => send(message, endpoint)), sender)
    )
    yield* Fiber.await(fiber)
    expect(yield* Deferred.await(delivery)).toMatchObject({ outcome: "delivered", attempts: 1 })
    expect(yield* Deferred.await(attempt)).toMatchObject({ outcome: "delivered", attempt: 1 })
  }))
