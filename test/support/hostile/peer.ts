/**
 * What a hostile receiver is: a server that misbehaves until it is told to recover, and what a delivery to it must come to.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import type { FailureClass } from "../../../src/webhooks/Outcome.js"
import type { DeliveryReport } from "../../../src/webhooks/WebhookSender.js"
import type { Said } from "../dns.js"
import { listening, type Peer } from "../peers.js"
import type { Certificates } from "./certificates.js"

/** What an attempt may take to a peer that makes us wait, milliseconds. */
export const attemptTimeout = 500

/** A hostile receiver at work. */
export interface Running extends Peer {
  /** Where deliveries go. */
  readonly target: string
  /** The proxy on the way there. */
  readonly proxy?: string | undefined
  /** From now on it answers every request by the book: 200, and the `webhook-id` of the request as the body. */
  readonly recover: () => void
  /** What it saw that it must never see. */
  readonly complaint?: (() => string | undefined) | undefined
}

/** What the receivers of a run share. */
export interface World {
  readonly certificates: Certificates
  /** What DNS says of a name; a name that isn't here doesn't exist. */
  readonly names: Map<string, (n: number) => Said>
}

/** What a delivery must come to. */
export interface Expected {
  readonly outcome: DeliveryReport["outcome"]
  readonly class?: FailureClass | undefined
  readonly status?: number | undefined
  readonly retryAfter?: number | undefined
  /** Whether the connection may be used again; default: no, it is closed. */
  readonly kept?: boolean | undefined
  /** Requests that it took; default 1. */
  readonly attempts?: number | undefined
  /** Anything else; what it returns is wrong. */
  readonly also?: ((report: DeliveryReport) => string | undefined) | undefined
}

/** A row of the table. */
export interface HostilePeer {
  readonly name: string
  readonly start: (world: World) => Effect.Effect<Running, never, Scope.Scope>
  /** `n`: the deliveries from 1. */
  readonly expected: Expected | ((n: number) => Expected)
  /** Deliveries at a time in the long run; default 50. One at a time where the next delivery is to use the connection of the last. */
  readonly atOnce?: number | undefined
  /** Milliseconds between two deliveries; default none. */
  readonly pause?: number | undefined
  /** Repetitions in the long run; default 1 000. */
  readonly repetitions?: number | undefined
  /** Whether it makes us wait; else the attempt timeout is so long that it never comes. */
  readonly waits?: boolean | undefined
  /** With the client's retries, as the direct path does; else one attempt a delivery. */
  readonly retries?: boolean | undefined
  /** Bytes of data in the message. */
  readonly bytes?: number | undefined
}

/** How a peer misbehaves. A member that is left out: by the book. */
export interface Behaviour {
  /** With a connection: whatever comes is left to it. */
  readonly connected?: ((socket: net.Socket) => void) | undefined
  /** With the head of a request, before its body has come. */
  readonly head?: ((socket: net.Socket, head: string, n: number) => void) | undefined
  /** With a whole request; `n` counts those of its connection from 1. */
  readonly request?: ((socket: net.Socket, head: string, n: number) => unknown) | undefined
}

/** A row whose peer speaks plain TCP. */
export const row = (
  name: string,
  behaviour: Behaviour,
  expected: Expected,
  options: Partial<HostilePeer> = {}
): HostilePeer => ({ name, start: () => plain(behaviour), expected, ...options })

/** A peer without TLS. */
export const plain = (behaviour: Behaviour): Effect.Effect<Running, never, Scope.Scope> => serve(behaviour)

/** A peer that serves what `accept` makes of its connections. */
export const serve = (
  behaviour: Behaviour,
  origin = "http://127.0.0.1",
  accept: (socket: net.Socket, recovered: boolean, handle: (socket: net.Socket) => void) => void = (
    socket,
    _,
    handle
  ) => handle(socket)
): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.suspend(() => {
    let recovered = false
    let requests = 0
    const handle = (socket: net.Socket) => {
      socket.on("error", () => {})
      let served = 0
      reading(socket, (head) => {
        requests++
        served++
        if (!recovered) behaviour.head?.(socket, head, served)
      }, (head) => {
        const hostile = !recovered && (behaviour.head !== undefined || behaviour.request !== undefined)
        if (!hostile) socket.write(head.startsWith("CONNECT ") ? "HTTP/1.1 200 OK\r\n\r\n" : proper(head))
        else behaviour.request?.(socket, head, served)
      })
    }
    const server = net.createServer((socket) => {
      if (!recovered && behaviour.connected !== undefined) return behaviour.connected(socket)
      accept(socket, recovered, handle)
    })
    return Effect.map(listening(server, () => requests), (peer) => ({
      ...peer,
      target: `${origin}:${new URL(peer.url).port}/hook`,
      recover: () => {
        recovered = true
      }
    }))
  })

/** An answer with its length. */
export const answer = (status: string, body = "", ...headers: ReadonlyArray<string>): string =>
  `HTTP/1.1 ${status}\r\n${headers.map((header) => `${header}\r\n`).join("")}content-length: ${
    Buffer.byteLength(body)
  }\r\n\r\n${body}`

/** The answer that shows to whom it was given. */
export const proper = (head: string): string => answer("200 OK", /^webhook-id: *(.+)\r$/im.exec(head)?.[1] ?? "")

/** Writes as fast as the socket takes it, for ever. */
export const flood = (socket: net.Socket, chunk: string | Buffer): void => {
  const more = () => {
    while (!socket.destroyed && socket.write(chunk)) { /* until the kernel has enough */ }
  }
  socket.on("drain", more)
  more()
}

/** Writes a text byte by byte. */
export const drip = (socket: net.Socket, text: string, ms: number): void => {
  let at = 0
  const timer = setInterval(() => {
    if (at < text.length) socket.write(text.charAt(at++))
    else clearInterval(timer)
  }, ms)
  socket.on("close", () => clearInterval(timer))
}

// --- internal

/** Cuts what comes into requests. */
const reading = (socket: net.Socket, onHead: (head: string) => void, onRequest: (head: string) => void): void => {
  let buffered = Buffer.alloc(0)
  let head: string | undefined
  let missing = 0
  socket.on("data", (data: Buffer) => {
    buffered = Buffer.concat([buffered, data])
    for (;;) {
      if (head === undefined) {
        const end = buffered.indexOf("\r\n\r\n")
        if (end === -1) return
        head = buffered.toString("latin1", 0, end + 2)
        missing = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0)
        buffered = buffered.subarray(end + 4)
        onHead(head)
      }
      if (buffered.length < missing) return
      buffered = buffered.subarray(missing)
      const whole = head
      head = undefined
      onRequest(whole)
    }
  })
}
