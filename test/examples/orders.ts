/**
 * A host program: an order service publishes domain events on a bus, and webhooks go out.
 */
import { NodeFileSystem } from "@effect/platform-node"
import { EgressDispatcher, ResilientHttpClient, WebhookConfig, WebhookDispatcher } from "effect-webhooks"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Schema from "effect/Schema"

/** What the shop says when an order was placed. */
export class OrderPlaced extends Schema.TaggedClass<OrderPlaced>("OrderPlaced")("OrderPlaced", {
  aggregateId: Schema.String,
  occurredAt: Schema.DateTimeUtc,
  total: Schema.Number,
  currency: Schema.Literal("EUR", "USD")
}) {}

/** The shop's event bus. */
export class EventBus extends Context.Tag("shop/EventBus")<EventBus, PubSub.PubSub<OrderPlaced>>() {
  static readonly layer = Layer.effect(EventBus, PubSub.unbounded<OrderPlaced>())
}

/** The shop's order service; it knows nothing of webhooks. */
export class Orders extends Context.Tag("shop/Orders")<Orders, {
  readonly place: (total: number) => Effect.Effect<string>
}>() {
  static readonly layer = Layer.effect(
    Orders,
    Effect.map(EventBus, (bus) => {
      let number = 0
      return {
        place: (total) =>
          Effect.gen(function*() {
            const orderId = `order-${++number}`
            const occurredAt = yield* DateTime.now
            yield* PubSub.publish(bus, new OrderPlaced({ aggregateId: orderId, occurredAt, total, currency: "EUR" }))
            return orderId
          })
      }
    })
  )
}

/** Every event on the bus becomes a webhook. */
const Webhooks = Layer.unwrapEffect(Effect.map(EventBus, (bus) => WebhookDispatcher.subscribe(bus))).pipe(
  Layer.provide(WebhookDispatcher.layer()),
  Layer.provide(ResilientHttpClient.layerFromEnv()),
  Layer.provide(WebhookConfig.layerFromEnv()),
  Layer.provide(EgressDispatcher.layerHttpClientFromEnv),
  Layer.provide(NodeFileSystem.layer)
)

/** The whole program: run effects that need `Orders` with it. */
export const App = Layer.mergeAll(Orders.layer, Webhooks).pipe(Layer.provideMerge(EventBus.layer))
