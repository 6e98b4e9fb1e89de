import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as http from "node:http"
import * as net from "node:net"
import { expectError, secret, serve, type Serving } from "./serving.js"

const event = { type: "order.paid", data: { total: 42 } }

/** Status, code and correlation id of what came over a socket. */
const parsed = (received: string) => {
  const [head = "", body = ""] = received.split("\r\n\r\n")
  return {
    status: Number(head.slice(9, 12)),
    code: (JSON.parse(body === "" ? "{}" : body) as { readonly error?: { readonly code: string } }).error?.code,
    correlated: /^x-correlation-id: cid_\w{24}\r?$/im.test(head)
  }
}

/** Posts a body in chunks until somebody has had enough; tells the answer and what had been sent by then. */
const stream = (api: Serving, headers: http.OutgoingHttpHeaders, chunks: Iterable<Buffer>) =>
  Effect.async<{ readonly status: number; readonly text: string; readonly sent: number }, Error>((resume) => {
    let sent = 0
    const request = http.request(`${api.url}/v1/events`, {
      method: "POST",
      agent: false,
      headers: { "content-type": "application/json", ...headers }
    })
    request.on("response", (response) => {
      let text = ""
      const before = sent
      response.on("data", (data: Buffer) => (text += data.toString()))
      response.on("end", () => {
        resume(Effect.succeed({ status: response.statusCode ?? 0, text, sent: before }))
        request.destroy()
      })
    })
    request.on("error", (error) => resume(Effect.fail(error)))
    const more = chunks[Symbol.iterator]()
    const push = () => {
      const next = more.next()
      if (next.done === true) return request.end()
      sent += next.value.length
      request.write(next.value, () => setImmediate(push))
    }
    push()
  })

const mebibytes = function*(count: number) {
  for (let i = 0; i < count * 16; i++) yield Buffer.alloc(65_536, "x")
}

describe("bodies that are too large", () => {
  it.scopedLive("are 413 by their Content-Length, before any of it is read", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const answer = yield* api.raw(
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1048577\r\n\r\n",
        (received) => received.includes("\r\n\r\n{")
      )
      expect(parsed(answer)).toEqual({ status: 413, code: "body_too_large", correlated: true })
      expectError(yield* api.post("/v1/events", "x".repeat(1_048_577)), 413, "body_too_large")
      expectError(yield* api.post("/v1/deliveries/dlv_1/replay", "x".repeat(1_048_577)), 413, "body_too_large")
      // A mebibyte is not too large.
      const full = `{"type":"order.paid","data":${" ".repeat(1_048_576 - 30)}1}`
      expect([full.length, (yield* api.post("/v1/events", full)).status]).toEqual([1_048_576, 202])
    }))

  it.scopedLive("are 413 in chunks, and little more than a mebibyte is taken", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const answer = yield* stream(api, {}, mebibytes(64))
      expect([answer.status, (JSON.parse(answer.text) as { error: { code: string } }).error.code]).toEqual([
        413,
        "body_too_large"
      ])
      // What the system holds between the two is some more.
      expect(answer.sent).toBeLessThan(16 * 1_048_576)
    }))

  it.scopedLive("are answered so that whoever sends can read it, however large", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      for (let i = 0; i < 10; i++) {
        expectError(yield* api.post("/v1/events", "x".repeat(11_000_000)), 413, "body_too_large")
        expectError(yield* api.ask("POST", "/v1/stats", { body: "x".repeat(900_000) }), 405, "method_not_allowed")
      }
    }))

  it.scopedLive("don't end the connection if they aren't by much", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const body = "x".repeat(1_200_000)
      const both = yield* api.raw(
        `POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}` +
          "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
      )
      expect(both.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 413", "HTTP/1.1 200"])
    }))
})

