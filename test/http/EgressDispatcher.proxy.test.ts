import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as http from "node:http"
import * as https from "node:https"
import * as net from "node:net"
import { inspect } from "node:util"
import * as EgressDispatcher from "../../src/http/EgressDispatcher.js"
import * as EgressPolicy from "../../src/http/EgressPolicy.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import { head } from "../support/driving.js"
import * as Certificates from "../support/hostile/certificates.js"
import { listening } from "../support/peers.js"
import { logs, quiet } from "../support/recording.js"

const certificates = await Certificates.make()

/** A proxy whose every connection leads to `port`, and what it was asked. */
const proxyTo = (port: number, server: http.Server = http.createServer()) => {
  const asked: Array<http.IncomingMessage> = []
  server.on("connect", (request, socket) => {
    asked.push(request)
    const through = net.connect(port, "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n")
      through.pipe(socket).pipe(through)
    })
    socket.on("error", () => through.destroy())
    through.on("error", () => socket.destroy())
  })
  return Effect.map(listening(server, () => asked.length), (peer) => ({ ...peer, asked, port: portOf(peer.url) }))
}

const portOf = (url: string) => Number(new URL(url).port)

const behind = (proxy: string, allow = "") =>
  ResilientHttpClient.layer({ retry: { maxRetries: 0 } }).pipe(
    Layer.provide(EgressDispatcher.layerHttpClient({ ca: certificates.ca, proxy: Redacted.make(proxy) })),
    Layer.provide(EgressPolicy.layer({ allow: Either.getOrThrow(EgressPolicy.parseRules(allow)) }))
  )

const target = (certificate: Certificates.Certificate) =>
  Effect.map(
    listening(https.createServer(certificate, (_, response) => response.writeHead(204).end()), () => 0),
    ({ url }) => portOf(url)
  )

describe("a connection through a proxy", () => {
  it.scopedLive.each(["http", "https"])(
    "by %s speaks TLS with the target, and is used again",
    (scheme) =>
      Effect.gen(function*() {
        const proxy = yield* proxyTo(
          yield* target(certificates.valid),
          scheme === "http" ? http.createServer() : https.createServer(certificates.valid) as unknown as http.Server
        )
        yield* Effect.gen(function*() {
          for (let n = 0; n < 3; n++) expect(yield* head("https://a.peers.example/in")).toMatchObject({ status: 204 })
        }).pipe(Effect.provide(behind(`${scheme}://us%65r:p%C3%A4ss:w@127.0.0.1:${proxy.port}`)))
        expect(proxy.asked.map(({ headers, method, url }) => [method, url, headers.host])).toEqual([
          ["CONNECT", "a.peers.example:443", "a.peers.example:443"]
        ])
        expect(Buffer.from(proxy.asked[0]?.headers["proxy-authorization"]?.slice(6) ?? "", "base64").toString())
          .toBe("user:päss:w")
      }).pipe(quiet)
  )

  it.scopedLive("verifies the certificate of the target as that of its name, and of the proxy as that of its own", () =>
    Effect.gen(function*() {
      const fails = (proxy: { readonly port: number }, scheme: string) =>
        Effect.flip(head("https://a.peers.example/in")).pipe(
          Effect.provide(behind(`${scheme}://user:pass@127.0.0.1:${proxy.port}`)),
          Effect.map(ResilientHttpClient.transportFailure)
        )
      expect(yield* fails(yield* proxyTo(yield* target(certificates.wrongName)), "http"))
        .toMatchObject({ kind: "tls", neverLeft: true })
      const wrong = yield* proxyTo(
        yield* target(certificates.valid),
        https.createServer(certificates.wrongName) as unknown as http.Server
      )
      expect(yield* fails(wrong, "https"))
        .toEqual({ kind: "connect", code: "ERR_TLS_CERT_ALTNAME_INVALID", neverLeft: true })
      expect(wrong.asked).toEqual([])
    }).pipe(quiet))

  it.scopedLive("that it refuses has its status for a code, and shows nothing of the login", () =>
    Effect.gen(function*() {
      const server = http.createServer()
      server.on("connect", (_, socket) => socket.end("HTTP/1.1 407 s3cret\r\n\r\n"))
      const peer = yield* listening(server, () => 0)
      const log = logs()
      const error = yield* Effect.flip(head("https://a.peers.example/in")).pipe(
        Effect.provide(behind(peer.url.replace("//", "//us3cretr:s3cret@"))),
        Effect.provide(log.layer)
      )
      expect(ResilientHttpClient.transportFailure(error))
        .toEqual({ kind: "connect", code: "PROXY_407", neverLeft: true })
      expect(inspect([error, log.lines], { depth: 20 })).not.toMatch(/s3cret|czNjcmV0/)
    }))

  it.scopedLive.each(
    [
      ["https://[::1]/in", "::1", "loopback", 443],
      ["http://a.peers.example/in", "a.peers.example", "scheme", 80],
      ["https://metadata.google.internal/", "metadata.google.internal", "metadata", 443],
      ["https://a.peers.example:25/", "a.peers.example", "port", 25]
    ] as const
  )("to %s is not asked for, and is told of as without a proxy", ([url, host, rule, port]) =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(1)
      const log = logs()
      const error = yield* Effect.flip(head(url)).pipe(
        Effect.provide(behind(`http://127.0.0.1:${proxy.port}`)),
        Effect.provide(log.layer)
      )
      expect(error).toMatchObject({ _tag: "EgressBlocked", host, rule, by: "url" })
      expect(log.lines.filter(({ message }) => message === "egress_blocked").map(({ annotations }) => annotations))
        .toEqual([expect.objectContaining({ host, port, rule })])
      expect(proxy.connections()).toBe(0)
    }))
})

it.effect("an option that is no proxy's URL is a typed error that doesn't repeat it", () =>
  Effect.gen(function*() {
    for (const proxy of ["s3cret", "socks5://us:s3cret@a:1", "http://us:s3cret@a:99999", "http://a/s3cret"]) {
      const error = yield* Effect.flip(Effect.scoped(EgressDispatcher.make({ proxy: Redacted.make(proxy) })))
      expect(error).toMatchObject({ _tag: "InvalidEgressSettings", path: "proxy" })
      expect(inspect(error, { depth: 9 })).not.toContain("s3cret")
    }
  }).pipe(Effect.provide(EgressPolicy.layer())))
