/** A receiver of webhooks on a real socket: it keeps every request and answers as the test says. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as http from "node:http"
import type { Socket } from "node:net"
import { Webhook } from "standardwebhooks"

/** A request that arrived whole. */
export interface Received {
  /** `webhook-id`. */
  readonly id: string | undefined
  /** The path without its first slash and query: tests give each endpoint one of its own. */
  readonly endpoint: string
  readonly body: Uint8Array
  readonly headers: http.IncomingHttpHeaders
  /** Milliseconds since the epoch, with fractions, by a clock that never jumps within this process. */
  readonly at: number
  /** How many requests came before it, at all endpoints. */
  readonly position: number
  /** Whether its Standard Webhooks signature holds, by the reference library; `undefined` where no secret was given. */
  readonly verified: boolean | undefined
  /** What has become of it: its status, `aborted` when the sender went away first, `open` before. */
  readonly outcome: number | "open" | "aborted"
  /** When it was answered or aborted. */
  readonly endedAt: number | undefined
}

/** How to answer; every member may be left out. */
export interface Answer {
  /** Default: 200. */
  readonly status?: number | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly body?: string | undefined
  /** Milliseconds before the head. */
  readonly delay?: number | undefined
}

/** Nothing is said until `release`, or the connection breaks. */
export type Step = Answer | number | "hold" | "reset"

export interface ReceiverOptions {
  /** Answers a request, once its whole body is there; the request stays open as long as the promise does. Default: 200. */
  readonly answer?: ((request: Received) => Step | Promise<Step>) | undefined
  /** The secret (`whsec_…`) of an endpoint; with one, the signatures of its requests are verified. */
  readonly secret?: ((endpoint: string) => string | undefined) | undefined
  /** Default: one that is free. */
  readonly port?: number | undefined
  /** Called with each request when it has been answered or aborted. */
  readonly ended?: ((request: Received) => void) | undefined
  /** Whether `received` keeps them; default: true. A run that lasts would not have room for them. */
  readonly keep?: boolean | undefined
}

export interface Receiver {
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  /** The requests in the order in which their bodies were complete; grows. */
  readonly received: ReadonlyArray<Received>
  /** The requests that have arrived and are not answered. */
  readonly open: () => ReadonlyArray<Received>
  /** Answers the requests that are held, and no longer holds later ones: `hold` then means this answer. */
  readonly release: (answer?: Answer) => void
  /** Ends all connections. */
  readonly close: () => Promise<void>
}

export const startReceiver = async (options: ReceiverOptions = {}): Promise<Receiver> => {
  const received: Array<Received> = []
  const sockets = new Set<Socket>()
  let position = 0
  let release: (answer: Answer) => void = () => {}
  const released = new Promise<Answer>((resolve) => {
    release = resolve
  })

  const server = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    const chunks: Array<Buffer> = []
    // A sender that goes away in mid-body has delivered nothing: it is the sender's attempt that counts.
    request.on("error", () => {})
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      const body = Buffer.concat(chunks)
      const id = request.headers["webhook-id"]
      const endpoint = (request.url ?? "/").slice(1).replace(/\?.*$/s, "")
      const secret = options.secret?.(endpoint)
      const entry: { -readonly [K in keyof Received]: Received[K] } = {
        id: typeof id === "string" ? id : undefined,
        endpoint,
        body,
        headers: request.headers,
        at: now(),
        position: position++,
        verified: secret === undefined ? undefined : verifies(secret, request.headers, body),
        outcome: "open",
        endedAt: undefined
      }
      if (options.keep !== false) received.push(entry)
      response.on("close", () => {
        entry.outcome = response.writableFinished ? response.statusCode : "aborted"
        entry.endedAt = now()
        options.ended?.(entry)
      })
      respond(request, response, entry).catch((error: unknown) => response.destroy(error as Error))
    })
  })

  const respond = async (request: http.IncomingMessage, response: http.ServerResponse, entry: Received) => {
    const chosen = await (options.answer?.(entry) ?? 200)
    if (chosen === "reset") return request.socket.resetAndDestroy()
    const step = chosen === "hold" ? await released : chosen
    const { body, delay = 0, headers = {}, status = 200 }: Answer = typeof step === "number" ? { status: step } : step
    if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay).unref())
    response.writeHead(status, headers).end(body)
  }

  server.on("connection", (socket) => {
    sockets.add(socket)
    socket.on("error", () => {})
    socket.on("close", () => sockets.delete(socket))
  })
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject)
    server.listen(options.port ?? 0, "127.0.0.1", resolve)
  })
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("no address")
  return {
    url: `http://127.0.0.1:${address.port}`,
    received,
    open: () => received.filter(({ outcome }) => outcome === "open"),
    release: (answer = {}) => release(answer),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      })
  }
}

/** `startReceiver` in a scope. */
export const receiver = (options: ReceiverOptions = {}): Effect.Effect<Receiver, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => startReceiver(options)),
    ({ close }) => Effect.promise(close)
  )

// --- internal

const now = (): number => performance.timeOrigin + performance.now()

const verifies = (secret: string, headers: http.IncomingHttpHeaders, body: Buffer): boolean => {
  const texts = Object.entries(headers).filter((entry): entry is [string, string] => typeof entry[1] === "string")
  try {
    new Webhook(secret).verify(body, Object.fromEntries(texts))
    return true
  } catch {
    return false
  }
}
