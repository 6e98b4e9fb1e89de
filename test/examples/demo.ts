/**
 * The main job on real sockets: a receiver that fails twice and then accepts; an event is signed, sent, retried and verified,
 * and its correlation id shows on both sides.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import {
  CorrelationId,
  defaults,
  EgressDispatcher,
  EgressPolicy,
  ResilientHttpClient,
  WebhookConfig,
  WebhookDispatcher,
  WebhookEvent,
  WebhookSignature,
  WebhookVerifier
} from "effect-webhooks"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import * as Ref from "effect/Ref"
import { createServer } from "node:http"

const say = (side: "sender  " | "receiver", text: string) => Console.log(`${side} │ ${text}`)

/** Verifies every request, then answers 503 twice and 204 from then on. */
const receiver = Effect.gen(function*() {
  const requests = yield* Ref.make(0)
  const handled = WebhookVerifier.middleware(
    Effect.gen(function*() {
      const webhook = yield* WebhookVerifier.CurrentWebhook
      const { headers } = yield* HttpServerRequest.HttpServerRequest
      const n = yield* Ref.updateAndGet(requests, (n) => n + 1)
      const status = n < 3 ? 503 : 204
      yield* say("receiver", `request ${n}: signature valid, id ${webhook.id}, timestamp ${webhook.timestamp}`)
      yield* say(
        "receiver",
        `           ${defaults.correlationHeader}: ${headers["x-correlation-id"]} → answers ${status}`
      )
      if (status === 204) yield* say("receiver", `body: ${yield* Effect.orDie(webhook.text)}`)
      return HttpServerResponse.empty({ status })
    })
  )
  return handled
})

const program = Effect.gen(function*() {
  const { secret } = yield* WebhookSignature.generateSecret()
  const server = yield* Layer.build(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" }))
  yield* Layer.build(
    Layer.unwrapEffect(Effect.map(receiver, (app) => HttpServer.serve(app))).pipe(
      Layer.provide(WebhookVerifier.layer({ secrets: [secret] })),
      Layer.provide(Layer.succeedContext(server))
    )
  )
  const url = yield* HttpServer.addressFormattedWith((address) => Effect.succeed(`${address}/hooks`)).pipe(
    Effect.provide(server)
  )

  const Webhooks = WebhookDispatcher.layer({
    onAttempt: (attempt) =>
      say("sender  ", `attempt ${attempt.attempt}: ${attempt.outcome}${attempt.status ? ` (${attempt.status})` : ""}`)
  }).pipe(
    Layer.provide(ResilientHttpClient.layer({ retry: { baseDelay: "250 millis" } })),
    Layer.provide(WebhookConfig.layer(
      { OrderPlaced: [{ id: "demo", url, secret: Redacted.value(secret) }] },
      { allow: "127.0.0.1" }
    )),
    Layer.provide(EgressDispatcher.layerHttpClient()),
    // The receiver is on this machine, which nothing but an entry allows.
    Layer.provide(EgressPolicy.layer({ allow: Either.getOrThrow(EgressPolicy.parseRules("127.0.0.1")) }))
  )

  yield* Effect.gen(function*() {
    const event = yield* WebhookEvent.make({ type: "OrderPlaced", aggregateId: "order-1", data: { total: 42.5 } })
    const report = yield* WebhookDispatcher.WebhookDispatcher.pipe(Effect.flatMap(({ dispatch }) => dispatch(event)))
    for (const delivery of report.deliveries) {
      yield* say(
        "sender  ",
        `${delivery.outcome} to "${delivery.endpointId}" after ${delivery.attempts} attempts, correlation id ${report.correlationId}`
      )
    }
  }).pipe(Effect.provide(Webhooks), CorrelationId.withCorrelationId("demo-order-1"))
})

program.pipe(Effect.scoped, Logger.withMinimumLogLevel(LogLevel.Error), NodeRuntime.runMain)
