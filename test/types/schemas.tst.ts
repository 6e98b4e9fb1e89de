/**
 * What the schema bridge and the event constructors infer.
 */
import * as Legacy from "@effect/schema/Schema"
import * as LegacySchema from "effect-webhooks/LegacySchema"
import * as WebhookEvent from "effect-webhooks/WebhookEvent"
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import { describe, expect, test } from "tstyche"

describe("LegacySchema", () => {
  test("fromLegacy keeps type, encoded form and requirements", () => {
    expect(LegacySchema.fromLegacy(Legacy.NumberFromString)).type.toBe<Schema.Schema<number, string>>()
    expect(LegacySchema.fromLegacy(Legacy.Struct({ id: Legacy.String, at: Legacy.Date }))).type.toBeAssignableTo<
      Schema.Schema<{ readonly id: string; readonly at: Date }, { readonly id: string; readonly at: string }>
    >()
  })
})

describe("WebhookEvent", () => {
  test("make fails only with InvalidEvent", () => {
    expect(WebhookEvent.make({ type: "a", data: null })).type.toBe<
      Effect.Effect<WebhookEvent.WebhookEvent, WebhookEvent.InvalidEvent>
    >()
    expect(WebhookEvent.make).type.toBeCallableWith({ type: "a", occurredAt: new Date(), data: 1 })
    expect(WebhookEvent.make).type.not.toBeCallableWith({ data: 1 })
  })

  test("an event is made, not written by hand", () => {
    expect(WebhookEvent.fromDomain).type.not.toBeCallableWith("text")
  })
})
