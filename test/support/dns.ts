import * as packet from "dns-packet"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as dgram from "node:dgram"
import * as net from "node:net"

/** What a name server says to the n-th question (1, 2, …) for a name: addresses, or how it fails. */
export type Said = ReadonlyArray<string> | "NXDOMAIN" | "SERVFAIL" | "silent"

/** A name server on loopback, and what it was asked. */
export interface DnsServer {
  /** `127.0.0.1:PORT` */
  readonly address: string
  /** The questions, `A hooks.example.test`. */
  readonly questions: () => ReadonlyArray<string>
}

/** A name server over UDP and, for answers that don't fit, TCP. `say` gets the name in lower case and how often its family has been asked for. */
export const dnsServer = (
  say: (name: string, n: number, type: "A" | "AAAA") => Said
): Effect.Effect<DnsServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => start(say)),
    ({ stop }) => Effect.promise(stop)
  )

/** The same without a scope. */
export const start = async (
  say: (name: string, n: number, type: "A" | "AAAA") => Said,
  at: { readonly host: string; readonly port: number } = { host: "127.0.0.1", port: 0 }
): Promise<DnsServer & { readonly stop: () => Promise<void> }> => {
  const asked: Array<string> = []
  const answer = (query: packet.DecodedPacket, repeated: boolean): Buffer | undefined => {
    const question = query.questions?.[0]
    if (question === undefined || (question.type !== "A" && question.type !== "AAAA")) return reply(query, [], 4)
    const { type } = question
    const name = question.name.toLowerCase()
    const line = `${type} ${name}`
    // What was cut short over UDP is asked again over TCP: one question.
    if (!repeated) asked.push(line)
    const said = say(name, asked.filter((each) => each === line).length, type)
    if (said === "silent") return undefined
    if (said === "NXDOMAIN") return reply(query, [], 3)
    if (said === "SERVFAIL") return reply(query, [], 2)
    const family = type === "A" ? 4 : 6
    return reply(query, said.filter((address) => net.isIP(address.split("%")[0] ?? "") === family), 0)
  }
  const udp = dgram.createSocket("udp4")
  udp.on("message", (message, { address, port }) => {
    const query = packet.decode(message)
    const full = answer(query, false)
    if (full !== undefined) udp.send(full.length > 512 ? truncated(query) : full, port, address)
  })
  const sockets = new Set<net.Socket>()
  const tcp = net.createServer((socket) => {
    sockets.add(socket)
    socket.on("close", () => sockets.delete(socket))
    socket.on("error", () => undefined)
    let received = Buffer.alloc(0)
    socket.on("data", (data) => {
      received = Buffer.concat([received, data])
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const length = received.readUInt16BE(0)
        const full = answer(packet.decode(received.subarray(2, 2 + length)), true)
        received = received.subarray(2 + length)
        if (full === undefined) continue
        const prefix = Buffer.alloc(2)
        prefix.writeUInt16BE(full.length)
        socket.write(Buffer.concat([prefix, full]))
      }
    })
  })
  await new Promise<void>((listening) => tcp.listen(at.port, at.host, listening))
  const { port } = tcp.address() as net.AddressInfo
  await new Promise<void>((bound) => udp.bind(port, at.host, bound))
  return {
    address: `${at.host}:${port}`,
    questions: () => asked,
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((closed) => udp.close(() => closed()))
      await new Promise<void>((closed) => tcp.close(() => closed()))
    }
  }
}

const flags = packet.RECURSION_DESIRED | packet.RECURSION_AVAILABLE

const reply = (query: packet.DecodedPacket, addresses: ReadonlyArray<string>, code: number): Buffer =>
  packet.encode({
    type: "response",
    id: query.id ?? 0,
    flags: flags | code,
    questions: query.questions ?? [],
    answers: addresses.map((data) => ({
      type: net.isIP(data) === 4 ? "A" as const : "AAAA" as const,
      name: query.questions?.[0]?.name ?? "",
      ttl: 0,
      data
    }))
  })

const truncated = (query: packet.DecodedPacket): Buffer =>
  packet.encode({
    type: "response",
    id: query.id ?? 0,
    flags: flags | packet.TRUNCATED_RESPONSE,
    questions: query.questions ?? []
  })
