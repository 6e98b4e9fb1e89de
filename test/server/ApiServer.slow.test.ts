import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import { serve, type Serving, token } from "./serving.js"

/** Clients that take their time: what each does, how many milliseconds until the server has closed its connection, and what it got. */
interface Client {
  readonly socket: net.Socket
  readonly closed: Effect.Effect<number>
  readonly received: () => string
}

/**
 * A client that doesn't close its side; it sends `head` and then a byte of `tail` (over and over) every 20 ms. When the server has ended its side it sends
 * on: refused, it knows that the server has closed the connection and not just ended it.
 */
const connect = (api: Serving, head: string, tail = ""): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<Client & { readonly timer: NodeJS.Timeout }>((resume) => {
      const socket = net.connect({ port: api.port, host: "127.0.0.1", allowHalfOpen: true })
      const began = performance.now()
      let received = ""
      let at = 0
      let ended = false
      const closed = new Promise<number>((done) => socket.on("close", () => done(performance.now() - began)))
      socket.on("error", () => {}).on("end", () => (ended = true)).on(
        "data",
        (data) => (received += data.toString("latin1"))
      )
      const timer = setInterval(() => {
        const more = tail === "" ? ended ? "x" : "" : tail[at++ % tail.length]!
        if (more !== "" && socket.writable) socket.write(more)
      }, 20)
      socket.on("connect", () => {
        socket.write(head)
        resume(Effect.succeed({ socket, timer, closed: Effect.promise(() => closed), received: () => received }))
      })
    }),
    ({ socket, timer }) =>
      Effect.sync(() => {
        clearInterval(timer)
        socket.destroy()
      })
  )

const post = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
const quick = { requestTimeout: "300 millis" } as const
const tokens = [Redacted.make(token)]

describe.concurrent("a client that takes its time loses its connection", () => {
  it.scopedLive("whatever it does with it", () =>
    Effect.gen(function*() {
      const [open, closed] = [yield* serve(quick), yield* serve({ ...quick, tokens })]
      const clients: Readonly<Record<string, Effect.Effect<Client, never, Scope.Scope>>> = {
        "says nothing": connect(open, ""),
        "sends its head byte by byte": connect(open, "GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nX: ", "x"),
        "sends headers for ever": connect(open, "GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n", "x:1\r\n"),
        "sends empty lines for ever": connect(open, "", "\r\n"),
        "sends its body byte by byte": connect(open, `${post}Content-Length: 1000\r\n\r\n{`, " "),
        "sends chunks of a byte": connect(open, `${post}Transfer-Encoding: chunked\r\n\r\n`, "1\r\n \r\n"),
        "sends a chunk's extension for ever": connect(open, `${post}Transfer-Encoding: chunked\r\n\r\n1;`, "x"),
        "sends trailers for ever": connect(
          open,
          `${post}Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n`,
          "x:1\r\n"
        ),
        "asks whether to go on, and doesn't": connect(open, `${post}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n`),
        "sends a body to no purpose": connect(
          open,
          "POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
          "x"
        ),
        "has no token, and sends its body byte by byte": connect(closed, `${post}Content-Length: 1000\r\n\r\n{`, " "),
        "has no token, and sends chunks of a byte": connect(
          closed,
          `${post}Transfer-Encoding: chunked\r\n\r\n`,
          "1\r\n \r\n"
        ),
        "keeps its connection after an answer": connect(open, "GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        "doesn't close after nonsense": connect(open, "nonsense\r\n\r\n", "x"),
        "doesn't close after a head that is too large": connect(
          open,
          `GET / HTTP/1.1\r\nX: ${"x".repeat(20_000)}`,
          "x"
        ),
        "doesn't close after the last answer": connect(
          open,
          "GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
          "x"
        )
      }
      const took = yield* Effect.forEach(
        Object.entries(clients),
        ([name, client]) =>
          Effect.flatMap(
            client,
            ({ closed }) =>
              Effect.map(Effect.timeoutOption(closed, "8 seconds"), (ended) => [name, ended._tag, ended] as const)
          ),
        { concurrency: "unbounded" }
      )
      for (const [name, tag] of took) expect([name, tag]).toEqual([name, "Some"])
      expect((yield* open.ask("GET", "/v1/stats")).status).toBe(200)
    }), 20_000)

  it.scopedLive("that is, by not reading its answers", () =>
    Effect.gen(function*() {
      const api = yield* serve(quick)
      const client = yield* connect(api, "")
      client.socket.pause()
      const requests = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200)
      for (let i = 0; i < 5; i++) client.socket.write(requests)
      const ended = yield* Effect.timeoutOption(
        Effect.async<void>((resume) => {
          // A socket that isn't read doesn't hear of its end, but of a reset once it writes.
          const timer = setInterval(() => client.socket.write("x"), 100)
          client.socket.on("error", () => {
            clearInterval(timer)
            resume(Effect.void)
          })
        }),
        "10 seconds"
      )
      expect(ended._tag).toBe("Some")
    }), 20_000)
})

describe("connections beyond the bound", () => {
  it.scopedLive("take the place of the oldest that wait for nothing, and keep nobody out", () =>
    Effect.gen(function*() {
      const api = yield* serve({ maxConnections: 8 })
      const idle = yield* Effect.forEach(
        Array.from({ length: 40 }, (_, n) => n),
        (n) => connect(api, n % 2 === 0 ? "" : "GET /v1/stats HTTP/1.1\r\nHost: "),
        { concurrency: 8 }
      )
      const closing = yield* Effect.forEach(
        idle.slice(0, 20),
        ({ closed }) => Effect.timeoutOption(closed, "2 seconds"),
        {
          concurrency: "unbounded"
        }
      )
      expect(closing.map(({ _tag }) => _tag)).toEqual(closing.map(() => "Some"))
      for (let i = 0; i < 20; i++) {
        const answer = yield* api.raw("GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        expect(answer.slice(0, 12)).toBe("HTTP/1.1 200")
      }
    }))

  it.scopedLive("of 1500 that say nothing: whoever asks is answered", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      yield* Effect.forEach(Array.from({ length: 1500 }), () => connect(api, ""), { concurrency: 100, discard: true })
      const before = performance.now()
      expect((yield* api.ask("GET", "/health/ready")).status).toBe(200)
      expect((yield* api.post("/v1/events", { type: "order.paid", data: 1 })).status).toBe(202)
      expect(performance.now() - before).toBeLessThan(2000)
    }), 30_000)

  it.scopedLive("don't take that of a request under way", () =>
    Effect.gen(function*() {
      const api = yield* serve({ maxConnections: 4 }, {
        outbox: {
          enqueue: () => Effect.delay(Effect.succeed({ messageId: "m", duplicate: false, deliveries: 0 }), "500 millis")
        }
      })
      const answer = yield* Effect.fork(api.post("/v1/events", { type: "order.paid", data: 1 }))
      yield* Effect.sleep("100 millis")
      for (let i = 0; i < 20; i++) yield* connect(api, "")
      expect((yield* answer).status).toBe(202)
    }))
})
