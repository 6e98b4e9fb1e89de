import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { CircuitBreakers } from "../../src/http/CircuitBreakers.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import { execute, head } from "../support/driving.js"
import type { Peer } from "../support/peers.js"
import { closedPort, eventually, every, httpPeer, tcpPeer } from "../support/peers.js"
import { quiet } from "../support/recording.js"

/** The exported client on real sockets, its waits short. */
const real = (options: ResilientHttpClient.Options = {}) =>
  Layer.provide(
    ResilientHttpClient.layer({ ...options, retry: { jitter: 0, baseDelay: "10 millis", ...options.retry } }),
    NodeHttpClient.layerUndici
  )

const short = real({ attemptTimeout: "300 millis", keyConcurrency: 1, retry: { maxRetries: 0 } })

const stateOf = (peer: Peer) =>
  Effect.flatMap(CircuitBreakers, (breakers) => Effect.map(breakers.state(peer.url), (state) => state.name))

const head200 = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
const chunkedHead = `${head200}transfer-encoding: chunked\r\n\r\n`
const complete = (body: string) => `${head200}content-length: ${body.length}\r\n\r\n${body}`

describe("case 4, on sockets", () => {
  const resetting = tcpPeer((socket) => socket.resetAndDestroy())

  it.scopedLive("a reset after the request was written: a POST without an id is not retried", () =>
    Effect.gen(function*() {
      const peer = yield* resetting
      const error = yield* Effect.flip(head(peer.url, {}))
      expect(error).toMatchObject({ _tag: "RequestError", reason: "Transport" })
      expect(ResilientHttpClient.transportFailure(error)).toMatchObject({ kind: "connection", neverLeft: false })
      expect(peer.requests()).toBe(1)
    }).pipe(Effect.provide(real()), quiet))

  it.scopedLive("a reset after the request was written: a POST with an id is, N + 1 requests in all", () =>
    Effect.gen(function*() {
      const peer = yield* resetting
      const error = yield* Effect.flip(head(peer.url))
      expect(error.message).toContain("attempts made: 4")
      expect(peer.requests()).toBe(4)
    }).pipe(Effect.provide(real()), quiet))

  it.scopedLive("ECONNREFUSED: a POST without an id is retried", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(head(yield* closedPort, {}))
      expect(ResilientHttpClient.transportFailure(error)).toEqual({
        kind: "connect",
        code: "ECONNREFUSED",
        neverLeft: true
      })
      expect(error.message).toContain("attempts made: 4")
    }).pipe(Effect.provide(real()), quiet))

  it.scopedLive("a stale keep-alive connection: N + 1 requests in all", () =>
    Effect.gen(function*() {
      const peer = yield* tcpPeer((socket, n) => n === 1 ? socket.write(complete("")) : socket.destroy())
      expect((yield* head(peer.url)).status).toBe(200)
      yield* Effect.flip(head(peer.url))
      expect(peer.requests()).toBe(1 + 2)
    }).pipe(Effect.provide(real({ retry: { maxRetries: 1 } })), quiet))
})

describe("case 5, on sockets", () => {
  for (const [name, call] of [["executeHead", head], ["execute", execute]] as const) {
    it.scopedLive(`${name} interrupted during an attempt: the socket closes, the breaker is unchanged`, () =>
      Effect.gen(function*() {
        const peer = yield* tcpPeer(() => {})
        for (let i = 1; i <= 6; i++) {
          const fiber = yield* Effect.fork(
            call(peer.url) as Effect.Effect<
              unknown,
              ResilientHttpClient.ResilientHttpClientError,
              ResilientHttpClient.ResilientHttpClient
            >
          )
          yield* eventually("the request", () => peer.requests() === i)
          expect(Exit.isInterrupted(yield* Fiber.interrupt(fiber))).toBe(true)
          yield* eventually("the socket's end", () => peer.open() === 0)
        }
        expect(yield* stateOf(peer)).toBe("Closed")
      }).pipe(Effect.provide(real()), quiet))
  }
})

