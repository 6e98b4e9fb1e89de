/** Receivers whose bodies are the trouble: endless, lying about their length or coding, or more than one. */
import type * as net from "node:net"
import { gzipSync } from "node:zlib"
import { answer, drip, type Expected, flood, type HostilePeer, row } from "./peer.js"

/** The body is read for two seconds. */
const slow = { repetitions: 300 }

const protocol = { outcome: "failed", class: "protocol" } as const
const delivered = { outcome: "delivered", status: 200 } as const
const unavailable = { outcome: "failed", class: "http-status", status: 503 } as const

const head = (...headers: ReadonlyArray<string>) =>
  `HTTP/1.1 200 OK\r\n${headers.map((line) => `${line}\r\n`).join("")}\r\n`
const chunked = head("transfer-encoding: chunked")
const filler = "x".repeat(0x10000)

const says = (
  name: string,
  text: string | Buffer,
  expected: Expected,
  options: Partial<HostilePeer> = {}
): HostilePeer => row(name, { request: (socket) => socket.write(text) }, expected, options)

/** A head, and then as much as the socket takes. */
const floods = (
  name: string,
  first: string,
  chunk: string | Buffer,
  options: Partial<HostilePeer> = {}
): HostilePeer =>
  row(
    name,
    {
      request: (socket) => {
        socket.write(first)
        flood(socket, chunk)
      }
    },
    delivered,
    { atOnce: 5, ...options }
  )

/** A head, and what comes a moment later, in a segment of its own. */
const later = (first: string, second: string) => (socket: net.Socket) => {
  socket.write(first)
  setTimeout(() => socket.destroyed || socket.write(second), 10)
}

/** 64 MiB of zeros. */
const bomb = gzipSync(Buffer.alloc(0x4000000))

const smuggled = answer("200 OK", "smuggled")

/** Nothing of the second answer may show: each delivery gets the first answer to its own request. */
const own: Expected = {
  ...unavailable,
  also: ({ excerpt }) => excerpt === undefined || excerpt === "own" ? undefined : `the answer was ${excerpt}`
}

export const peers: ReadonlyArray<HostilePeer> = [
  row(
    "body one byte at a time",
    {
      request: (socket) => {
        socket.write(head("content-length: 1000"))
        drip(socket, "x".repeat(1000), 5)
      }
    },
    delivered,
    slow
  ),
  row(
    "body one byte at a time, chunked",
    {
      request: (socket) => {
        socket.write(chunked)
        drip(socket, "1\r\nx\r\n".repeat(1000), 5)
      }
    },
    delivered,
    slow
  ),
  floods("body without end, until it closes", head(), filler),
  floods("body without end, chunked", chunked, `10000\r\n${filler}\r\n`),
  floods("body without end, in chunks of a byte", chunked, "1\r\nx\r\n".repeat(1000)),
  floods("body without end, beyond its length", head("content-length: 100"), filler),
  floods("content-length of 10 TB, and it comes", head("content-length: 10995116277760"), filler),
  says("content-length of 10 TB, and nothing comes", head("content-length: 10995116277760"), delivered, slow),
  says("content-length beyond 2^64", head("content-length: 18446744073709551617"), protocol),
  says("content-length of -1", head("content-length: -1"), protocol),
  says("two different content-lengths", `${head("content-length: 1", "content-length: 2")}xy`, protocol),
  says(
    "content-length beside chunked",
    `${head("content-length: 5", "transfer-encoding: chunked")}0\r\n\r\n`,
    protocol
  ),
  says(
    "chunked beside content-length",
    `${head("transfer-encoding: chunked", "content-length: 5")}0\r\n\r\n`,
    protocol
  ),
  says(
    "a gzip bomb",
    Buffer.concat([
      Buffer.from(head("content-encoding: gzip", `content-length: ${bomb.length}`)),
      bomb
    ]),
    { ...delivered, kept: true },
    { atOnce: 20 }
  ),
  says("gzip that is none", answer("200 OK", "plain text", "content-encoding: gzip"), { ...delivered, kept: true }),
  says(
    "fifty-fold content-encoding",
    answer("200 OK", "plain text", `content-encoding: ${Array.from({ length: 50 }, () => "gzip").join(", ")}`),
    { ...delivered, kept: true }
  ),
  says("bad chunk size", `${chunked}zz\r\nnonsense\r\n`, delivered),
  row(
    "bad chunk size, a moment later",
    { request: later(`${chunked}5\r\nhello\r\n`, "zz\r\nnonsense\r\n") },
    delivered
  ),
  says("chunk size beyond 2^64", `${chunked}10000000000000001\r\nx`, delivered),
  says("bad chunk size in a 503", `HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n`, unavailable),
  floods("chunk extensions without end", `${chunked}5`, `;name=${"x".repeat(1000)}`, {
    atOnce: 10,
    repetitions: 50
  }),
  floods("trailers without end", `${chunked}0\r\n`, "x-trailer: filler\r\n".repeat(100), { repetitions: 100 }),
  says("10 000 trailers of one letter", `${chunked}0\r\n${"a:b\r\n".repeat(10_000)}\r\n`, delivered),
  says("204 with a body", `HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello`, { ...delivered, status: 204 }, {
    atOnce: 1
  }),
  says("204 with an answer for a body", `HTTP/1.1 204 No Content\r\n\r\n${smuggled}`, { ...delivered, status: 204 }, {
    atOnce: 1
  }),
  row(
    "two answers, in one segment",
    {
      request: (socket) => socket.write(answer("503 Busy", "own") + smuggled)
    },
    own,
    { atOnce: 1 }
  ),
  row(
    "two answers, the first without a body",
    {
      request: (socket) => socket.write(answer("503 Busy") + smuggled)
    },
    own,
    { atOnce: 1 }
  ),
  row(
    "two answers, the second in a segment of its own",
    {
      request: (socket) => {
        socket.write(answer("503 Busy", "own"))
        setImmediate(() => socket.destroyed || socket.write(smuggled))
      }
    },
    own,
    { atOnce: 1 }
  ),
  row("two answers, the second between two requests", { request: later(answer("503 Busy", "own"), smuggled) }, own, {
    atOnce: 1,
    pause: 30,
    repetitions: 300
  })
]
