import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as http from "node:http"
import * as net from "node:net"

/** A server on loopback, and what it has seen. */
export interface Peer {
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  /** Connections that were accepted. */
  readonly connections: () => number
  /** Connections that are not over. */
  readonly open: () => number
  /** Requests that arrived: heads for `http`, blocks ending in an empty line for `tcp`. */
  readonly requests: () => number
}

/** A peer that speaks HTTP by the book. */
export const httpPeer = (
  answer: (request: http.IncomingMessage, response: http.ServerResponse, n: number) => void
): Effect.Effect<Peer, never, Scope.Scope> =>
  Effect.suspend(() => {
    let requests = 0
    const server = http.createServer((request, response) => {
      request.resume()
      request.on("end", () => answer(request, response, ++requests))
    })
    return listening(server, () => requests)
  })

/** A peer that does as it likes: `answer` is called for each request head that arrives on a socket. */
export const tcpPeer = (answer: (socket: net.Socket, n: number) => void): Effect.Effect<Peer, never, Scope.Scope> =>
  Effect.suspend(() => {
    let requests = 0
    const server = net.createServer((socket) => {
      socket.on("data", (data) => {
        if (data.includes("\r\n\r\n")) answer(socket, ++requests)
      })
    })
    return listening(server, () => requests)
  })

/** An address where nobody listens. */
export const closedPort: Effect.Effect<string> = Effect.scoped(
  Effect.map(tcpPeer(() => {}), (peer) => peer.url)
)

/** Does something every `ms` until the socket closes. */
export const every = (socket: net.Socket, ms: number, act: () => void): void => {
  const timer = setInterval(act, ms)
  socket.on("close", () => clearInterval(timer))
}

/** Waits until something is so; at most two seconds. */
export const eventually = (what: string, holds: () => boolean): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (let i = 0; i < 200; i++) {
      if (holds()) return
      yield* Effect.sleep("10 millis")
    }
    return yield* Effect.die(new Error(`never came about: ${what}`))
  })

/** Puts a server on loopback, for as long as the scope lives. */
export const listening = (server: net.Server, requests: () => number): Effect.Effect<Peer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<Peer & { readonly stop: Effect.Effect<void> }>((resume) => {
      const sockets = new Set<net.Socket>()
      let connections = 0
      server.on("connection", (socket: net.Socket) => {
        connections++
        sockets.add(socket)
        socket.on("error", () => {})
        socket.on("close", () => sockets.delete(socket))
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        if (address === null || typeof address === "string") return resume(Effect.die("no address"))
        resume(Effect.succeed({
          url: `http://127.0.0.1:${address.port}`,
          connections: () => connections,
          open: () => sockets.size,
          requests,
          stop: Effect.async<void>((done) => {
            server.close(() => done(Effect.void))
            for (const socket of sockets) socket.destroy()
          })
        }))
      })
    }),
    (peer) => peer.stop
  )
