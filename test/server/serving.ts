/** A served API over an SQLite in memory, any of its services replaced, and ways to ask it. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import { expect } from "vitest"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as ApiServer from "../../src/server/ApiServer.js"
import { Endpoint } from "../../src/webhooks/Endpoint.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import { WebhookSender } from "../../src/webhooks/WebhookSender.js"

export const token = "a-token-of-this-test-0123456789"
export const secret = "SeCrEt-that-was-sent"

/** What replaces members of the services. */
export interface Fakes {
  readonly outbox?: Partial<Outbox.Outbox["Type"]>
  readonly deliveries?: Partial<Deliveries.Deliveries["Type"]>
  readonly health?: Partial<EndpointHealth.EndpointHealth["Type"]>
  readonly schema?: Partial<OutboxSchema.OutboxSchema["Type"]>
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- what a test expects of it says what it is
  readonly json: any
}

export interface Serving {
  readonly url: string
  readonly port: number
  readonly services: Context.Context<ApiServer.Services>
  readonly ask: (method: string, path: string, init?: RequestInit) => Effect.Effect<Answer>
  readonly post: (path: string, body: unknown, headers?: Record<string, string>) => Effect.Effect<Answer>
  /** Sends bytes as they are, and gives all that comes back until the server closes or `done` says that it is enough. */
  readonly raw: (text: string | Uint8Array, done?: (received: string) => boolean) => Effect.Effect<string>
  readonly logs: ReadonlyArray<string>
}

const endpoint = (id: string, events: ReadonlyArray<string>) =>
  new Endpoint({
    id,
    url: `https://user:password@hooks.example.com/${id}?key=${secret}`,
    events,
    enabled: true,
    secrets: [],
    headers: { authorization: Redacted.make(secret) },
    timeout: undefined,
    maxConcurrency: undefined,
    rateLimit: undefined,
    ordered: false,
    format: "event",
    tenant: undefined,
    description: undefined
  })

const sender = Layer.succeed(WebhookSender, {
  send: (message, endpoint) =>
    Effect.succeed({
      messageId: message.id,
      eventType: message.eventType,
      endpointId: endpoint.id,
      url: "https://hooks.example.com/",
      outcome: "delivered",
      class: undefined,
      status: 204,
      attempts: 1,
      duration: 3.4,
      correlationId: message.correlationId,
      error: undefined,
      retryAfter: undefined,
      directive: undefined,
      excerpt: undefined
    })
})

const replaced = <I, S extends object>(tag: Context.Tag<I, S>, members: Partial<S> | undefined) =>
  Layer.effect(tag, Effect.map(tag, (real): S => ({ ...real, ...members })))

const services = (fakes: Fakes) => {
  const ground = Layer.mergeAll(
    OutboxSchema.layerTest,
    Endpoints.layerOf([endpoint("orders", ["order.*"]), endpoint("everything", ["*"])]),
    sender
  )
  const real = Layer.provideMerge(
    Layer.mergeAll(Outbox.layer(), Deliveries.layer, EndpointHealth.layer),
    ground
  )
  return Layer.mergeAll(
    replaced(Outbox.Outbox, fakes.outbox),
    replaced(Deliveries.Deliveries, fakes.deliveries),
    replaced(EndpointHealth.EndpointHealth, fakes.health),
    replaced(OutboxSchema.OutboxSchema, fakes.schema)
  ).pipe(Layer.provideMerge(real))
}

/** Serves without a token unless the options give one. */
export const serve = (
  options: ApiServer.Options = {},
  fakes: Fakes = {}
): Effect.Effect<
  Serving,
  ApiServer.ListenFailed | ApiServer.TokenRequired | ApiServer.UnusableHost | ApiServer.UnusableToken,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const logs: Array<string> = []
    const logger = Layer.merge(
      Logger.replace(Logger.defaultLogger, Logger.map(Logger.logfmtLogger, (line) => void logs.push(line))),
      Logger.minimumLogLevel(LogLevel.Debug)
    )
    const context = yield* Layer.build(
      ApiServer.layer({ port: 0, ...options }).pipe(Layer.provideMerge(services(fakes)), Layer.provide(logger))
    )
    const { port, url } = Context.get(context, ApiServer.ApiServer)
    const authorization: Record<string, string> = options.tokens === undefined
      ? {}
      : { authorization: `Bearer ${token}` }
    const ask: Serving["ask"] = (method, path, init) =>
      Effect.promise(async () => {
        const headers = { ...authorization, ...init?.headers as Record<string, string> }
        const response = await fetch(`${url}${path}`, { ...init, method, headers })
        const text = await response.text()
        const isJson = response.headers.get("content-type") === "application/json" && text !== ""
        return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined }
      })
    return {
      url,
      port,
      services: context,
      logs,
      ask,
      post: (path, body, headers) =>
        ask("POST", path, {
          body: typeof body === "string" ? body : JSON.stringify(body),
          headers: { "content-type": "application/json", ...headers }
        }),
      raw: (text, done) =>
        Effect.async((resume) => {
          const socket = net.connect(port, "127.0.0.1", () => socket.write(text))
          let received = ""
          const end = () => {
            socket.destroy()
            resume(Effect.succeed(received))
          }
          socket.on("data", (data) => {
            received += data.toString("latin1")
            if (done?.(received) === true) end()
          })
          socket.on("close", end).on("error", () => {})
        })
    }
  })

/** That an answer is an error of this status and code, in the shape that all have, and says nothing that was sent. */
export const expectError = (answer: Answer, status: number, code: string, path?: string): void => {
  expect([answer.status, answer.json?.error?.code, answer.json?.error?.path]).toEqual([status, code, path])
  expect(answer.headers.get("content-type")).toBe("application/json")
  expect(Object.keys(answer.json)).toEqual(["error"])
  expect(Object.keys(answer.json.error).filter((key) => !["code", "message", "path"].includes(key))).toEqual([])
  expect(typeof answer.json.error.message).toBe("string")
  expect(answer.json.error.message).not.toBe("")
  expect(answer.headers.get("x-correlation-id")).toMatch(/^[A-Za-z0-9_.:-]{1,128}$/)
  expect(answer.text + JSON.stringify([...answer.headers])).not.toContain(secret)
}
