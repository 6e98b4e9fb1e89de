/** The receiver process, and how much it can take. */
import type { ChildProcess } from "node:child_process"
import { connect } from "node:net"
import { message, program } from "../support/programs.js"

export interface Receiver {
  readonly process: ChildProcess
  /** `http://127.0.0.1:PORT`, without a path. */
  readonly origin: string
  readonly port: number
  readonly close: () => void
}

export const startReceiver = async (): Promise<Receiver> => {
  const process = program(new URL("./receiver.ts", import.meta.url))
  const { port } = await message<{ readonly port: number }>(process)
  return { process, port, origin: `http://127.0.0.1:${port}`, close: () => process.disconnect() }
}

/** Requests a second that the receiver answers when nothing is made of them beforehand: the same bytes over ten sockets. */
export const ceiling = async (receiver: Receiver, bodyBytes: number): Promise<number> => {
  const request = Buffer.from(
    `POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: ${bodyBytes}\r\n\r\n${"x".repeat(bodyBytes)}`
  )
  const answer = "HTTP/1.1 204 No Content\r\n\r\n".length
  const seconds = 1
  const until = performance.now() + seconds * 1000
  const counts = await Promise.all(Array.from({ length: 10 }, () =>
    new Promise<number>((resolve, reject) => {
      let bytes = 0
      const socket = connect(receiver.port, "127.0.0.1", () => socket.write(request))
      socket.on("error", reject)
      socket.on("data", (chunk) => {
        bytes += chunk.length
        if (bytes % answer !== 0) return
        if (performance.now() < until) return socket.write(request)
        socket.destroy()
        resolve(bytes / answer)
      })
    })))
  return counts.reduce((sum, count) => sum + count, 0) / seconds
}
