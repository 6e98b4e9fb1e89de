/**
 * The server's socket: an HTTP server of Node.js that is patient with nobody, has room for whoever comes, answers what isn't HTTP in the shape that all
 * errors have, and stops only when what is under way has been answered.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import { constTrue } from "effect/Function"
import type * as Scope from "effect/Scope"
import * as http from "node:http"
import type { AddressInfo, Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as CorrelationId from "../../CorrelationId.js"
import { ApiError } from "../ApiError.js"
import * as RequestBody from "./requestBody.js"

export interface Options {
  readonly host: string
  readonly port: number
  /** What is under way when the server stops gets this long. */
  readonly grace: Duration.Duration
  readonly maxConnections: number
  /** Time for a request to arrive; twice of it may pass while nothing of an answer is read. */
  readonly requestTimeout: Duration.Duration
  readonly correlationHeader: string
}

/** Why a port can't be listened on. */
export type Refusal = "in-use" | "not-permitted" | "no-such-address" | "other"

/** Listens until the scope closes. */
export const listen = <R>(
  app: HttpApp.Default<never, R>,
  options: Options
): Effect.Effect<AddressInfo, Refusal, Exclude<R, HttpServerRequest.HttpServerRequest | Scope.Scope> | Scope.Scope> =>
  Effect.gen(function*() {
    // Its span would hold paths, queries and headers; ours doesn't.
    const handle = yield* Effect.locally(
      NodeHttpServer.makeHandler(app),
      HttpMiddleware.currentTracerDisabledWhen,
      constTrue
    )
    const run = yield* FiberSet.makeRuntime()
    const requestTimeout = Math.max(200, Duration.toMillis(options.requestTimeout))
    // By age; with the answers that each has still to get.
    const connections = new Map<Socket, Set<http.ServerResponse>>()
    const server = http.createServer({
      // Node.js would answer by itself, without a word.
      requireHostHeader: false,
      maxHeaderSize: 16_384,
      headersTimeout: Math.min(10_000, requestTimeout),
      requestTimeout,
      keepAliveTimeout: Math.min(5000, requestTimeout),
      connectionsCheckingInterval: Math.min(1000, requestTimeout / 4)
    })
    server.maxHeadersCount = 100
    // What comes in one piece is begun in one turn, in which nobody else gets one: of pipelined requests that would be a thousand and more. This many take some
    // 20 ms, and a connection for each hundred requests costs a client next to nothing.
    server.maxRequestsPerSocket = 100

    // What Node.js has for it turns away whoever comes last: some idle connections would keep everybody out.
    const waits = (socket: Socket) => [...connections.get(socket) ?? []].some((response) => !response.writableEnded)
    server.on("connection", (socket) => {
      connections.set(socket, new Set())
      socket.on("close", () => connections.delete(socket))
      if (connections.size <= options.maxConnections) return
      const oldest = [...connections.keys()].find((one) => !waits(one)) ?? socket
      connections.delete(oldest)
      oldest.destroy()
    })
    // Of a connection on which nothing moves: the answer isn't read. What is late with its request has been told so by then.
    server.setTimeout(2 * requestTimeout, (socket: Socket) => {
      if (!waits(socket)) socket.destroy()
    })

    const listener: http.RequestListener = (request, response) => {
      const open = connections.get(request.socket)
      open?.add(response)
      response.on("close", () => open?.delete(response))
      if (!server.listening) response.shouldKeepAlive = false
      handle(request, response)
    }
    const refuse = (error: ApiError, write: (head: Record<string, string>, body: string) => void) =>
      run(Effect.map(CorrelationId.generate, (id) => {
        const body = JSON.stringify(error.body)
        write({
          "content-type": "application/json",
          "content-length": String(Buffer.byteLength(body)),
          "cache-control": "no-store",
          "x-content-type-options": "nosniff",
          [options.correlationHeader]: id,
          connection: "close"
        }, body)
      }))
    server.on("request", listener)
    server.on("checkContinue", (request: http.IncomingMessage, response: http.ServerResponse) => {
      RequestBody.onContinue(request, () => response.writeContinue())
      listener(request, response)
    })
    server.on("checkExpectation", (_, response: http.ServerResponse) => {
      refuse(expectation, (head, body) => response.writeHead(417, head).end(body))
    })
    const close = (socket: Duplex, refusal: ApiError): void => {
      const pending = "_httpMessage" in socket ? socket._httpMessage : null
      // An answer that has begun can't be taken back, and what comes behind a whole request isn't its answer.
      const spoken = pending instanceof http.ServerResponse && (pending.headersSent || pending.req.complete)
      if (!socket.writable || spoken) {
        socket.destroy()
        return
      }
      // Whoever doesn't close the connection then has it closed.
      run(Effect.delay(Effect.sync(() => socket.destroy()), "1 second"))
      refuse(refusal, (head, body) => {
        const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`).join("")
        socket.end(`HTTP/1.1 ${refusal.status} ${http.STATUS_CODES[refusal.status]}\r\n${lines}\r\n${body}`)
      })
    }
    server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => close(socket, unreadable(error.code)))
    // Node.js takes the connection out of its hands with it, and would close it without a word.
    server.on("connect", (_, socket: Duplex) => {
      socket.on("error", () => socket.destroy())
      close(socket, tunnel)
    })

    yield* Effect.acquireRelease(
      Effect.async<void, Refusal>((resume) => {
        const onError = (error: NodeJS.ErrnoException) => resume(Effect.fail(refusals[error.code ?? ""] ?? "other"))
        server.once("error", onError)
        server.listen({ host: options.host, port: options.port }, () => {
          server.off("error", onError)
          resume(Effect.void)
        })
      }),
      () =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const [socket, open] of connections) {
            // Node.js counts half a head as a request that is under way: a stranger could hold the stop up with it.
            if (open.size === 0) socket.destroy()
            // An answer that is to come says that it is the last.
            for (const response of open) if (!response.headersSent) response.shouldKeepAlive = false
          }
        }).pipe(
          Effect.interruptible,
          Effect.timeoutOption(options.grace),
          Effect.zipRight(Effect.sync(() => server.closeAllConnections()))
        )
    )
    return server.address() as AddressInfo
  })

// --- internal

const refusals: Readonly<Record<string, Refusal>> = {
  EADDRINUSE: "in-use",
  EACCES: "not-permitted",
  EPERM: "not-permitted",
  EADDRNOTAVAIL: "no-such-address",
  EAFNOSUPPORT: "no-such-address",
  ENOTFOUND: "no-such-address",
  EAI_AGAIN: "no-such-address"
}

const expectation = new ApiError({
  status: 417,
  code: "expectation_failed",
  message: "the only expectation that is met is 100-continue"
})

const tunnel = new ApiError({
  status: 405,
  code: "method_not_allowed",
  message: "this is no proxy: CONNECT leads nowhere"
})

const unreadable = (code: string | undefined): ApiError => {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new ApiError({ status: 431, code: "headers_too_large", message: "the headers are larger than 16 KiB" })
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return RequestBody.tooLarge
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new ApiError({ status: 408, code: "request_timeout", message: "the request took too long to arrive" })
    default:
      return new ApiError({ status: 400, code: "bad_request", message: "this is not HTTP, or broke off" })
  }
}
