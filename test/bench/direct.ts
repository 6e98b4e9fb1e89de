/**
 * `direct`: what a delivery through `WebhookDispatcher`, everything on, costs the sender, against a bare undici loop that signs each request
 * once and against the stock parts of the platform.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { ResilientHttpClient, WebhookConfig, WebhookDispatcher, WebhookEvent } from "effect-webhooks"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { createHmac, randomUUID } from "node:crypto"
import { Agent } from "undici"
import type { Contender } from "./measure.js"

const secret = "bench-secret-of-more-than-sixteen-bytes"
const data = {
  items: Array.from({ length: 10 }, (_, n) => ({ sku: `sku-${n}`, price: n * 1.5 })),
  note: "x".repeat(200)
}
const concurrency = 10

/** `count` deliveries, `concurrency` at a time. */
const loop = async (count: number, one: () => Promise<unknown>): Promise<void> => {
  let left = count
  await Promise.all(Array.from({ length: concurrency }, async () => {
    while (left-- > 0) await one()
  }))
}

const signed = (): { body: Buffer; headers: Record<string, string> } => {
  const body = Buffer.from(
    JSON.stringify({ event_type: "Bench", data, aggregate_id: null, occurred_at: new Date().toISOString() })
  )
  const id = `msg_${randomUUID()}`
  const timestamp = String(Math.floor(Date.now() / 1000))
  const signature = createHmac("sha256", secret).update(`${id}.${timestamp}.`).update(body).digest("base64")
  return {
    body,
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": timestamp,
      "webhook-signature": `v1,${signature}`
    }
  }
}

/** The bare reference. */
const undici = (url: string): Contender => {
  const agent = new Agent()
  const { origin, pathname } = new URL(url)
  return {
    name: "undici",
    run: (count) =>
      loop(count, async () => {
        const response = await agent.request({ origin, path: pathname, method: "POST", ...signed() })
        await response.body.dump()
      }),
    close: () => agent.destroy()
  }
}

/** The same from the platform's own parts: a client that fails on bad statuses, a timeout, retries. */
const stock = (url: string): Contender => ({
  name: "stock parts",
  run: (count) =>
    Effect.runPromise(
      Effect.flatMap(HttpClient.HttpClient, (client) => {
        const resilient = client.pipe(
          HttpClient.filterStatusOk,
          HttpClient.transformResponse(Effect.timeout("10 seconds")),
          HttpClient.retryTransient({ times: 3 })
        )
        const one = Effect.suspend(() => {
          const { body, headers } = signed()
          return resilient.execute(
            HttpClientRequest.post(url, { headers, body: HttpBody.uint8Array(body, "application/json") })
          ).pipe(Effect.flatMap((response) => response.text))
        })
        return Effect.forEach(Array.from({ length: count }), () => one, { concurrency, discard: true })
      }).pipe(Effect.provide(NodeHttpClient.layerUndici))
    ),
  close: () => Promise.resolve()
})

/** The library, everything on. */
const library = (url: string): Contender => ({
  name: "effect-webhooks",
  run: (count) =>
    Effect.runPromise(
      Effect.flatMap(WebhookDispatcher.WebhookDispatcher, ({ dispatch }) =>
        Effect.forEach(
          Array.from({ length: count }),
          () =>
            Effect.flatMap(WebhookEvent.make({ type: "Bench", data }), dispatch).pipe(
              Effect.filterOrDieMessage(
                ({ deliveries }) => deliveries[0]?.outcome === "delivered",
                "a delivery of the benchmark failed"
              )
            ),
          { concurrency, discard: true }
        )).pipe(
          Effect.provide(
            WebhookDispatcher.layer().pipe(
              Layer.provide(ResilientHttpClient.layer()),
              Layer.provide(WebhookConfig.layer({ Bench: [{ url, secret }] }, { allow: "127.0.0.1" })),
              Layer.provide(NodeHttpClient.layerUndici)
            )
          ),
          Logger.withMinimumLogLevel(LogLevel.Warning)
        )
    ),
  close: () => Promise.resolve()
})

/** Reference first. */
export const contenders = (url: string): ReadonlyArray<Contender> => [undici(url), stock(url), library(url)]