describe("case 5, between the head and the body", () => {
  it.scopedLive("interrupted the moment the head is there: the socket closes", () =>
    Effect.gen(function*() {
      const peer = yield* tcpPeer((socket) => {
        socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        every(socket, 50, () => socket.write("1\r\nx\r\n"))
      })
      const { executeHead } = yield* ResilientHttpClient.ResilientHttpClient
      for (let i = 0; i < 10; i++) {
        const fiber: Fiber.RuntimeFiber<unknown, unknown> = yield* Effect.fork(
          executeHead(Effect.succeed(HttpClientRequest.post(peer.url)), {
            url: peer.url,
            onHead: () => fiber.unsafeInterruptAsFork(FiberId.none)
          })
        )
        expect(Exit.isInterrupted(yield* Fiber.await(fiber))).toBe(true)
      }
      yield* eventually("the sockets' end", () => peer.open() === 0)
    }).pipe(Effect.provide(real()), quiet))
})

describe("case 6: a complete 2xx head is a success, whatever its body does", () => {
  const bodies: ReadonlyArray<readonly [string, Effect.Effect<Peer, never, Scope.Scope>, (bytes: Uint8Array) => void]> =
    [
      [
        "drips",
        tcpPeer((socket) => {
          socket.write(chunkedHead)
          every(socket, 50, () => socket.write("1\r\nx\r\n"))
        }),
        (bytes) => {
          expect(bytes.length).toBeGreaterThan(0)
          expect(bytes.length).toBeLessThan(10)
        }
      ],
      [
        "never comes",
        tcpPeer((socket) => socket.write(`${head200}content-length: 10\r\n\r\n`)),
        (bytes) => expect(bytes.length).toBe(0)
      ],
      [
        "floods",
        tcpPeer((socket) => {
          const chunk = `10000\r\n${"x".repeat(0x10000)}\r\n`
          const flood = () => {
            while (!socket.destroyed && socket.write(chunk)) { /* until the kernel has enough */ }
          }
          socket.on("drain", flood)
          socket.write(chunkedHead)
          flood()
        }),
        (bytes) => expect(bytes.length).toBe(16_384)
      ],
      [
        "breaks off",
        tcpPeer((socket) => socket.end(`${head200}content-length: 100\r\n\r\n0123456789`)),
        (bytes) => expect(bytes.length).toBeLessThanOrEqual(10)
      ],
      [
        "is reset",
        tcpPeer((socket) => {
          socket.write(`${head200}content-length: 100\r\n\r\n0123456789`)
          setTimeout(() => socket.resetAndDestroy(), 50)
        }),
        (bytes) => expect(bytes.length).toBe(10)
      ],
      [
        "is malformed",
        tcpPeer((socket) => {
          socket.write(`${chunkedHead}5\r\nhello\r\n`)
          setTimeout(() => socket.write("zz\r\nnonsense\r\n"), 20)
        }),
        (bytes) => expect(Buffer.from(bytes).toString()).toBe("hello")
      ]
    ]

  for (const [name, peerOf, look] of bodies) {
    it.scopedLive(`${name}: executeHead succeeds, the socket is destroyed, the slot freed`, () =>
      Effect.gen(function*() {
        const peer = yield* peerOf
        for (let i = 0; i < 2; i++) {
          const answer = yield* head(peer.url)
          expect(answer).toMatchObject({ status: 200, attempts: 1, complete: false })
          look(answer.body)
          yield* eventually("the socket's end", () => peer.open() === 0)
        }
        expect(peer.requests()).toBe(2)
        expect(yield* stateOf(peer)).toBe("Closed")
      }).pipe(Effect.provide(short)))
  }

  it.scopedLive("is complete within the caps: it is kept, and so is the connection", () =>
    Effect.gen(function*() {
      const peer = yield* httpPeer((_, response) => response.end("thank you"))
      for (let i = 0; i < 3; i++) {
        const answer = yield* head(peer.url)
        expect({ ...answer, headers: {}, body: Buffer.from(answer.body).toString() }).toEqual(
          { status: 200, headers: {}, attempts: 1, complete: true, body: "thank you" }
        )
      }
      expect(peer.connections()).toBe(1)
    }).pipe(Effect.provide(short)))

  it.scopedLive("a 103 every 100 ms for ever: attempt timeout, the socket destroyed", () =>
    Effect.gen(function*() {
      const peer = yield* tcpPeer((socket) =>
        every(socket, 100, () => socket.write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"))
      )
      const [elapsed, error] = yield* Effect.timed(Effect.flip(head(peer.url)))
      expect(error._tag).toBe("AttemptTimeout")
      expect(Duration.toMillis(elapsed)).toBeGreaterThanOrEqual(300)
      yield* eventually("the socket's end", () => peer.open() === 0)
    }).pipe(Effect.provide(short)))

  it.scopedLive("a head that drips for ever: attempt timeout", () =>
    Effect.gen(function*() {
      const peer = yield* tcpPeer((socket) => {
        socket.write("HTTP/1.1 200 OK\r\n")
        every(socket, 50, () => socket.write("x-a: b\r\n"))
      })
      expect((yield* Effect.flip(head(peer.url)))._tag).toBe("AttemptTimeout")
      yield* eventually("the socket's end", () => peer.open() === 0)
    }).pipe(Effect.provide(short)))

  for (
    const [name, answer] of [
      ["no HTTP at all", "SSH-2.0-OpenSSH_9.6\r\n\r\n"],
      ["a head of more than 16 KiB", `HTTP/1.1 200 OK\r\n${"x-filler: canary\r\n".repeat(2000)}\r\n`],
      ["two different lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy"],
      ["status 000", "HTTP/1.1 000 Canary\r\ncontent-length: 0\r\n\r\n"]
    ] as const
  ) {
    it.scopedLive(`${name}: a typed protocol failure without the peer's words`, () =>
      Effect.gen(function*() {
        const peer = yield* tcpPeer((socket) => socket.write(answer))
        const error = yield* Effect.flip(head(peer.url))
        expect(ResilientHttpClient.transportFailure(error)?.kind).toBe("protocol")
        expect(error.message.toLowerCase()).not.toContain("canary")
      }).pipe(Effect.provide(short)))
  }

  it.scopedLive("status 999: an answer, not a crash", () =>
    Effect.gen(function*() {
      const peer = yield* tcpPeer((socket) => socket.write("HTTP/1.1 999 Custom\r\ncontent-length: 0\r\n\r\n"))
      expect((yield* head(peer.url)).status).toBe(999)
      expect((yield* Effect.flip(execute(peer.url)))._tag).toBe("RequestError")
    }).pipe(Effect.provide(short)))

  it.scopedLive("the peer closes right after accept: a typed failure", () =>
    Effect.gen(function*() {
      const peer = yield* tcpPeer((socket) => socket.end())
      expect((yield* Effect.flip(head(peer.url)))._tag).toBe("RequestError")
    }).pipe(Effect.provide(short)))

  it.scopedLive("a second answer on one connection is never taken for the next request's", () =>
    Effect.gen(function*() {
      const peer = yield* tcpPeer((socket, n) =>
        socket.write(n === 1 ? complete("own") + complete("smuggled") : complete("own"))
      )
      const bodies: Array<string> = []
      for (let i = 0; i < 3; i++) bodies.push(Buffer.from((yield* head(peer.url)).body).toString())
      expect(bodies).not.toContain("smuggled")
    }).pipe(Effect.provide(real()), quiet))
})

describe("execute buffers the body inside the attempt", () => {
  it.scopedLive("a broken body is a failed attempt, and retried", () =>
    Effect.gen(function*() {
      const peer = yield* tcpPeer((socket, n) =>
        n < 3 ? socket.end(`${head200}content-length: 100\r\n\r\nbroken`) : socket.write(complete("whole"))
      )
      const response = yield* execute(peer.url)
      expect(yield* response.text).toBe("whole")
      expect(peer.requests()).toBe(3)
    }).pipe(Effect.provide(real()), quiet))

  it.scopedLive("a body that drips past the attempt timeout: AttemptTimeout", () =>
    Effect.gen(function*() {
      const peer = yield* tcpPeer((socket) => {
        socket.write(chunkedHead)
        every(socket, 50, () => socket.write("1\r\nx\r\n"))
      })
      expect((yield* Effect.flip(execute(peer.url)))._tag).toBe("AttemptTimeout")
      yield* eventually("the socket's end", () => peer.open() === 0)
    }).pipe(Effect.provide(short)))

  it.scopedLive("1 MiB fits, one byte more is ResponseTooLarge", () =>
    Effect.gen(function*() {
      const peer = yield* httpPeer((_, response, n) => {
        // Without a length: what is too long shows only as it comes.
        response.write(Buffer.alloc(1_048_576))
        response.end(Buffer.alloc(n - 1))
      })
      const response = yield* execute(peer.url)
      expect((yield* response.arrayBuffer).byteLength).toBe(1_048_576)
      const error = yield* Effect.flip(execute(peer.url))
      expect(error).toMatchObject({ _tag: "ResponseTooLarge", attempts: 1, maxBytes: 1_048_576 })
      expect(peer.requests()).toBe(2)
    }).pipe(Effect.provide(real()), quiet))

  it.scopedLive("what is much too long is ResponseTooLarge, not retried, and its socket destroyed", () =>
    Effect.gen(function*() {
      const peer = yield* httpPeer((_, response) => {
        response.end(Buffer.alloc(20_000_000))
      })
      const error = yield* Effect.flip(execute(peer.url))
      expect(error._tag).toBe("ResponseTooLarge")
      yield* eventually("the socket's end", () => peer.open() === 0)
      expect(peer.requests()).toBe(1)
      expect(yield* stateOf(peer)).toBe("Closed")
    }).pipe(Effect.provide(real()), quiet))

  it.scopedLive("a redirect is never followed", () =>
    Effect.gen(function*() {
      const peer = yield* httpPeer((_, response) => response.writeHead(307, { location: "/elsewhere" }).end())
      expect((yield* head(peer.url)).status).toBe(307)
      expect(yield* Effect.flip(execute(peer.url))).toMatchObject({ _tag: "ResponseError", response: { status: 307 } })
      expect(peer.requests()).toBe(2)
    }).pipe(Effect.provide(real()), quiet))
})

describe("case 7: discarded bodies", () => {
  const sized = (bytes: number, status: number) =>
    httpPeer((_, response) => response.writeHead(status).end(Buffer.alloc(bytes, "x")))

  for (const [name, call] of [["executeHead", head], ["execute", execute]] as const) {
    for (const status of [404, 503]) {
      it.scopedLive(`five of 48 KiB in sequence, ${status}, ${name}: one connection in all`, () =>
        Effect.gen(function*() {
          const peer = yield* sized(48 * 1024, status)
          for (let i = 0; i < 5; i++) {
            yield* Effect.exit(
              call(peer.url) as Effect.Effect<unknown, unknown, ResilientHttpClient.ResilientHttpClient>
            )
          }
          expect(peer.requests()).toBe(5)
          expect(peer.connections()).toBe(1)
        }).pipe(Effect.provide(real({ retry: { maxRetries: 0 } }))))
    }
  }

  it.scopedLive("answers without a body in sequence: one connection in all", () =>
    Effect.gen(function*() {
      const peer = yield* httpPeer((_, response) => response.writeHead(204).end())
      for (let i = 0; i < 10; i++) expect((yield* head(peer.url)).status).toBe(204)
      expect(peer.connections()).toBe(1)
    }).pipe(Effect.provide(real())))

  it.scopedLive("five attempts of one call: one connection in all", () =>
    Effect.gen(function*() {
      const peer = yield* sized(48 * 1024, 503)
      expect((yield* head(peer.url)).attempts).toBe(5)
      expect(peer.connections()).toBe(1)
    }).pipe(Effect.provide(real({ retry: { maxRetries: 4 } })), quiet))

  it.scopedLive("one of 1 MiB: its socket is destroyed", () =>
    Effect.gen(function*() {
      const peer = yield* sized(1_048_576, 404)
      for (let i = 0; i < 2; i++) {
        const answer = yield* head(peer.url)
        expect(answer).toMatchObject({ status: 404, complete: false })
        expect(answer.body.length).toBeLessThanOrEqual(16_384)
        yield* eventually("the socket's end", () => peer.open() === 0)
      }
    }).pipe(Effect.provide(real())))

  it.scopedLive("requests are made as the caller wrote them: method, headers, bytes", () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const peer = yield* httpPeer((request, response) => {
        seen.push([request.method, request.url, request.headers["x-own"], request.headers["x-correlation-id"]])
        response.end()
      })
      const client = yield* ResilientHttpClient.ResilientHttpClient
      const request = HttpClientRequest.put(`${peer.url}/a?b=c`, {
        headers: { "x-own": "1", "x-correlation-id": "given" }
      })
      yield* client.executeHead(Effect.succeed(request), { url: peer.url })
      expect(seen).toEqual([["PUT", "/a?b=c", "1", "given"]])
    }).pipe(Effect.provide(real())))
})