describe("Expect", () => {
  it.scopedLive("100-continue is met when the body is wanted, and only then", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const head = (length: number) =>
        `POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`
      const body = JSON.stringify({ ...event, id: "m1" })
      const answer = yield* Effect.async<string>((resume) => {
        let received = ""
        const socket = net.connect(api.port, "127.0.0.1", () => socket.write(head(body.length)))
        socket.on("data", (data) => {
          received += data.toString()
          if (received === "HTTP/1.1 100 Continue\r\n\r\n") socket.write(body)
          if (received.includes("messageId")) {
            socket.destroy()
            resume(Effect.succeed(received))
          }
        })
      })
      expect(answer).toContain("HTTP/1.1 202 Accepted")
      const refused = yield* api.raw(head(2_000_000))
      expect(parsed(refused)).toEqual({ status: 413, code: "body_too_large", correlated: true })
      expect(refused.toLowerCase()).toContain("connection: close")
      expect(parsed(yield* api.raw("GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nExpect: tea\r\n\r\n")))
        .toEqual({ status: 417, code: "expectation_failed", correlated: true })
    }))
})

describe("what isn't HTTP", () => {
  it.scopedLive("is answered in the shape that all errors have", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const cases: ReadonlyArray<readonly [text: string, status: number, code: string]> = [
        [`${secret}\r\n\r\n`, 400, "bad_request"],
        ["GET / HTTP/1.1\r\nBad Header: 1\r\n\r\n", 400, "bad_request"],
        [
          "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
          400,
          "bad_request"
        ],
        [
          "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
          400,
          "bad_request"
        ],
        [`GET / HTTP/1.1\r\nX: ${"x".repeat(20_000)}\r\n\r\n`, 431, "headers_too_large"],
        [`GET /${"x".repeat(20_000)} HTTP/1.1\r\n\r\n`, 431, "headers_too_large"],
        ["OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400, "bad_target"],
        ["GET v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400, "bad_request"],
        ["CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", 405, "method_not_allowed"]
      ]
      for (const [text, status, code] of cases) {
        const answer = yield* api.raw(text)
        expect([text.slice(0, 40), parsed(answer)]).toEqual([text.slice(0, 40), { status, code, correlated: true }])
        expect(answer).not.toContain(secret)
      }
    }))

  it.scopedLive("CONNECT behind a request takes nothing for itself that is the answer to that", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const event = JSON.stringify({ type: "order.created", data: {} })
      const answer = yield* api.raw(
        `POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${event.length}\r\n\r\n${event}` +
          "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n"
      )
      expect(answer).not.toContain(" 405 ")
    }))

  it.scopedLive("a whole URL as the target is what its path is", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const answer = yield* api.raw(
        "GET http://localhost/v1/deliveries?limit=3 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
      )
      expect(answer).toMatch(/^HTTP\/1\.1 200 /)
    }))

  it.scopedLive("an upgrade is not made of anything", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const answer = yield* api.raw(
        "GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
      )
      expect(answer).toMatch(/^HTTP\/1\.1 200 /)
    }))

  it.scopedLive("a request that takes its time is 408", () =>
    Effect.gen(function*() {
      const api = yield* serve({ requestTimeout: "1 second" })
      const [head, body] = yield* Effect.all([
        api.raw("GET /v1/stats HTTP/1.1\r\nHost: "),
        api.raw(
          "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
      ], { concurrency: 2 })
      expect(parsed(head)).toEqual({ status: 408, code: "request_timeout", correlated: true })
      expect(parsed(body)).toEqual({ status: 408, code: "request_timeout", correlated: true })
    }))
})

describe("many at once", () => {
  it.scopedLive("are 429 beyond the bound, with Retry-After; health is not", () =>
    Effect.gen(function*() {
      const go = yield* Deferred.make<void>()
      let waiting = 0
      const api = yield* serve({ maxInFlight: 2 }, {
        outbox: {
          enqueue: () =>
            Effect.sync(() => waiting++).pipe(
              Effect.zipRight(Deferred.await(go)),
              Effect.as({ messageId: "m1", duplicate: false, deliveries: 1 })
            )
        }
      })
      const two = yield* Effect.fork(
        Effect.all([api.post("/v1/events", event), api.post("/v1/events", event)], { concurrency: 2 })
      )
      yield* Effect.repeat(Effect.sleep("10 millis"), { until: () => waiting === 2 })
      const third = yield* api.post("/v1/events", event)
      expectError(third, 429, "too_many_requests")
      expect(third.headers.get("retry-after")).toBe("1")
      expect((yield* api.ask("GET", "/health/live")).status).toBe(200)
      expect((yield* api.ask("GET", "/health/ready")).status).toBe(200)
      yield* Deferred.succeed(go, undefined)
      expect((yield* Fiber.join(two)).map(({ status }) => status)).toEqual([202, 202])
      expect((yield* api.post("/v1/events", event)).status).toBe(202)
    }))

  it.scopedLive("that break off give their places back", () =>
    Effect.gen(function*() {
      const api = yield* serve({ maxInFlight: 1 })
      const head =
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
      for (let i = 0; i < 5; i++) {
        yield* Effect.async<void>((resume) => {
          const socket = net.connect(api.port, "127.0.0.1", () => socket.write(head, () => socket.destroy()))
          socket.on("close", () => resume(Effect.void))
        })
      }
      const free = yield* Effect.repeat(api.ask("GET", "/v1/stats").pipe(Effect.delay("10 millis")), {
        until: ({ status }) => status === 200,
        times: 100
      })
      expect(free.status).toBe(200)
    }))
})

