import * as Undici from "@effect/platform-node/Undici"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as net from "node:net"
import { type ConnectOptions, makePool, StaleConnection } from "../../src/http/internal/dispatching.js"
import { turn } from "../../src/http/internal/turn.js"
import { eventually, tcpPeer } from "../support/peers.js"

const agentOf = (options: Undici.Agent.Options = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => new Undici.Agent({ connect: Undici.buildConnector({}), ...options, factory: makePool })),
    (agent) => Effect.promise(() => agent.destroy())
  )

/** One request whose answer is read to its end; its failure is undici's. */
const post = (agent: Undici.Agent, origin: string, signal?: AbortSignal) =>
  Effect.tryPromise({
    try: async () => {
      const { body, statusCode } = await agent.request({ origin, path: "/", method: "POST", body: "x", signal })
      return [statusCode, await body.text()]
    },
    catch: (error) => error
  })

const ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

describe("an aborted exchange", () => {
  for (const [when, said] of [["before", ""], ["after", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"]] as const) {
    it.scopedLive(`${when} the head: its connection is closed, and none is opened in its place`, () =>
      Effect.gen(function*() {
        const peer = yield* tcpPeer((socket) => socket.write(said))
        const agent = yield* agentOf()
        const gone = yield* Effect.forEach(Array.from({ length: 10 }), () =>
          Effect.suspend(() => {
            const controller = new AbortController()
            return Effect.raceFirst(
              Effect.exit(post(agent, peer.url, controller.signal)),
              Effect.zipRight(
                Effect.delay(Effect.sync(() => controller.abort()), "50 millis"),
                Effect.never
              )
            )
          }), { concurrency: "unbounded" })
        expect(gone.every(Exit.isFailure)).toBe(true)
        yield* eventually("the sockets' end", () => peer.open() === 0)
        yield* Effect.sleep("50 millis")
        expect([peer.connections(), peer.open()]).toEqual([10, 0])
      }))
  }

  it.scopedLive("while it connects: the connector is told, and what it still brings is closed", () =>
    Effect.gen(function*() {
      let signal: AbortSignal | undefined
      let bring: Undici.buildConnector.Callback | undefined
      const agent = yield* agentOf({
        connect: (options: ConnectOptions, callback: Undici.buildConnector.Callback) => {
          signal = options.signal
          bring = callback
        }
      })
      const controller = new AbortController()
      const failed = yield* Effect.fork(Effect.exit(post(agent, "http://127.0.0.1:9", controller.signal)))
      yield* eventually("the connecting", () => bring !== undefined)
      expect(signal?.aborted).toBe(false)
      controller.abort()
      expect(Exit.isFailure(yield* failed.await.pipe(Effect.flatten))).toBe(true)
      expect(signal?.aborted).toBe(true)
      let closed = false
      const socket = {
        destroy: () => {
          closed = true
        }
      }
      bring?.(null, socket as net.Socket)
      expect(closed).toBe(true)
    }))
})

describe("a connection that was closed meanwhile", () => {
  const failureOf = (second: (socket: net.Socket) => void, requests: number) =>
    Effect.gen(function*() {
      const peer = yield* tcpPeer((socket, n) => n < requests ? socket.write(ok) : second(socket))
      const agent = yield* agentOf()
      for (let i = 1; i < requests; i++) expect(yield* Effect.zipLeft(post(agent, peer.url), turn)).toEqual([200, "ok"])
      const error = yield* Effect.flip(post(agent, peer.url))
      return [error instanceof StaleConnection, peer.connections()]
    })

  it.scopedLive("a kept one, without a byte of an answer: stale", () =>
    Effect.gen(function*() {
      expect(yield* failureOf((socket) => socket.destroy(), 2)).toEqual([true, 1])
      expect(yield* failureOf((socket) => socket.resetAndDestroy(), 3)).toEqual([true, 1])
    }))

  it.scopedLive("a fresh one, or after the first byte: broken", () =>
    Effect.gen(function*() {
      expect(yield* failureOf((socket) => socket.destroy(), 1)).toEqual([false, 1])
      expect(yield* failureOf((socket) => socket.end("HTTP/1.1 200 OK\r\n"), 2)).toEqual([false, 1])
    }))
})
