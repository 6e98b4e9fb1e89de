import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as HttpServer from "@effect/platform/HttpServer"
import { describe, expect, it } from "@effect/vitest"
import { WebhookVerifier } from "effect-webhooks"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import { createServer } from "node:http"
import { App, Orders } from "./orders.js"
import { receiver } from "./receiver.js"

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

describe("examples", () => {
  it.live("the order service's events reach the receiver, verified", () =>
    Effect.gen(function*() {
      const bodies = yield* Queue.unbounded<string>()
      const logger = Logger.make(({ annotations, message }) => {
        if (String(message) !== "received") return
        bodies.unsafeOffer(String(Option.getOrThrow(HashMap.get(annotations, "body"))))
      })
      const server = HttpServer.serve(receiver).pipe(
        Layer.provide(WebhookVerifier.layer({ secrets: [Redacted.make(secret)] })),
        Layer.provideMerge(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })),
        Layer.provide(Logger.replace(Logger.defaultLogger, logger))
      )
      yield* Effect.gen(function*() {
        const url = yield* HttpServer.addressFormattedWith((address) => Effect.succeed(`${address}/hooks`))
        const environment = ConfigProvider.fromMap(
          new Map([
            ["WEBHOOKS_CONFIG", JSON.stringify({ OrderPlaced: [{ url, secret }] })],
            ["WEBHOOKS_EGRESS_ALLOW", "127.0.0.1"]
          ])
        )
        yield* Effect.gen(function*() {
          const { place } = yield* Orders
          yield* place(42)
          expect(JSON.parse(yield* Queue.take(bodies))).toMatchObject({
            event_type: "OrderPlaced",
            aggregate_id: "order-1",
            data: { total: 42, currency: "EUR" }
          })
        }).pipe(Effect.provide(App), Effect.withConfigProvider(environment))
      }).pipe(Effect.provide(server))
    }))
})
