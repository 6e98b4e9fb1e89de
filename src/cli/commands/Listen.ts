/**
 * `listen`: a local receiver to try deliveries against. It shows each request and whether its signature is valid.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Runtime from "effect/Runtime"
import * as http from "node:http"
import type { AddressInfo, Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as WebhookSignature from "../../webhooks/WebhookSignature.js"
import * as CliError from "../CliError.js"
import * as Secrets from "../Secrets.js"
import * as Signals from "../Signals.js"
import * as Stdio from "../Stdio.js"
import { visible } from "../Visible.js"

export interface Options {
  readonly port: number
  readonly secret: ReadonlyArray<string>
  /** Statuses to answer with, in the order of the requests; the last repeats. */
  readonly respond: ReadonlyArray<number>
  readonly delay: Duration.Duration | undefined
  readonly json: boolean
}

/** Listens on 127.0.0.1 and prints a line a request until SIGINT, SIGTERM or SIGHUP, or until nobody reads stdout any more. */
export const run = (options: Options): Effect.Effect<number, CliError.CliError> =>
  Effect.scoped(Effect.gen(function*() {
    const keys = yield* Secrets.resolve(options.secret, WebhookSignature.parseVerifyingSecret)
    const broken = yield* Deferred.make<never, CliError.CliError>()
    let received = 0
    const server = yield* serve(options.port, (request, response) => {
      const status = options.respond[Math.min(received++, options.respond.length - 1)] ?? 200
      return Effect.gen(function*() {
        const { body, complete } = yield* readBody(request)
        const tooLarge = body.length > maxBytes
        const answered = tooLarge ? 413 : status
        const verdict = tooLarge ? bodyTooLarge : complete ? yield* judge(request, body, keys) : incomplete
        yield* options.json
          ? Stdio.json(jsonLine(request, tooLarge ? empty : body, verdict))
          : Stdio.lines(humanLine(request, complete ? answered : undefined, verdict))
        if (!complete) return
        if (options.delay !== undefined) yield* Effect.sleep(options.delay)
        response.writeHead(answered, tooLarge ? { connection: "close" } : {}).end()
      }).pipe(Effect.catchAll((error) => Deferred.fail(broken, error)))
    })
    const url = `http://127.0.0.1:${server.port}`
    yield* options.json ? Stdio.json({ listening: url }) : Stdio.lines(`listening on ${url}`)
    yield* Effect.raceFirst(Effect.race(Signals.first, Stdio.untilClosed), Deferred.await(broken))
    return CliError.exitCodes.done
  }))

// --- internal

interface Verdict {
  readonly signature: "valid" | "unsigned" | "invalid"
  readonly reason?: string
}

const maxBytes = 1_048_576
const empty = Buffer.alloc(0)
const bodyTooLarge: Verdict = { signature: "invalid", reason: "body-too-large" }
const incomplete: Verdict = { signature: "invalid", reason: "incomplete" }

const serve = (
  port: number,
  handle: (request: http.IncomingMessage, response: http.ServerResponse) => Effect.Effect<unknown>
) =>
  Effect.flatMap(Effect.runtime<never>(), (runtime) => {
    const run = Runtime.runFork(runtime)
    const listener: http.RequestListener = (request, response) => {
      // The line of a request that breaks off is still to be written when its connection has gone.
      let read = false
      request.on("close", () => (read = request.complete))
      const fiber = run(handle(request, response))
      response.on("close", () => read && fiber.unsafeInterruptAsFork(fiber.id()))
    }
    const server = http.createServer(listener)
    // Node.js would answer these by itself, without a word.
    server.on("checkExpectation", listener)
    server.on("connect", (request: http.IncomingMessage, socket: Duplex) => {
      const response = new http.ServerResponse(request)
      response.shouldKeepAlive = false
      response.assignSocket(socket as Socket)
      response.on("finish", () => socket.end())
      listener(request, response)
    })
    server.on("clientError", (_, socket: Duplex) => {
      // What breaks off within a request is told of as that request.
      if (!("_httpMessage" in socket) || socket._httpMessage === null) {
        run(Stdio.notes("a connection sent something that is not HTTP, or broke off before its request was whole"))
      }
      if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
    })
    return Effect.acquireRelease(
      Effect.async<http.Server, CliError.CliError>((resume) => {
        server.once("error", (error) => {
          resume(
            Effect.fail(CliError.failed(`cannot listen on 127.0.0.1:${port}: ${Stdio.reasonOf(Stdio.codeOf(error))}`))
          )
        })
        server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      () =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
    ).pipe(Effect.as({
      get port() {
        return (server.address() as AddressInfo).port
      }
    }))
  })

// The whole body, or one byte more than is allowed, or what came of it until the request broke off.
const readBody = (
  request: http.IncomingMessage
): Effect.Effect<{ readonly body: Buffer; readonly complete: boolean }> =>
  Effect.async((resume) => {
    const chunks: Array<Buffer> = []
    let length = 0
    request.on("data", (chunk: Buffer) => {
      length += chunk.length
      if (length <= maxBytes) {
        chunks.push(chunk)
      } else {
        request.pause()
        resume(Effect.succeed({ body: Buffer.alloc(maxBytes + 1), complete: true }))
      }
    })
    request.on("end", () => resume(Effect.succeed({ body: Buffer.concat(chunks), complete: true })))
    request.on("error", () => resume(Effect.succeed({ body: Buffer.concat(chunks), complete: false })))
  })

const judge = (
  request: http.IncomingMessage,
  body: Buffer,
  keys: ReadonlyArray<WebhookSignature.VerifyingKey>
): Effect.Effect<Verdict> =>
  Effect.map(Clock.currentTimeMillis, (now) => {
    const headers = request.headersDistinct
    const standard = WebhookSignature.hasStandardSignature(headers)
    if (!standard && headers["x-webhook-signature"] === undefined) return { signature: "unsigned" }
    if (keys.length === 0) return { signature: "invalid", reason: "no-secret" }
    const result: Either.Either<unknown, WebhookSignature.VerificationFailed> = standard
      ? WebhookSignature.verify({ headers, body, keys, now })
      : WebhookSignature.verifyBody({ headers, body, keys })
    return Either.match(result, {
      onLeft: ({ reason }) => ({ signature: "invalid" as const, reason }),
      onRight: () => ({ signature: "valid" as const })
    })
  })

const jsonLine = (request: http.IncomingMessage, body: Buffer, verdict: Verdict) => {
  const text = body.toString("utf8")
  return {
    method: request.method,
    path: request.url,
    headers: request.headers,
    body: text,
    ...(Buffer.from(text, "utf8").equals(body) ? undefined : { bodyBase64: body.toString("base64") }),
    ...verdict
  }
}

const humanLine = (request: http.IncomingMessage, status: number | undefined, verdict: Verdict): string => {
  const header = (name: string) => {
    const value = request.headers[name]
    return value === undefined ? "" : `  ${name}=${visible(String(value), 200)}`
  }
  const signature = verdict.reason === undefined ? verdict.signature : `${verdict.signature} (${verdict.reason})`
  return `${request.method} ${visible(request.url ?? "", 200)} -> ${status ?? "broke off"}  signature=${signature}` +
    `${header("webhook-id")}${header("x-correlation-id")}`
}
