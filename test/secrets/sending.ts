/** Endpoints that hold every kind of secret, and a receiver that gives back whatever it is sent. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as net from "node:net"
import { createServer } from "node:net"
import * as tls from "node:tls"
import * as EgressDispatcher from "../../src/http/EgressDispatcher.js"
import * as EgressPolicy from "../../src/http/EgressPolicy.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import type { Certificate } from "../support/hostile/certificates.js"
import { listening, type Peer } from "../support/peers.js"
import { canaries } from "./canaries.js"

/** The headers of an endpoint that holds secrets. */
export const headers = {
  Authorization: `Bearer ${canaries["bearer token"]}`,
  "X-Basic": `Basic ${Buffer.from(`${canaries["basic user"]}:${canaries["basic password"]}`).toString("base64")}`,
  "X-Api-Key": canaries["header value"]
}

/** An endpoint with every kind of secret in it; `fields` may say otherwise. */
export const endpoint = (id: string, url: string, fields: Partial<Parameters<typeof Endpoint.make>[0]> = {}) =>
  Effect.orDie(Endpoint.make({
    id,
    url: `${url}?key=${canaries["query value"]}`,
    events: ["*"],
    secrets: [
      canaries["raw secret"],
      canaries["secret in base64"],
      canaries["whsec_ secret"],
      canaries["ed25519 secret"],
      { value: canaries["expired secret"], expiresAt: "2020-01-01T00:00:00Z" }
    ],
    headers,
    ...(id === "silent" ? { timeout: "100 millis" } : {}),
    ...fields
  }, { policy: local }))

/** The same with credentials in its URL, as only a host's own code can make it. */
export const withUserinfo = (made: Endpoint.Endpoint, id: string): Endpoint.Endpoint =>
  new Endpoint.Endpoint({
    ...made,
    id,
    url: made.url.replace("://", `://${canaries["user of a URL"]}:${canaries["password of a URL"]}@`)
  })

/** Allows this machine. */
export const local = EgressPolicy.make({
  allow: Either.getOrThrow(EgressPolicy.parseRules("127.0.0.1,*.canary.test"))
})

/** The resilient client over real sockets, behind the guard. */
export const client = (
  options: ResilientHttpClient.Options = {},
  dispatcher: EgressDispatcher.Options = {},
  policy: EgressPolicy.Policy = local
) =>
  ResilientHttpClient.layer({
    attemptTimeout: "10 seconds",
    deadline: "20 seconds",
    ...options,
    retry: { maxRetries: 1, baseDelay: "1 millis", jitter: 0, ...options.retry }
  }).pipe(
    Layer.provide(EgressDispatcher.layerHttpClient(dispatcher)),
    Layer.provide(Layer.succeed(EgressPolicy.EgressPolicy, policy)),
    Layer.orDie
  )

/** A receiver, and the heads and bodies that reached it. */
export interface Echo extends Peer {
  readonly received: ReadonlyArray<string>
}

/**
 * Answers as the path says, and says all of the request again: `/200`, `/404`, … in status text, headers and body (as it is, in hex, in base64 and as JSON), a
 * 3xx in `location` too; `/reset` breaks the connection, `/broken` in the middle of the body, `/silent` says nothing, `/garbage` the request itself, which is no
 * answer, and `/length` two lengths.
 */
export const echo = (certificate?: Certificate): Effect.Effect<Echo, never, Scope.Scope> =>
  Effect.suspend(() => {
    const received: Array<string> = []
    const serve = (socket: net.Socket) => {
      let text = ""
      socket.on("data", (data) => {
        // A TLS handshake.
        if (data[0] === 22) return void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")
        text += data.toString("latin1")
        const [, length] = /\r\ncontent-length: (\d+)/i.exec(text) ?? []
        const end = text.indexOf("\r\n\r\n")
        if (end === -1 || text.length < end + 4 + Number(length ?? 0)) return
        received.push(text)
        answer(socket, text)
        text = ""
      })
    }
    const server = certificate === undefined ? createServer(serve) : tls.createServer({ ...certificate }, serve)
    return Effect.map(listening(server, () => received.length), (peer) => ({
      ...peer,
      url: certificate === undefined ? peer.url : peer.url.replace("http:", "https:"),
      received
    }))
  })

// --- internal

const answer = (socket: net.Socket, request: string): void => {
  const path = /^\S+ \/([^\s?/]*)/.exec(request)?.[1] ?? ""
  if (path === "reset") return void socket.resetAndDestroy()
  if (path === "silent") return
  if (path === "garbage") return void socket.end(request)
  const line = request.replace(/[\r\n]+/g, " ")
  const body = [
    request,
    JSON.stringify(request),
    Buffer.from(request, "latin1").toString("hex"),
    Buffer.from(request, "latin1").toString("base64"),
    ...Object.values(canaries).map((value) => Buffer.from(value.replace(/^wh\w+_/, ""), "base64").toString("hex"))
  ].join("\n")
  const status = /^\d{3,4}$/.test(path) ? path : "200"
  const lengths = path === "length"
    ? `content-length: 1\r\ncontent-length: 2\r\n`
    : `content-length: ${Buffer.byteLength(body)}\r\n`
  const head = `HTTP/1.1 ${status} ${line}\r\nx-echo: ${line}\r\nlocation: http://127.0.0.1/${
    encodeURIComponent(line)
  }?${
    canaries["query value"]
  }\r\nset-cookie: ${line}\r\nwebhook-delivery: ${line}\r\nretry-after: ${line}\r\n${lengths}\r\n`
  if (path === "broken") return void socket.end(`${head}${body.slice(0, 5000)}`)
  socket.end(`${head}${body}`)
}
