/**
 * A proxy between a program and PostgreSQL that understands so much of the protocol that it can lose exactly what a case wants lost: a COMMIT on its
 * way there, or the answer to one that the server has carried out.
 */
import { once } from "node:events"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"

/** What becomes of a commit. */
export type Fate = "pass" | "lose the request" | "lose the answer"

export interface Proxy {
  /** The database's URL, through the proxy. */
  readonly url: string
  /** Decides about each commit from now on; at first all pass. */
  readonly decide: (fate: (commit: number) => Fate) => void
  /** Commits so far, and what was lost of them. */
  readonly commits: () => number
  readonly lost: Readonly<Record<Exclude<Fate, "pass">, number>>
  readonly close: () => Promise<void>
}

export const startProxy = async (databaseUrl: string): Promise<Proxy> => {
  const target = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  const lost = { "lose the request": 0, "lose the answer": 0 }
  let commits = 0
  let decide: (commit: number) => Fate = () => "pass"

  const server = createServer((client) => {
    const database = connect(Number(target.port), target.hostname)
    const both = [client, database]
    const cut = () => both.forEach((socket) => socket.destroy())
    for (const socket of both) {
      sockets.add(socket)
      socket.on("error", cut)
      socket.on("close", () => {
        sockets.delete(socket)
        cut()
      })
    }
    let fate: Fate = "pass"
    const isCommit = committing()
    // The first message of a client has no type.
    const fromClient = framing(true, (type, message) => {
      if (isCommit(type, message)) {
        fate = decide(++commits)
        if (fate === "lose the request") {
          lost[fate]++
          cut()
          return
        }
      }
      database.write(message)
    })
    const fromDatabase = framing(false, (type, message) => {
      // ReadyForQuery: the server has done it. (A statement that is a transaction by itself is complete before it is committed.)
      if (fate === "lose the answer" && type === "Z") {
        lost[fate]++
        cut()
        return
      }
      client.write(message)
    })
    client.on("data", fromClient)
    database.on("data", fromDatabase)
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const url = new URL(databaseUrl)
  url.port = String((server.address() as AddressInfo).port)
  return {
    url: url.href,
    decide: (next) => {
      decide = next
    },
    commits: () => commits,
    lost,
    close: async () => {
      server.close()
      for (const socket of sockets) socket.destroy()
      await once(server, "close")
    }
  }
}

// --- internal

/** Cuts a stream into messages: a type (a letter; none in the first of a client), the length with itself, the rest. */
const framing = (untyped: boolean, handle: (type: string, message: Buffer) => void) => {
  let rest: Buffer = Buffer.alloc(0)
  let head = untyped ? 0 : 1
  return (chunk: Buffer): void => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    while (rest.length >= head + 4) {
      const length = head + rest.readUInt32BE(head)
      if (rest.length < length) return
      const message = rest.subarray(0, length)
      rest = rest.subarray(length)
      const type = head === 0 ? "" : String.fromCharCode(message[0]!)
      head = 1
      handle(type, message)
    }
  }
}

/** A simple query, or a statement that is parsed or, under a name, run once more, that commits, or writes and is a transaction by itself. */
const committing = () => {
  const named = new Set<string>()
  let parsed: string | undefined
  return (type: string, message: Buffer): boolean => {
    const [first = "", second = ""] = message.subarray(5, 160).toString("latin1").split("\0")
    switch (type) {
      case "Q":
        return commits.test(first)
      case "P": {
        parsed = first
        const isOne = commits.test(second)
        if (isOne) named.add(first)
        else named.delete(first)
        return isOne
      }
      // What has just been parsed has been counted.
      case "B": {
        const isCounted = parsed === second
        parsed = undefined
        return named.has(second) && !isCounted
      }
      default:
        return false
    }
  }
}

const commits = /^\s*(COMMIT\b|WITH m AS \(\s*INSERT\b)/i
