/** Receivers whose connections are the trouble: silent, closed, reset, kept and gone. */
import * as Effect from "effect/Effect"
import * as net from "node:net"
import { Worker } from "node:worker_threads"
import { answer, attemptTimeout, type HostilePeer, proper, row, type Running } from "./peer.js"

const waits = { waits: true }

const timeout = { outcome: "failed", class: "timeout" } as const
const broken = { outcome: "failed", class: "connection" } as const
const delivered = { outcome: "delivered", status: 200 } as const

const unfinished = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"
const refused = "HTTP/1.1 500 Oh\r\ncontent-length: 100\r\n\r\n"

/** A reset throws away what the other side has not read yet. */
const resetSoon = (socket: net.Socket) => {
  setTimeout(() => socket.resetAndDestroy(), 20)
}

export const peers: ReadonlyArray<HostilePeer> = [
  row("accepts and never answers", { request: () => {} }, timeout, waits),
  { name: "never accepts", start: () => neverAccepting, expected: timeout, waits: true },
  row(
    "never reads",
    {
      // A socket that nobody reads tells nobody that it was closed: afterwards it is read after all.
      connected: (socket) => {
        socket.pause()
        setTimeout(() => socket.resume(), 2 * attemptTimeout)
      }
    },
    timeout,
    { ...waits, bytes: 250_000, atOnce: 20, repetitions: 200 }
  ),
  row("closes at once", { connected: (socket) => socket.destroy() }, broken),
  row("resets at once", { connected: (socket) => socket.resetAndDestroy() }, broken),
  row("closes after the request", { request: (socket) => socket.end() }, broken),
  row("resets after the request", { request: (socket) => socket.resetAndDestroy() }, broken),
  row("closes in the middle of the head", { request: (socket) => socket.end("HTTP/1.1 200 OK\r\nx-a: ") }, broken),
  row("resets in the middle of the head", {
    request: (socket) => {
      socket.write("HTTP/1.1 200 OK\r\nx-a: ")
      resetSoon(socket)
    }
  }, broken),
  row("closes after a 200's head", { request: (socket) => socket.end(unfinished) }, delivered),
  row("closes after a 500's head", { request: (socket) => socket.end(refused) }, {
    outcome: "failed",
    class: "http-status",
    status: 500
  }),
  row("resets after the head", {
    request: (socket) => {
      socket.write(unfinished)
      resetSoon(socket)
    }
  }, delivered),
  row("closes in mid body", { request: (socket) => socket.end(`${unfinished}0123456789`) }, delivered),
  row("resets in mid body", {
    request: (socket) => {
      socket.write(`${unfinished}0123456789`)
      resetSoon(socket)
    }
  }, delivered),
  row(
    "answers before the body is read",
    {
      head: (socket) => socket.write(answer("200 OK", "early", "connection: close"))
    },
    delivered,
    { bytes: 250_000, atOnce: 20, repetitions: 200 }
  ),
  row(
    "413 early, and closes",
    {
      head: (socket) => socket.end(answer("413 Content Too Large", "", "connection: close"))
    },
    { outcome: "failed", class: "http-status", status: 413 },
    { bytes: 250_000, atOnce: 20, repetitions: 200 }
  ),
  row(
    "a late 200 after the timeout",
    {
      request: (socket) => {
        setTimeout(() => socket.destroyed || socket.write(answer("200 OK", "late")), attemptTimeout + 50)
      }
    },
    timeout,
    waits
  ),
  ...([
    ["closed", (socket) => socket.destroy()],
    ["reset", (socket) => socket.resetAndDestroy()]
  ] satisfies ReadonlyArray<[string, (socket: net.Socket) => void]>).map(([how, act]) =>
    row(`keep-alive: ${how} as the next request is written`, {
      request: (socket, head, n) => (n === 1 ? socket.write(proper(head)) : act(socket))
    }, {
      ...delivered,
      kept: true,
      // The first retry would wait for 10 seconds.
      also: ({ attempts, duration }) =>
        attempts <= 2 && duration < 5000 ? undefined : `${attempts} attempts in ${Math.round(duration)} ms`
    }, { retries: true, atOnce: 1 })
  )
]

// --- internal

/** A listener in a thread that sleeps, its queue full: a connection to it doesn't come about. */
const neverAccepting = Effect.gen(function*() {
  const awake = new Int32Array(new SharedArrayBuffer(4))
  const worker = yield* Effect.acquireRelease(
    Effect.sync(() => new Worker(sleeper, { eval: true, workerData: awake })),
    (worker) => Effect.promise(() => worker.terminate())
  )
  const port = yield* Effect.async<number>((resume) => {
    worker.once("message", (port: number) => resume(Effect.succeed(port)))
  })
  yield* Effect.acquireRelease(
    Effect.sync(() => Array.from({ length: 4 }, () => net.connect(port, "127.0.0.1").on("error", () => {}))),
    (fillers) => Effect.sync(() => fillers.forEach((socket) => socket.destroy()))
  )
  yield* Effect.sleep("50 millis")
  const url = `http://127.0.0.1:${port}`
  return {
    url,
    target: `${url}/hook`,
    connections: () => 0,
    open: () => 0,
    requests: () => 0,
    recover: () => {
      Atomics.store(awake, 0, 1)
      Atomics.notify(awake, 0)
    }
  } satisfies Running
})

const sleeper = `
  const { parentPort, workerData } = require("node:worker_threads")
  const server = require("node:net").createServer((socket) => {
    socket.on("error", () => {})
    socket.on("data", (data) => {
      const id = /^webhook-id: *(.+)\\r$/im.exec(data.toString())?.[1]
      if (id !== undefined) socket.write("HTTP/1.1 200 OK\\r\\ncontent-length: " + id.length + "\\r\\n\\r\\n" + id)
    })
  })
  server.listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
    parentPort.postMessage(server.address().port)
    Atomics.wait(workerData, 0, 0)
  })
`
