/**
 * What is inferred of the public combinators: value, error and requirements pass through untouched, in both call styles.
 */
import * as CorrelationId from "effect-webhooks/CorrelationId"
import * as ResilientHttpClient from "effect-webhooks/ResilientHttpClient"
import * as RetryPolicy from "effect-webhooks/RetryPolicy"
import type * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import { describe, expect, test } from "tstyche"

interface Need {
  readonly need: unique symbol
}
declare const effect: Effect.Effect<number, "broken", Need>

describe("CorrelationId", () => {
  test("withCorrelationId keeps the effect's type", () => {
    expect(pipe(effect, CorrelationId.withCorrelationId("id"))).type.toBe<typeof effect>()
    expect(CorrelationId.withCorrelationId(effect, "id")).type.toBe<typeof effect>()
  })

  test("an id is text", () => {
    expect(CorrelationId.withCorrelationId).type.not.toBeCallableWith(effect, 1)
    expect(CorrelationId.generate).type.toBe<Effect.Effect<string>>()
  })
})

describe("RetryPolicy", () => {
  test("withRetryPolicy keeps the effect's type", () => {
    expect(pipe(effect, RetryPolicy.withRetryPolicy(RetryPolicy.none))).type.toBe<typeof effect>()
    expect(RetryPolicy.withRetryPolicy(effect, RetryPolicy.make({ maxRetries: 1 }))).type.toBe<typeof effect>()
  })

  test("durations come in any form that Duration reads", () => {
    expect(RetryPolicy.make).type.toBeCallableWith({ baseDelay: "1 second", maxDelay: 30_000 })
    expect(RetryPolicy.make).type.not.toBeCallableWith({ baseDelay: "soon" })
  })
})

describe("ResilientHttpClient", () => {
  test("withKey keeps the effect's type", () => {
    expect(pipe(effect, ResilientHttpClient.withKey("orders"))).type.toBe<typeof effect>()
    expect(ResilientHttpClient.withKey(effect, "orders")).type.toBe<typeof effect>()
  })

  test("withSingleAttempt keeps the effect's type", () => {
    expect(pipe(effect, ResilientHttpClient.withSingleAttempt(2))).type.toBe<typeof effect>()
    expect(ResilientHttpClient.withSingleAttempt(effect, 2)).type.toBe<typeof effect>()
  })

  test("currentAttempt needs nothing", () => {
    expect(ResilientHttpClient.currentAttempt).type.toBe<Effect.Effect<number>>()
  })
})
