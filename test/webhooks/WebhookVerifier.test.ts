import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { describe, expect, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Net from "node:net"
import { inspect } from "node:util"
import * as WebhookReplays from "../../src/webhooks/WebhookReplays.js"
import * as WebhookSignature from "../../src/webhooks/WebhookSignature.js"
import * as WebhookVerifier from "../../src/webhooks/WebhookVerifier.js"

const secret = Redacted.make("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
const key = Either.getOrThrow(WebhookSignature.parseSecret(secret))
const body = "{\"test\": 2432232314}"

const headersOf = (options: { id?: string; timestamp?: number; body?: Uint8Array | string } = {}) =>
  Either.getOrThrow(WebhookSignature.sign({ id: "msg_1", timestamp: 0, body, keys: [key], ...options }))
const bodyHeaders = () => ({ "x-webhook-signature": headersOf()["x-webhook-signature"] ?? "" })

describe("verify", () => {
  it.effect("by the Clock, within the tolerance", () =>
    Effect.gen(function*() {
      const verifier = yield* WebhookVerifier.make({ secrets: [secret] })
      const webhook = yield* verifier.verify({ headers: headersOf(), body })
      expect(webhook).toMatchObject({ form: "standard", id: "msg_1", timestamp: 0 })
      expect(Buffer.from(webhook.body).toString()).toBe(body)
      yield* TestClock.adjust("5 minutes")
      yield* verifier.verify({ headers: headersOf(), body })
      yield* TestClock.adjust("1 millis")
      expect(yield* Effect.flip(verifier.verify({ headers: headersOf(), body }))).toMatchObject({
        _tag: "VerificationFailed",
        reason: "too-old"
      })
    }))

  it.effect("reads the body as text and JSON, errors without its values", () =>
    Effect.gen(function*() {
      const verifier = yield* WebhookVerifier.make({ secrets: [secret] })
      const verified = (body: Uint8Array | string) => verifier.verify({ headers: headersOf({ body }), body })
      const Order = Schema.Struct({ data: Schema.Struct({ total: Schema.Number, at: Schema.Date }) })
      const order = yield* verified("{\"data\":{\"total\":5,\"at\":\"2026-01-27T12:00:00Z\"}}")
      expect((yield* order.json(Order)).data.at.getUTCFullYear()).toBe(2026)

      const wrong = yield* verified("{\"data\":{\"total\":\"canary\"}}")
      const error = yield* Effect.flip(wrong.json(Order))
      expect(error).toMatchObject({ reason: "schema", paths: ["data.total", "data.at"] })
      expect(`${inspect(error, { depth: 10 })} ${JSON.stringify(error)} ${error}`).not.toContain("canary")
      expect(yield* Effect.flip((yield* verified("canary")).json(Order))).toMatchObject({ reason: "not-json" })
      const bytes = Uint8Array.from([0xff, 0xfe, 0x00, 0x80])
      expect((yield* verified(bytes)).body).toEqual(bytes)
      expect(yield* Effect.flip((yield* verified(bytes)).text)).toMatchObject({ reason: "not-utf-8" })
      expect(yield* Effect.flip((yield* verified(bytes)).json(Order))).toMatchObject({ reason: "not-utf-8" })
    }))

  it.effect("refuses the second of two with one id, and remembers nothing that wasn't signed", () =>
    Effect.gen(function*() {
      const asked: Array<unknown> = []
      const memory = yield* WebhookReplays.makeMemory()
      const verifier = yield* WebhookVerifier.make({
        secrets: [secret],
        replays: {
          ...memory,
          remember: (id, timestamp) => {
            asked.push([id, timestamp])
            return memory.remember(id, timestamp)
          }
        }
      })
      yield* Effect.flip(verifier.verify({ headers: headersOf(), body: `${body} ` }))
      expect(asked).toEqual([])
      yield* verifier.verify({ headers: headersOf(), body })
      // A later attempt of the same message carries another timestamp.
      expect(yield* Effect.flip(verifier.verify({ headers: headersOf({ timestamp: 7 }), body }))).toMatchObject({
        _tag: "WebhookReplayed",
        id: "msg_1"
      })
      expect(asked).toEqual([["msg_1", 0], ["msg_1", 7]])
      yield* verifier.forget("msg_1")
      yield* verifier.verify({ headers: headersOf(), body })
    }))

  it.effect("takes the body's signature only when asked, and never to mend a standard one", () =>
    Effect.gen(function*() {
      const verifier = yield* WebhookVerifier.make({ secrets: [secret] })
      expect(yield* Effect.flip(verifier.verify({ headers: bodyHeaders(), body }))).toMatchObject({
        reason: "missing-header"
      })
      expect(yield* verifier.verifyEither({ headers: bodyHeaders(), body })).toMatchObject({ form: "body" })
      expect(yield* verifier.verifyEither({ headers: headersOf(), body })).toMatchObject({ form: "standard" })
      const stale = { ...headersOf({ timestamp: 1000 }) }
      expect(yield* Effect.flip(verifier.verifyEither({ headers: stale, body }))).toMatchObject({ reason: "too-new" })
      expect(yield* Effect.flip(verifier.verifyEither({ headers: bodyHeaders(), body: "{}" }))).toMatchObject({
        reason: "no-match"
      })
      expect(yield* Effect.flip(verifier.verifyEither({ headers: {}, body }))).toMatchObject({
        reason: "missing-header"
      })
    }))

  it.effect("says which secret is wrong", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(WebhookVerifier.make({ secrets: [secret, Redacted.make("whsec_c2hvcnQ=")] }))
      expect(error.message).toBe("secrets[1]: holds 5 bytes behind whsec_; 24 to 64 are allowed")
      expect((yield* Effect.flip(WebhookVerifier.make({ secrets: [] }))).reason).toBe("empty")
    }))

  it.effect("from configuration, with a warning for a weak secret", () =>
    Effect.gen(function*() {
      const messages: Array<unknown> = []
      const logger = Logger.make(({ message }) => {
        messages.push(message)
      })
      const layer = WebhookVerifier.layerConfig({
        secrets: Config.array(Config.redacted(), "SECRETS"),
        replays: Config.succeed(WebhookReplays.makeMemory())
      }).pipe(
        Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["SECRETS", "whpk_x,short"]])))),
        Layer.provide(Logger.replace(Logger.defaultLogger, logger))
      )
      expect(yield* Effect.flip(Effect.scoped(Layer.build(layer)))).toMatchObject({
        reason: "kind",
        path: "secrets[0]"
      })
      const weak = WebhookVerifier.layer({ secrets: [Redacted.make("short")] })
      yield* Effect.scoped(Layer.build(Layer.provide(weak, Logger.replace(Logger.defaultLogger, logger))))
      expect(messages).toEqual([["webhook_secret_weak"]])
    }))
})

