/**
 * The receiver of the benchmarks, in a process of its own and as little as one can be: counts the bytes of each request and answers 204. It must not be the
 * limit; `ceiling` shows where that is. What a path begins with makes it hang (`/hang`), fail (`/fail`) or tell when each request came (`/told`).
 */
import { type AddressInfo, createServer, type Socket } from "node:net"

const accepted = Buffer.from("HTTP/1.1 204 No Content\r\n\r\n")
const failed = Buffer.from("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
const end = Buffer.from("\r\n\r\n")

/** Requests on one connection, one after the other or several at once. */
const serve = (socket: Socket): void => {
  let rest: Buffer = Buffer.alloc(0)
  // Bytes of the present body that are still to come.
  let body = 0
  socket.setNoDelay(true)
  socket.on("error", () => undefined)
  socket.on("data", (chunk) => {
    if (body >= chunk.length && rest.length === 0) {
      body -= chunk.length
      if (body === 0) answer(socket)
      return
    }
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    for (;;) {
      if (body > 0) {
        if (rest.length < body) {
          body -= rest.length
          rest = rest.subarray(rest.length)
          return
        }
        rest = rest.subarray(body)
        body = 0
        answer(socket)
        continue
      }
      const at = rest.indexOf(end)
      if (at < 0) return
      const head = rest.toString("latin1", 0, at)
      rest = rest.subarray(at + 4)
      target.set(socket, head)
      body = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0)
      if (body === 0) answer(socket)
    }
  })
}

/** The head of the request that a connection is at. */
const target = new WeakMap<Socket, string>()
let requests = 0

const answer = (socket: Socket): void => {
  const head = target.get(socket)!
  requests++
  if (head.startsWith("POST /hang")) return
  if (head.startsWith("POST /fail")) {
    socket.write(failed)
    return
  }
  if (head.startsWith("POST /told")) {
    process.send?.({ id: /\r\nwebhook-id: *(\S+)/i.exec(head)?.[1], at: performance.timeOrigin + performance.now() })
  }
  socket.write(accepted)
}

const server = createServer(serve)
server.listen(0, "127.0.0.1", () => process.send!({ port: (server.address() as AddressInfo).port }))
process.on("message", () => process.send!({ requests, rss: process.memoryUsage.rss() }))
process.on("disconnect", () => process.exit(0))
