/**
 * What the layers need and how they fail: the compiler is what forces resilience into the dispatcher.
 */
import type { HttpClient } from "@effect/platform/HttpClient"
import type * as CircuitBreakers from "effect-webhooks/CircuitBreakers"
import * as Endpoints from "effect-webhooks/Endpoints"
import * as ResilientHttpClient from "effect-webhooks/ResilientHttpClient"
import * as WebhookConfig from "effect-webhooks/WebhookConfig"
import * as WebhookDispatcher from "effect-webhooks/WebhookDispatcher"
import type * as WebhookVerifier from "effect-webhooks/WebhookVerifier"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as PubSub from "effect/PubSub"
import type * as Stream from "effect/Stream"
import { describe, expect, test } from "tstyche"

describe("ResilientHttpClient", () => {
  test("the layer needs a client and brings its breakers", () => {
    expect(ResilientHttpClient.layer()).type.toBe<
      Layer.Layer<ResilientHttpClient.ResilientHttpClient | CircuitBreakers.CircuitBreakers, never, HttpClient>
    >()
  })

  test("a plain client doesn't stand in for the resilient one", () => {
    expect<HttpClient>().type.not.toBeAssignableTo<ResilientHttpClient.ResilientHttpClient>()
  })
})

describe("WebhookDispatcher", () => {
  test("the layer needs the resilient client and endpoints", () => {
    expect(WebhookDispatcher.layer()).type.toBe<
      Layer.Layer<
        WebhookDispatcher.WebhookDispatcher,
        never,
        ResilientHttpClient.ResilientHttpClient | WebhookConfig.WebhookConfig
      >
    >()
    expect(WebhookDispatcher.layerWithoutEndpoints()).type.toBe<
      Layer.Layer<
        WebhookDispatcher.WebhookDispatcher,
        never,
        ResilientHttpClient.ResilientHttpClient | Endpoints.Endpoints
      >
    >()
    expect(Endpoints.layer).type.toBe<Layer.Layer<Endpoints.Endpoints, never, WebhookConfig.WebhookConfig>>()
  })

  test("wired, only the platform's client is left to provide and only the configuration can fail", () => {
    const wired = WebhookDispatcher.layer().pipe(
      Layer.provide([ResilientHttpClient.layer(), WebhookConfig.layer({})])
    )
    expect(wired).type.toBe<
      Layer.Layer<WebhookDispatcher.WebhookDispatcher, WebhookConfig.InvalidWebhookConfig, HttpClient>
    >()
  })

  test("an endpoint's failure is never in the error channel", () => {
    type Dispatch = WebhookDispatcher.WebhookDispatcher["Type"]["dispatch"]
    expect<ReturnType<Dispatch>>().type.toBe<
      Effect.Effect<WebhookDispatcher.DispatchReport, WebhookDispatcher.InvalidMessage>
    >()
    type Handler = WebhookDispatcher.WebhookDispatcher["Type"]["handler"]
    expect<ReturnType<Handler>>().type.toBe<Effect.Effect<void>>()
  })

  test("subscribe takes a stream or a PubSub and keeps the stream's needs", () => {
    interface Need {
      readonly need: unique symbol
    }
    expect(WebhookDispatcher.subscribe({} as Stream.Stream<object, "broken", Need>)).type.toBe<
      Layer.Layer<never, never, WebhookDispatcher.WebhookDispatcher | Need>
    >()
    expect(WebhookDispatcher.subscribe({} as PubSub.PubSub<object>)).type.toBe<
      Layer.Layer<never, never, WebhookDispatcher.WebhookDispatcher>
    >()
    expect(WebhookDispatcher.subscribe).type.not.toBeCallableWith({} as PubSub.PubSub<string>)
  })
})

describe("WebhookConfig", () => {
  test("an unknown member of an endpoint doesn't compile", () => {
    expect(WebhookConfig.layer).type.toBeCallableWith({ "*": [{ url: "https://example.com/hooks" }] })
    expect(WebhookConfig.layer).type.not.toBeCallableWith({ "*": [{ url: "https://example.com/hooks", sekret: "x" }] })
    expect(WebhookConfig.layer).type.not.toBeCallableWith({ "*": [{}] })
  })
})

describe("WebhookVerifier", () => {
  test("the middleware takes the webhook off the app's needs", () => {
    type Guarded = ReturnType<typeof WebhookVerifier.middleware<"broken", WebhookVerifier.CurrentWebhook>>
    expect<Effect.Effect.Error<Guarded>>().type.toBe<"broken">()
    expect<WebhookVerifier.CurrentWebhook>().type.not.toBeAssignableTo<Effect.Effect.Context<Guarded>>()
    expect<WebhookVerifier.WebhookVerifier>().type.toBeAssignableTo<Effect.Effect.Context<Guarded>>()
  })
})