describe("WebhookReplays.makeMemory", () => {
  it.effect("forgets after the time to live", () =>
    Effect.gen(function*() {
      const memory = yield* WebhookReplays.makeMemory({ timeToLive: "10 minutes" })
      expect(yield* memory.remember("a", 0)).toBe(true)
      yield* TestClock.adjust("599 seconds")
      expect(yield* memory.remember("a", 0)).toBe(false)
      expect(yield* memory.remember("b", 0)).toBe(true)
      yield* TestClock.adjust("1 seconds")
      expect(yield* memory.remember("a", 0)).toBe(true)
      expect(yield* memory.remember("b", 0)).toBe(false)
    }))

  it.effect("is bounded, the oldest go first, and says so once", () =>
    Effect.gen(function*() {
      const messages: Array<unknown> = []
      const logger = Logger.make(({ message }) => {
        messages.push(message)
      })
      const memory = yield* WebhookReplays.makeMemory({ capacity: 2 })
      const answers = yield* Effect.forEach(["a", "b", "b", "c", "a", "c"], (id) => memory.remember(id, 0)).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
      expect(answers).toEqual([true, true, false, true, true, false])
      expect(messages).toEqual([["webhook_replays_full"]])
    }))
})

describe("middleware", () => {
  const serve = <R>(
    app: Effect.Effect<HttpServerResponse.HttpServerResponse, never, R>,
    options?: Partial<WebhookVerifier.Options>
  ) =>
    HttpRouter.empty.pipe(
      HttpRouter.post("/", app),
      HttpServer.serveEffect(),
      Effect.provide(WebhookVerifier.layer({ secrets: [secret], ...options }))
    )
  const post = (headers: Record<string, string>, sent: Uint8Array | string = body) =>
    HttpClientRequest.post("/").pipe(
      HttpClientRequest.setHeaders(headers),
      HttpClientRequest.bodyUint8Array(typeof sent === "string" ? Buffer.from(sent) : sent, "application/json"),
      HttpClient.execute,
      Effect.flatMap((response) => Effect.map(response.text, (text) => [response.status, text] as const)),
      Effect.scoped
    )
  const echo = Effect.gen(function*() {
    const webhook = yield* WebhookVerifier.CurrentWebhook
    return HttpServerResponse.uint8Array(Buffer.concat([Buffer.from(`${webhook.id} `), webhook.body]))
  }).pipe(WebhookVerifier.middleware)
  const run = <A, E>(
    effect: Effect.Effect<A, E, Layer.Layer.Success<typeof NodeHttpServer.layerTest> | Scope.Scope>
  ) => Effect.provide(Effect.scoped(effect), [NodeHttpServer.layerTest, Logger.remove(Logger.defaultLogger)])

  it.effect("hands the verified request over and refuses without a word", () =>
    run(Effect.gen(function*() {
      yield* serve(echo)
      expect(yield* post(headersOf())).toEqual([200, `msg_1 ${body}`])
      expect(yield* post(headersOf(), `${body} `)).toEqual([401, ""])
      expect(yield* post(headersOf({ timestamp: 1000 }))).toEqual([401, ""])
      expect(yield* post({})).toEqual([400, ""])
      expect(yield* post(bodyHeaders())).toEqual([400, ""])
      expect(yield* post({ ...headersOf(), "webhook-timestamp": "0x0" })).toEqual([400, ""])
      expect(yield* post(headersOf({ body: "" }), "")).toEqual([200, "msg_1 "])
    })))

  it.effect("takes the raw bytes, and the app may read its request again", () =>
    run(Effect.gen(function*() {
      const again = Effect.gen(function*() {
        const request = yield* HttpServerRequest.HttpServerRequest
        const streamed = yield* Stream.runCollect(request.stream)
        const buffer = yield* request.arrayBuffer
        const json = yield* Effect.either(request.json)
        return HttpServerResponse.unsafeJson({
          method: request.method,
          text: yield* request.text,
          form: (yield* request.urlParamsBody).length,
          streamed: Buffer.concat(Array.from(streamed)).toString("hex"),
          buffer: Buffer.from(buffer).toString("hex"),
          json: Either.isRight(json) ? json.right : json.left._tag
        })
      }).pipe(Effect.orDie, WebhookVerifier.middleware)
      yield* serve(again)
      const bytes = Uint8Array.from([0xff, 0xfe, 0x00, 0x80])
      const [status, text] = yield* post(headersOf({ body: bytes }), bytes)
      expect([status, JSON.parse(text)]).toEqual([
        200,
        {
          method: "POST",
          text: "\uFFFD\uFFFD\u0000\uFFFD",
          form: 1,
          streamed: "fffe0080",
          buffer: "fffe0080",
          json: "RequestError"
        }
      ])
      expect(JSON.parse((yield* post(headersOf()))[1])).toMatchObject({ json: { test: 2432232314 }, text: body })
    })))

  it.effect("a body over the limit is answered with 413, however it is sent", () =>
    run(Effect.gen(function*() {
      yield* serve(echo, { maxBodySize: 1000 })
      const sized = (size: number) => "x".repeat(size)
      expect(yield* post(headersOf({ body: sized(1000) }), sized(1000))).toEqual([200, `msg_1 ${sized(1000)}`])
      expect(yield* post(headersOf({ body: sized(1001) }), sized(1001))).toEqual([413, ""])
      const chunked = (size: number) =>
        HttpClientRequest.post("/").pipe(
          HttpClientRequest.setHeaders(headersOf({ body: sized(size) })),
          HttpClientRequest.bodyStream(
            Stream.fromIterable(Array.from({ length: size / 100 }, () => Buffer.alloc(100, "x")))
          ),
          HttpClient.execute,
          Effect.map((response) => response.status),
          Effect.scoped
        )
      expect(yield* chunked(1000)).toBe(200)
      expect(yield* chunked(4000)).toBe(413)
      expect(yield* post(headersOf(), sized(5000))).toEqual([413, ""])
    })))

  it.effect("an endless body is cut off", () =>
    run(Effect.gen(function*() {
      yield* serve(echo, { maxBodySize: 1000 })
      const address = yield* HttpServer.addressWith(Effect.succeed)
      const sent = yield* Effect.async<number>((resume) => {
        if (address._tag !== "TcpAddress") return resume(Effect.succeed(-1))
        const socket = Net.connect(address.port, "127.0.0.1")
        let chunks = 0
        const write = () => {
          if (socket.destroyed) return
          chunks++
          socket.write(`3e8\r\n${"x".repeat(1000)}\r\n`, () => setImmediate(write))
        }
        socket.on("error", () => {})
        socket.on("close", () => resume(Effect.succeed(chunks)))
        socket.write("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", write)
      })
      expect(sent).toBeGreaterThanOrEqual(4)
    })))

  it.effect("a repetition is answered with success and not handled again", () =>
    run(Effect.gen(function*() {
      let handled = 0
      const app = Effect.map(WebhookVerifier.CurrentWebhook, () => HttpServerResponse.text(String(++handled))).pipe(
        WebhookVerifier.middleware
      )
      yield* serve(app, { replays: WebhookReplays.makeMemory() })
      expect(yield* post(headersOf())).toEqual([200, "1"])
      expect(yield* post(headersOf({ timestamp: 5 }))).toEqual([200, ""])
      expect(yield* post(headersOf({ id: "msg_2" }))).toEqual([200, "2"])
    })))

  it.effect("what was not handled is taken at the next attempt", () =>
    run(Effect.gen(function*() {
      const answers = [
        Effect.succeed(HttpServerResponse.empty({ status: 503 })),
        Effect.die("broken"),
        Effect.interrupt,
        Effect.succeed(HttpServerResponse.empty({ status: 204 })),
        Effect.succeed(HttpServerResponse.empty({ status: 299 }))
      ]
      const app = Effect.zipRight(
        WebhookVerifier.CurrentWebhook,
        Effect.suspend(() => answers.shift() ?? Effect.die("no more"))
      ).pipe(WebhookVerifier.middleware)
      yield* serve(app, { replays: WebhookReplays.makeMemory() })
      const statuses = yield* Effect.replicateEffect(Effect.map(post(headersOf()), ([status]) => status), 5)
      expect(statuses).toEqual([503, 500, 503, 204, 200])
      expect(answers.length).toBe(1)
    })))

  it.effect("a repetition of what is still being handled is asked to come back", () =>
    run(Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const finish = yield* Deferred.make<number>()
      const app = WebhookVerifier.CurrentWebhook.pipe(
        Effect.zipRight(Deferred.succeed(started, void 0)),
        Effect.zipRight(Deferred.await(finish)),
        Effect.map((status) => HttpServerResponse.empty({ status })),
        WebhookVerifier.middleware
      )
      yield* serve(app, { replays: WebhookReplays.makeMemory() })
      const first = yield* Effect.fork(post(headersOf()))
      yield* Deferred.await(started)
      expect(yield* post(headersOf())).toEqual([425, ""])
      yield* Deferred.succeed(finish, 200)
      expect(yield* Fiber.join(first)).toEqual([200, ""])
      expect(yield* post(headersOf())).toEqual([200, ""])
    })))

  it.effect("interrupted while its id is being remembered: forgotten again", () =>
    Effect.gen(function*() {
      const asked = yield* Deferred.make<void>()
      const forgotten: Array<string> = []
      const app = Effect.as(WebhookVerifier.CurrentWebhook, HttpServerResponse.empty()).pipe(
        WebhookVerifier.middleware
      )
      const request = HttpServerRequest.fromWeb(
        new Request("http://a/", { method: "POST", body, headers: headersOf() })
      )
      const fiber = yield* app.pipe(
        Effect.provideService(HttpServerRequest.HttpServerRequest, request),
        Effect.provide(WebhookVerifier.layer({
          secrets: [secret],
          replays: {
            remember: () =>
              Deferred.succeed(asked, void 0).pipe(Effect.zipRight(Effect.sleep("1 seconds")), Effect.as(true)),
            forget: (id) => Effect.sync(() => forgotten.push(id))
          }
        })),
        Effect.fork
      )
      yield* Deferred.await(asked)
      const interrupted = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust("1 seconds")
      yield* Fiber.join(interrupted)
      expect(forgotten).toEqual(["msg_1"])
    }))

  it.effect("either form, when asked", () =>
    run(Effect.gen(function*() {
      const app = Effect.map(WebhookVerifier.CurrentEitherWebhook, ({ form }) => HttpServerResponse.text(form)).pipe(
        WebhookVerifier.middlewareEither
      )
      yield* serve(app)
      expect(yield* post(headersOf())).toEqual([200, "standard"])
      expect(yield* post(bodyHeaders())).toEqual([200, "body"])
      expect(yield* post(bodyHeaders(), "{}")).toEqual([401, ""])
      expect(yield* post({})).toEqual([400, ""])
    })))
})
