/** The canary test of the HTTP API: every route with every kind of answer, over a real receiver that repeats what it is sent. */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as net from "node:net"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as ApiServer from "../../src/server/ApiServer.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import { canaries } from "./canaries.js"
import { client, echo, endpoint } from "./sending.js"
import { watch } from "./watching.js"

const token = canaries["API token"]

/** Every route, with what makes it succeed or fail. Secrets stand where something else belongs. */
const asked = (
  secret: string
): ReadonlyArray<readonly [method: string, path: string, body?: string, headers?: Record<string, string>]> => {
  const text = encodeURIComponent(secret)
  const ids = ["msg_1", "dlv_1", "dlv_2", "dlv_99", "404", "none", text]
  return [
    ["GET", "/health/live"],
    ["GET", "/health/ready"],
    ["GET", "/openapi.json"],
    ["GET", "/docs"],
    ["GET", "/v1/stats"],
    ["GET", "/v1/endpoints"],
    ["GET", "/v1/deliveries"],
    ...ids.flatMap((id) =>
      [
        ["GET", `/v1/messages/${id}`],
        ["GET", `/v1/deliveries/${id}`],
        ["POST", `/v1/deliveries/${id}/cancel`],
        ["POST", `/v1/deliveries/${id}/replay`],
        ["POST", `/v1/endpoints/${id}/test`],
        ["POST", `/v1/endpoints/${id}/disable`, `{"reason":"by hand"}`],
        ["POST", `/v1/endpoints/${id}/recover`, `{"since":"2026-01-01T00:00:00Z"}`],
        ["POST", `/v1/endpoints/${id}/enable`]
      ] as const
    ),
    ["POST", "/v1/events", `{"type":"order.created","data":{"a":1},"id":"msg_1"}`, { "idempotency-key": "key-1" }],
    ["POST", "/v1/events", `{"type":"order.created","data":{"a":2},"id":"msg_1"}`],
    ["POST", "/v1/events", `{"type":"order.created","data":{"a":2}}`, { "idempotency-key": "key-1" }],
    ["POST", "/v1/events", `{"type":"order.created","data":{"a":2}}`, { "idempotency-key": `${secret} ${secret}` }],
    ["POST", "/v1/events", `{"type":"${secret}!","data":1}`],
    ["POST", "/v1/events", `{"type":"a","data":1,"tenant":"${secret}\\u0000"}`],
    ["POST", "/v1/events", `{"type":"a","data":1,"occurred_at":"${secret}"}`],
    ["POST", "/v1/events", `{"type":"a","data":1,"whsec_${secret}":1}`],
    ["POST", "/v1/events", `{"type": ${secret}`],
    ["POST", "/v1/events", `"${secret}"`],
    ["POST", "/v1/events", `[{"type":"a","data":1},{"type":"${secret}`],
    ["POST", "/v1/events", "{}", { "content-type": secret }],
    ["POST", "/v1/events", "{}", { "content-encoding": secret }],
    ["POST", "/v1/events", "x".repeat(1_100_000) + secret],
    ["POST", "/v1/endpoints/404/disable", `{"reason":"${secret}\\n"}`],
    ["POST", "/v1/endpoints/404/recover", `{"since":"${secret}","until":"${secret}"}`],
    ["GET", `/v1/deliveries?cursor=${text}`],
    ["GET", `/v1/deliveries?limit=${text}&state=${text}&endpoint=${text}%00&type=${text}%00`],
    ["GET", `/v1/deliveries?state=${text}`],
    ["GET", `/${text}?token=${text}`],
    ["GET", `/v1/%zz/${text}`],
    ["DELETE", `/v1/events?token=${text}`],
    ["PUT", `/v1/deliveries/${text}`]
  ]
}

/** The services over a database in memory, with an endpoint that repeats what it is sent. */
const services = (url: string) =>
  Layer.mergeAll(Outbox.layer(), Deliveries.layer, EndpointHealth.layer).pipe(
    Layer.provideMerge(WebhookSender.layer()),
    Layer.provideMerge(client()),
    Layer.provideMerge(Layer.effect(
      Endpoints.Endpoints,
      Effect.flatMap(
        Effect.all([endpoint("404", `${url}/404`), endpoint("200", `${url}/200`)]),
        (all) => Effect.map(Layer.build(Endpoints.layerOf(all)), Context.get(Endpoints.Endpoints))
      ).pipe(Effect.scoped)
    )),
    Layer.provideMerge(OutboxSchema.layerTest)
  )

