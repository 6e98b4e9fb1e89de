/** Receivers whose TLS or whose name is the trouble. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as net from "node:net"
import * as tls from "node:tls"
import type { Said } from "../dns.js"
import type { Certificate } from "./certificates.js"
import { answer, type Expected, type HostilePeer, type Running, serve, type World } from "./peer.js"

const untrusted = { outcome: "failed", class: "tls" } as const
const unresolved = { outcome: "failed", class: "dns" } as const
const timeout = { outcome: "failed", class: "timeout" } as const
const delivered = { outcome: "delivered", status: 200 } as const
const blocked = { outcome: "rejected", class: "blocked", attempts: 0 } as const

const overTls = (
  name: string,
  options: (world: World) => tls.TlsOptions,
  expected: Expected = untrusted
): HostilePeer => ({
  name: `TLS: ${name}`,
  start: (world) => secure(world, options(world), (socket) => socket.on("error", () => {})),
  expected
})

/** A certificate, and an answer that would be a success. */
const showing = (name: string, certificate: (world: World) => Certificate): HostilePeer => overTls(name, certificate)

/** A port that TLS is expected on, and something else there. */
const instead = (name: string, connected: (socket: net.Socket) => void, expected: Expected): HostilePeer => ({
  name: `TLS: ${name}`,
  start: (world) => secure(world, world.certificates.valid, undefined, connected),
  expected,
  waits: expected === timeout
})

const named = (
  name: string,
  label: string,
  said: (n: number) => Said,
  expected: HostilePeer["expected"],
  options: Partial<HostilePeer> = {}
): HostilePeer => ({
  name: `DNS: ${name}`,
  start: (world) =>
    Effect.suspend(() => {
      const host = `${label}.peers.example`
      world.names.set(host, said)
      return Effect.map(
        secure(
          world,
          world.certificates.valid,
          (socket) => socket.end(answer("200 OK", "", "connection: close")),
          undefined,
          host
        ),
        (peer) => ({
          ...peer,
          recover: () => {
            world.names.set(host, () => ["127.0.0.1"])
            peer.recover()
          }
        })
      )
    }),
  expected,
  ...options
})

export const peers: ReadonlyArray<HostilePeer> = [
  showing("expired", ({ certificates }) => certificates.expired),
  showing("for another name", ({ certificates }) => certificates.wrongName),
  showing("self-signed", ({ certificates }) => certificates.selfSigned),
  overTls("1.0", ({ certificates }) => ({
    ...certificates.valid,
    minVersion: "TLSv1",
    maxVersion: "TLSv1",
    ciphers: "DEFAULT@SECLEVEL=0"
  })),
  overTls("HTTP/2 only", ({ certificates }) => ({ ...certificates.valid, ALPNProtocols: ["h2"] })),
  instead("a handshake that hangs", (socket) => socket.resume(), timeout),
  instead("plain text", (socket) => {
    socket.once("data", () => socket.write(answer("400 Bad Request", "this is no TLS")))
  }, untrusted),
  named("no such name", "nxdomain", () => "NXDOMAIN", unresolved),
  named("server failure", "servfail", () => "SERVFAIL", unresolved),
  named("silence", "silent", () => "silent", timeout, { waits: true }),
  named("no address", "empty", () => [], unresolved),
  named("1 000 addresses", "many", () => many, blocked),
  named("a forbidden address among the allowed", "mixed", () => ["127.0.0.1", "127.0.0.2"], blocked),
  named(
    "changing between calls",
    "changing",
    (n) => n % 2 === 1 ? ["127.0.0.1"] : ["127.0.0.2"],
    (n) => n % 2 === 1 ? delivered : blocked,
    { atOnce: 1 }
  )
]

// --- internal

/** Each of them allowed. */
const many = Array.from({ length: 1000 }, (_, index) => `127.1.${index >> 8}.${index & 255}`)

const secure = (
  { certificates }: World,
  options: tls.TlsOptions,
  request?: (socket: net.Socket) => void,
  connected?: (socket: net.Socket) => void,
  host = "127.0.0.1"
): Effect.Effect<Running, never, Scope.Scope> => {
  const server = (options: tls.TlsOptions, handle: (socket: net.Socket) => void) =>
    tls.createServer(options, handle).on("tlsClientError", () => {})
  let hostile: tls.Server | undefined
  let proper: tls.Server | undefined
  return serve({ request, connected }, `https://${host}`, (socket, recovered, handle) => {
    const taking = recovered
      ? proper ??= server(certificates.valid, handle)
      : hostile ??= server(options, handle)
    taking.emit("connection", socket)
  })
}
