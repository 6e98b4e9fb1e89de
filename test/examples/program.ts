import { NodeFileSystem, NodeRuntime } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { EgressDispatcher, ResilientHttpClient, WebhookConfig, WebhookDispatcher, WebhookEvent } from "effect-webhooks"

// With: every endpoint that wants the event gets it, and an endpoint's failure stays in its own report.
const program = Effect.gen(function*() {
  const { dispatch } = yield* WebhookDispatcher.WebhookDispatcher
  const event = yield* WebhookEvent.make({ type: "OrderPlaced", aggregateId: "order-1", data: { total: 42.5 } })
  const report = yield* dispatch(event)
  for (const { endpointId, outcome, attempts } of report.deliveries) yield* Effect.log(endpointId, outcome, attempts)
})

const Webhooks = WebhookDispatcher.layer().pipe(
  Layer.provide(ResilientHttpClient.layerFromEnv()),
  Layer.provide(WebhookConfig.layerFromEnv()),
  Layer.provide(EgressDispatcher.layerHttpClientFromEnv),
  Layer.provide(NodeFileSystem.layer)
)

NodeRuntime.runMain(Effect.provide(program, Webhooks))
