import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as CorrelationId from "../../src/CorrelationId.js"
import { currentSingle } from "../../src/http/internal/exchange.js"
import * as Own from "../../src/Own.js"
import type { Endpoint } from "../../src/webhooks/Endpoint.js"
import * as Sending from "../../src/webhooks/internal/sending.js"
import type { Message } from "../../src/webhooks/Message.js"
import type { DeliveryReport, SendOptions } from "../../src/webhooks/WebhookSender.js"

/** What a sender finds around it, and what it is handed. */
const around = (heard: Array<unknown>) => (_: Message, __: Endpoint, options?: SendOptions) =>
  Effect.gen(function*() {
    heard.push({
      single: Option.getOrUndefined(yield* FiberRef.get(currentSingle)),
      correlationId: Option.getOrUndefined(yield* CorrelationId.current),
      span: (yield* Effect.option(Effect.currentSpan)).pipe(Option.map(({ name }) => name), Option.getOrUndefined),
      deliveryId: Option.getOrUndefined(HashMap.get(yield* FiberRef.get(FiberRef.currentLogAnnotations), "deliveryId")),
      options: options?.single
    })
    return {} as DeliveryReport
  })

it.effect("a sender that isn't ours finds around it what ours is handed", () =>
  Effect.gen(function*() {
    const heard: Array<unknown> = []
    const message = { correlationId: "cid_1" } as Message
    const parent = yield* Effect.makeSpan("outer")
    const options = { parent, single: 3, annotations: { deliveryId: "dlv_1" } }
    yield* Sending.send({ send: around(heard) }, message, {} as Endpoint, options)
    yield* Sending.send({ send: around(heard) }, message, {} as Endpoint, {})
    yield* Sending.send({ send: Own.register(around(heard)) }, message, {} as Endpoint, options)
    const nothing = { single: undefined, correlationId: undefined, span: undefined, deliveryId: undefined }
    expect(heard).toEqual([
      { single: 3, correlationId: "cid_1", span: "outer", deliveryId: "dlv_1", options: 3 },
      { ...nothing, correlationId: "cid_1", options: undefined },
      { ...nothing, options: 3 }
    ])
  }))
