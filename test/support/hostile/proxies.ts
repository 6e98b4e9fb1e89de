/** Proxies that are the trouble, on the way to receivers that aren't. */
import * as Effect from "effect/Effect"
import { type Behaviour, drip, type Expected, flood, type HostilePeer, plain } from "./peer.js"

const refused = { outcome: "failed", class: "connect" } as const
const broken = { outcome: "failed", class: "connection" } as const
const timeout = { outcome: "failed", class: "timeout" } as const

const established = "HTTP/1.1 200 OK\r\n\r\n"

/** A proxy that, when it has recovered, is the receiver, too. */
const proxy = (name: string, behaviour: Behaviour, expected: Expected, target?: string): HostilePeer => ({
  name: `proxy: ${name}`,
  start: () =>
    Effect.map(plain(behaviour), (peer) => {
      let recovered = false
      return {
        ...peer,
        get target() {
          return recovered || target === undefined ? peer.target : target
        },
        proxy: peer.url.replace("//", "//user:pass@"),
        recover: () => {
          recovered = true
          peer.recover()
        }
      }
    }),
  expected,
  waits: expected === timeout
})

export const peers: ReadonlyArray<HostilePeer> = [
  proxy("closes at once", { connected: (socket) => socket.destroy() }, refused),
  proxy("resets at once", { connected: (socket) => socket.resetAndDestroy() }, refused),
  proxy("closes on CONNECT", { request: (socket) => socket.destroy() }, refused),
  proxy("ends on CONNECT", { request: (socket) => socket.end() }, refused),
  proxy("resets on CONNECT", { request: (socket) => socket.resetAndDestroy() }, refused),
  proxy("never answers", { request: () => {} }, timeout),
  proxy("answers one byte at a time", {
    request: (socket) => drip(socket, `HTTP/1.1 200 OK\r\n${"x-a: b\r\n".repeat(100)}`, 5)
  }, timeout),
  proxy("407", {
    request: (socket) => socket.write("HTTP/1.1 407 Who\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n")
  }, refused),
  proxy("502, without end", {
    request: (socket) => {
      socket.write("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 99999999999\r\n\r\n")
      flood(socket, "x".repeat(65_536))
    }
  }, refused),
  proxy("101", { request: (socket) => socket.write("HTTP/1.1 101 Other\r\nupgrade: x\r\n\r\n") }, refused),
  proxy("103s without end", { request: (socket) => flood(socket, "HTTP/1.1 103 Hints\r\n\r\n".repeat(100)) }, refused),
  proxy("head without end", {
    request: (socket) => {
      socket.write("HTTP/1.1 200 OK\r\n")
      flood(socket, "x-filler: filler\r\n".repeat(100))
    }
  }, refused),
  proxy("not HTTP at all", { request: (socket) => socket.write("SSH-2.0-OpenSSH_9.6\r\n") }, refused),
  proxy("200 and an answer that nobody asked for", {
    request: (socket) => socket.write(`${established}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n`)
  }, refused),
  proxy("200, then silence", { request: (socket, _, n) => n === 1 && socket.write(established) }, timeout),
  proxy(
    "200, then silence before TLS",
    { request: (socket, _, n) => n === 1 && socket.write(established) },
    timeout,
    "https://127.0.0.1:443/hook"
  ),
  proxy("200, then closes", {
    request: (socket, _, n) => n === 1 ? socket.write(established) : socket.destroy()
  }, broken)
]