const raw = (port: number, text: string): Promise<string> =>
  new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1", () => socket.end(text))
    let received = ""
    socket.on("data", (data) => {
      received += data.toString("latin1")
      if (received.includes("\r\n\r\n")) socket.destroy()
    })
    socket.on("close", () => resolve(received)).on("error", () => {})
  })

describe("no secret shows in what the API answers, logs and traces", () => {
  it.scopedLive("with a token, without one, and with a wrong one", () => {
    const to = watch()
    return Effect.gen(function*() {
      const peer = yield* echo()
      const context = yield* Layer.build(
        ApiServer.layer({ port: 0, tokens: [Redacted.make(token)] }).pipe(
          Layer.provideMerge(services(peer.url)),
          Layer.provide(to.layer)
        )
      )
      const { port, url } = Context.get(context, ApiServer.ApiServer)
      const statuses = new Set<number>()
      const ask = (authorization: string | undefined, secret: string, every = 5) =>
        Effect.promise(async () => {
          for (const [method, path, body, headers] of asked(secret).filter((_, index) => index % every === 0)) {
            const answer = await fetch(`${url}${path}`, {
              method,
              body: body ?? null,
              headers: {
                ...(body === undefined ? {} : { "content-type": "application/json" }),
                ...(authorization === undefined ? {} : { authorization }),
                "x-correlation-id": `${secret} x`,
                traceparent: secret,
                cookie: secret,
                ...headers
              }
            })
            statuses.add(answer.status)
            to.see(`${method} ${path}`, `${answer.status} ${answer.statusText}\n${JSON.stringify([...answer.headers])}`)
            to.see(`${method} ${path}`, await answer.text())
          }
        })
      yield* ask(`Bearer ${token}`, canaries["whsec_ secret"], 1)
      expect([...statuses].sort()).toEqual([200, 202, 400, 404, 405, 409, 413, 415, 422])
      yield* ask(`Bearer ${token}`, canaries["bearer token"].repeat(3))
      yield* ask(`Bearer ${token.slice(0, -1)}`, canaries["query value"])
      yield* ask(
        `Basic ${Buffer.from(`${canaries["basic user"]}:${canaries["basic password"]}`).toString("base64")}`,
        canaries["header value"]
      )
      yield* ask(undefined, canaries["raw secret"])
      expect(statuses.has(401)).toBe(true)
      for (
        const text of [
          `${token}\r\n\r\n`,
          `GET /${token} HTTP/1.1\r\n\r\n`,
          `GET / HTTP/1.1\r\nHost: ${token}\r\nAuthorization: ${token}\r\n\r\n`,
          `GET / HTTP/1.1\r\nHost: x\r\nX: ${token}\u0000\r\n\r\n`,
          `POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\nContent-Length: 5\r\nContent-Length: ${token}\r\n\r\n`,
          `GET / HTTP/9.${token}\r\n\r\n`,
          `GET /?${"x".repeat(20_000)}${token} HTTP/1.1\r\n\r\n`
        ]
      ) to.see("raw", yield* Effect.promise(() => raw(port, text)))
      expect(to.lines.length).toBeGreaterThan(0)
      expect(to.spanNames()).toEqual(expect.arrayContaining(["ApiServer.request", "ResilientHttpClient.attempt"]))
      to.expectClean()
    }).pipe(Effect.provide(to.layer))
  })

  it.scopedLive("where it can't start", () => {
    const to = watch()
    return Effect.gen(function*() {
      const peer = yield* echo()
      for (
        const options of [
          { port: 0, tokens: [Redacted.make(token.slice(0, 12))] },
          { port: 0, tokens: [Redacted.make(`${token}\n`)] },
          { port: 0, host: "0.0.0.0" },
          { port: Number(new URL(peer.url).port), tokens: [Redacted.make(token)] }
        ]
      ) {
        const exit = yield* Effect.exit(Layer.build(Layer.provide(ApiServer.layer(options), services(peer.url))))
        expect(exit._tag).toBe("Failure")
        to.see("start", exit)
      }
      to.expectClean()
    }).pipe(Effect.provide(to.layer))
  })
})