describe("stopping", () => {
  const slow = (started: Deferred.Deferred<void>, go: Deferred.Deferred<void>) => ({
    outbox: {
      enqueue: () =>
        Deferred.succeed(started, undefined).pipe(
          Effect.zipRight(Deferred.await(go)),
          Effect.as({ messageId: "m1", duplicate: false, deliveries: 1 })
        )
    }
  })

  it.scopedLive("answers what is under way, accepts nothing new, and then ends", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const go = yield* Deferred.make<void>()
      const scope = yield* Scope.make()
      const api = yield* Scope.extend(serve({}, slow(started, go)), scope)
      expect((yield* api.ask("GET", "/health/live")).status).toBe(200)
      const answer = yield* Effect.fork(api.post("/v1/events", event))
      yield* Deferred.await(started)
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* Effect.sleep("100 millis")
      expect((yield* Fiber.poll(closing))._tag).toBe("None")
      const refused = yield* Effect.async<string>((resume) => {
        net.connect(api.port, "127.0.0.1").on("error", (error: NodeJS.ErrnoException) =>
          resume(Effect.succeed(error.code ?? "")))
      })
      expect(refused).toBe("ECONNREFUSED")
      yield* Deferred.succeed(go, undefined)
      const { headers, status } = yield* Fiber.join(answer)
      expect([status, headers.get("connection")]).toEqual([202, "close"])
      // Well before a connection would be idle for too long.
      yield* Fiber.join(closing).pipe(Effect.timeoutFail({
        duration: "2 seconds",
        onTimeout: () =>
          new Error("still open")
      }))
    }))

  it.scopedLive("waits no longer than its grace", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const scope = yield* Scope.make()
      const api = yield* Scope.extend(
        serve({ grace: "200 millis" }, slow(started, yield* Deferred.make<void>())),
        scope
      )
      const answer = yield* Effect.fork(Effect.exit(api.raw(
        `POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 23\r\n\r\n{"type":"a","data":  1}`
      )))
      yield* Deferred.await(started)
      yield* Scope.close(scope, Exit.void).pipe(
        Effect.timeoutFail({ duration: "3 seconds", onTimeout: () => new Error("still open") })
      )
      yield* Fiber.join(answer)
    }))
})

describe("a connection with tens of thousands of requests at once", () => {
  it.scopedLive("has a hundred of them begun, and keeps nobody waiting", () =>
    Effect.gen(function*() {
      let begun = 0
      const stats = Effect.suspend(() => {
        begun++
        return Effect.never
      })
      const api = yield* serve({ maxInFlight: 100_000, grace: "100 millis" }, { deliveries: { stats } })
      const flood = yield* Effect.fork(api.raw("GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(85_000)))
      for (let n = 0; n < 10; n++) expect((yield* api.ask("GET", "/health/live")).status).toBe(200)
      expect([begun > 0, begun <= 100, begun]).toEqual([true, true, begun])
      yield* Fiber.interrupt(flood)
    }))

  it.scopedLive("is what a client with that many sees nothing of", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
      const statuses = yield* Effect.forEach(Array.from({ length: 250 }), () =>
        Effect.async<number>((resume) => {
          http.get(`${api.url}/health/live`, { agent }, (response) => {
            response.resume().on("end", () => resume(Effect.succeed(response.statusCode ?? 0)))
          })
        }), { concurrency: 10 })
      expect(new Set(statuses)).toEqual(new Set([200]))
      agent.destroy()
    }))
})
