/** Receivers whose heads are the trouble: never ending, malformed, of no known status, or meant for somebody else. */
import * as Effect from "effect/Effect"
import { httpPeer } from "../peers.js"
import { answer, drip, type Expected, flood, type HostilePeer, plain, row } from "./peer.js"

const waits = { waits: true }

const timeout = { outcome: "failed", class: "timeout" } as const
const protocol = { outcome: "failed", class: "protocol" } as const
const redirect = { outcome: "failed", class: "redirect", kept: true } as const
const unavailable = { outcome: "failed", class: "http-status", status: 503, kept: true } as const

/** A peer that always writes the same. */
const says = (
  name: string,
  text: string | Buffer,
  expected: Expected,
  options: Partial<HostilePeer> = {}
): HostilePeer => row(name, { request: (socket) => socket.write(text) }, expected, options)

const header = (line: string) => `HTTP/1.1 200 OK\r\n${line}\r\ncontent-length: 0\r\n\r\n`

const day = 24 * 60 * 60 * 1000

export const peers: ReadonlyArray<HostilePeer> = [
  row(
    "head one byte at a time",
    {
      request: (socket) => drip(socket, `HTTP/1.1 200 OK\r\n${"x-a: b\r\n".repeat(100)}`, 5)
    },
    timeout,
    waits
  ),
  row(
    "head without end",
    {
      request: (socket) => {
        socket.write("HTTP/1.1 200 OK\r\n")
        flood(socket, "x-filler: filler\r\n".repeat(100))
      }
    },
    protocol
  ),
  says("a header of 1 MB", header(`x-long: ${"x".repeat(1_048_576)}`), protocol, { atOnce: 10 }),
  says("2 000 headers", `HTTP/1.1 200 OK\r\n${"x-filler: filler\r\n".repeat(2000)}\r\n`, protocol),
  // undici makes an error, with its stack, of each that is beyond its limit.
  says("13 000 headers of one letter", `HTTP/1.1 200 OK\r\n${"a:b\r\n".repeat(13_000)}\r\n`, protocol),
  row(
    "a reason phrase without end",
    {
      request: (socket) => {
        socket.write("HTTP/1.1 200 ")
        flood(socket, "OK ".repeat(500))
      }
    },
    protocol
  ),
  says("a reason phrase of 20 kB", answer(`200 ${"K".repeat(20_000)}`), protocol),
  // The last of it, which is what undici knows of it, is short.
  says("a reason phrase of 1 MB", answer(`200 ${"K".repeat(1_048_579)}`), protocol, { atOnce: 10 }),
  says(
    "half a reason phrase, half headers",
    answer(`200 ${"K".repeat(9000)}`, "", `x-a: ${"a".repeat(9000)}`),
    protocol
  ),
  says("103s with reason phrases of 20 kB", `HTTP/1.1 103 ${"E".repeat(20_000)}\r\n\r\n`, protocol),
  says("NUL in a header", header("x-a: a\0b"), protocol),
  says("NUL in a header's name", header("x-\0a: ab"), protocol),
  says("bare CR in a header", header("x-a: a\rx-b: b"), protocol),
  says("bare LF in a header", header("x-a: a\nx-b: b"), protocol),
  says("bare LF for every line end", "HTTP/1.1 200 OK\ncontent-length: 0\n\n", protocol),
  says("space in a header's name", header("x a: b"), protocol),
  says("space before the colon", header("content-length : 5"), protocol),
  says("a folded header", header("x-a: a\r\n folded"), protocol),
  row("100s without end", {
    request: (socket) => flood(socket, "HTTP/1.1 100 Continue\r\n\r\n".repeat(100))
  }, protocol),
  row(
    "103s without end",
    {
      request: (socket) => flood(socket, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(10))
    },
    protocol
  ),
  row(
    "a 103 every 10 ms",
    {
      request: (socket) => {
        const timer = setInterval(() => socket.write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), 10)
        socket.on("close", () => clearInterval(timer))
      }
    },
    timeout,
    waits
  ),
  says(
    "101",
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    protocol
  ),
  says("status 000", "HTTP/1.1 000 Zero\r\ncontent-length: 0\r\n\r\n", protocol),
  says("status 999", "HTTP/1.1 999 Custom\r\ncontent-length: 0\r\n\r\n", { ...protocol, status: 999, kept: true }),
  says("status 2000", "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n", protocol),
  says("no status", "HTTP/1.1 OK\r\ncontent-length: 0\r\n\r\n", protocol),
  says("not HTTP at all", "SSH-2.0-OpenSSH_9.6\r\n", protocol),
  says("noise", Buffer.from(Array.from({ length: 512 }, (_, index) => (index * 197 + 13) % 256)), protocol),
  row("HTTP/0.9", { request: (socket) => socket.end("<html>welcome</html>\r\n") }, protocol),
  says("HTTP/2 without TLS", Buffer.from("000012040000000000000300000080000400010000000500ffffff", "hex"), protocol),
  {
    name: "redirects to loopback",
    start: () =>
      Effect.gen(function*() {
        const other = yield* httpPeer((_, response) => response.end())
        const peer = yield* plain({
          request: (socket) => socket.write(answer("302 Found", "", `location: ${other.url}/metadata`))
        })
        return { ...peer, complaint: () => other.connections() === 0 ? undefined : "the location was visited" }
      }),
    expected: { ...redirect, status: 302 }
  },
  says("redirects to itself", answer("307 Temporary Redirect", "", "location: /hook"), { ...redirect, status: 307 }),
  says("redirects without a location", answer("301 Moved Permanently"), { ...redirect, status: 301 }),
  says("Retry-After of 10^30", answer("503 Busy", "", `retry-after: 1${"0".repeat(30)}`), {
    ...unavailable,
    retryAfter: day
  }),
  says("two Retry-Afters", answer("503 Busy", "", "retry-after: 5", "retry-after: 70"), unavailable),
  says(
    "a novel for Retry-After",
    answer("503 Busy", "", `retry-after: ${"It was a dark and stormy night. ".repeat(300)}`),
    {
      ...unavailable,
      retryAfter: undefined
    }
  ),
  row("echoes our headers, with scripts and terminal sequences", {
    request: (socket, head) =>
      socket.write(
        answer(
          "400 Bad",
          `\x1b]0;owned\x07\x1b[31m<script>alert(1)</script>\u202e${head}`,
          "x-echo: <script>",
          "set-cookie: a=b"
        )
      )
  }, {
    outcome: "failed",
    class: "http-status",
    status: 400,
    kept: true,
    also: ({ error, excerpt = "" }) =>
      /[\x00-\x1f\x7f-\x9f\u202a-\u202e]|v1,[A-Za-z0-9+/]{8}|canary/.test(`${excerpt}${error?.message}`)
        ? `the report repeats what it must not: ${JSON.stringify(excerpt)}`
        : excerpt.includes("script")
        ? undefined
        : "the excerpt is missing"
  }),
  row(
    "sets a cookie",
    {
      request: (socket, head) =>
        socket.write(/^cookie:/im.test(head) ? answer("200 OK") : answer("400 Bad", "", "set-cookie: a=b; Path=/"))
    },
    { outcome: "failed", class: "http-status", status: 400, kept: true },
    { atOnce: 1 }
  )
]
