/** The library, delivering over sockets, or to a client that answers at once. */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { ResilientHttpClient, WebhookConfig, WebhookDispatcher, WebhookEvent } from "effect-webhooks"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as ManagedRuntime from "effect/ManagedRuntime"
import type { Contender, Contenders } from "../contending.js"
import { contenders as direct, type Setup } from "./direct.js"

const answering = HttpClient.make((request) =>
  Effect.sync(() => HttpClientResponse.fromWeb(request, new Response(null, { status: 204 })))
)

const inMemory = ({ characters, url }: Setup): Contender => {
  const runtime = ManagedRuntime.make(
    WebhookDispatcher.layer().pipe(
      Layer.provide(ResilientHttpClient.layer()),
      Layer.provide(
        WebhookConfig.layer(
          { Bench: [{ url, secret: "bench-secret-of-more-than-sixteen-bytes" }] },
          { allow: "127.0.0.1" }
        )
      ),
      Layer.provide(Layer.succeed(HttpClient.HttpClient, answering))
    )
  )
  const data = { note: "x".repeat(characters) }
  const one = Effect.flatMap(
    WebhookDispatcher.WebhookDispatcher,
    ({ dispatch }) => Effect.flatMap(WebhookEvent.make({ type: "Bench", data }), dispatch)
  )
  return {
    run: (count) => {
      let left = count
      const fiber = Effect.whileLoop({ while: () => left-- > 0, body: () => one, step: () => undefined })
      return runtime.runPromise(
        Effect.all(Array.from({ length: 10 }, () => fiber), { concurrency: "unbounded", discard: true }).pipe(
          Logger.withMinimumLogLevel(LogLevel.Warning)
        )
      )
    },
    close: () => runtime.dispose()
  }
}

export const contenders: Contenders<Setup> = { sockets: direct["effect-webhooks"]!, "in-memory": inMemory }
