/**
 * Run in a network of its own where the machine allows one: sentinels on every forbidden address that can be bound, a name server whose names stand for them, and
 * the command line that is to leave them alone. Prints one object: where it listened, what was heard, and how the deliveries ended.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import * as net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as dns from "../dns.js"

const bin = process.argv[2] ?? ""
const inNamespace = process.argv[3] === "namespace"
const ports = [443, 80, 8080, 8443, 3000]

const addresses = [
  "127.0.0.1",
  "127.0.0.2",
  "127.1.2.3",
  "10.1.2.3",
  "172.16.5.5",
  "192.168.1.1",
  "100.64.1.1",
  "169.254.169.254",
  "169.254.1.1",
  "100.100.100.200",
  "168.63.129.16",
  "192.0.2.1",
  "198.18.0.1",
  "203.0.113.7",
  "::1",
  "fd00:ec2::254",
  "fd12:3456::1",
  "fe80::1",
  "2001:db8::1",
  "64:ff9b::7f00:1",
  "2002:7f00:1::1"
]

const prepare = (): void => {
  execFileSync("ip", ["link", "set", "lo", "up"])
  for (const address of addresses) {
    if (address.startsWith("127.") || address === "::1") continue
    const range = address.includes(":") ? [`${address}/128`, "dev", "lo", "nodad"] : [`${address}/32`, "dev", "lo"]
    // Where there is no IPv6, it can't be reached either.
    spawnSync("ip", ["addr", "add", ...range])
  }
}

const folder = mkdtempSync(join(tmpdir(), "effect-webhooks-guard-"))

const heard: Array<string> = []

const listen = (host: string, port: number): Promise<net.Server | undefined> =>
  new Promise((resolve) => {
    const server = net.createServer((socket) => {
      heard.push(`${host} ${port}`)
      socket.on("error", () => undefined)
      // Enough of an answer for a delivery over http to count as delivered.
      socket.once("data", () => socket.end("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"))
    })
    server.once("error", () => resolve(undefined))
    server.listen({ host, port }, () => resolve(server))
  })

interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** Runs the command line to its end; with `enough`, until what it wrote to stderr is, and then stops it. */
const run = (
  args: ReadonlyArray<string>,
  config: object,
  env: Readonly<Record<string, string>>,
  enough?: (err: string) => boolean
): Promise<Ended> =>
  new Promise((resolve) => {
    const child = spawn(process.execPath, [bin, ...args], {
      cwd: folder,
      env: {
        PATH: process.env.PATH ?? "",
        NODE_OPTIONS: `--import=${new URL("./resolver.mjs", import.meta.url).href}`,
        WEBHOOKS_CONFIG: JSON.stringify(config),
        WEBHOOKS_MAX_RETRIES: "0",
        WEBHOOKS_BASE_DELAY: "10ms",
        WEBHOOKS_SCHEDULE: "0s",
        WEBHOOKS_LOG_LEVEL: "all",
        ...env
      }
    })
    let out = ""
    let err = ""
    child.stdout.on("data", (data: Buffer) => (out += data.toString()))
    child.stderr.on("data", (data: Buffer) => {
      err += data.toString()
      if (enough?.(err) === true) child.kill("SIGTERM")
    })
    child.on("close", (code) => resolve({ code, out, err }))
    child.stdin.on("error", () => undefined).end("{\"type\":\"T\",\"data\":{}}\n")
  })

/** A receiver that sends whoever comes on to a forbidden address. */
const redirecting = (host: string, location: string): Promise<net.AddressInfo> =>
  new Promise((resolve) => {
    const server = net.createServer((socket) => {
      socket.on("error", () => undefined)
      socket.once("data", () => socket.end(`HTTP/1.1 307 Go\r\nlocation: ${location}\r\nconnection: close\r\n\r\n`))
    })
    server.listen(0, host, () => resolve(server.address() as net.AddressInfo))
  })

/** Ways to write an address in a URL. */
const spellings = (address: string): ReadonlyArray<string> => {
  if (address.includes(":")) return [`[${address}]`, `[${address.toUpperCase()}]`]
  const parts = address.split(".").map(Number)
  const number = parts.reduce((sum, part) => sum * 256 + part, 0)
  return [
    address,
    `${address}.`,
    String(number),
    `0x${number.toString(16)}`,
    parts.map((part) => `0${part.toString(8)}`).join("."),
    parts.map((part) => `0x${part.toString(16)}`).join("."),
    `${parts[0]}.${number % 0x1000000}`,
    address.replaceAll(".", "%2E"),
    address.replaceAll(".", "\u3002"),
    address.replace(/[0-9]/g, (digit) => String.fromCharCode(digit.charCodeAt(0) + 0xfee0)),
    `[::ffff:${address}]`
  ]
}

if (inNamespace) prepare()
try {
  const bound = new Map<string, number>()
  for (const address of addresses) {
    for (const port of ports) if (await listen(address, port) !== undefined) bound.set(address, port)
  }
  // One that may be called when it is on the allow list.
  const reachable = bound.has("10.1.2.3") ? "10.1.2.3" : "127.0.0.2"
  // A name an address: `n0.example.test` and so on; `mixed` has a public one before it. `rebound` is what may be called only when it is asked for first.
  const nameServer = await dns.start((name, n) => {
    if (name === "rebound.example.test") return [n === 1 ? reachable : "127.0.0.1"]
    const index = /^([nm])(\d+)\.example\.test$/.exec(name)
    if (index === null) return "NXDOMAIN"
    const address = addresses[Number(index[2])] ?? ""
    return index[1] === "m" ? ["127.0.0.1", address, "1.1.1.1"] : [address]
  })
  const asking = { TEST_NAME_SERVER: nameServer.address }
  const allowing = { ...asking, WEBHOOKS_EGRESS_ALLOW: reachable }
  const hearing = async (running: Promise<Ended>) => {
    const before = heard.length
    const ended = await running
    return { ...ended, heard: heard.slice(before) }
  }
  const endpoints = addresses.flatMap((_, index) =>
    ["n", "m"].flatMap((kind) =>
      ports.filter((port) => port === 443 || port === 8080).map((port) => ({
        id: `${kind}${index}-${port}`,
        url: `https://${kind}${index}.example.test:${port}/`,
        timeout: "3s"
      }))
    )
  )
  const literals = addresses.flatMap((address) =>
    spellings(address).flatMap((host) => [`https://${host}/`, `https://${host}:3000/`, `http://${host}/`])
  )
  const guarded = await hearing(run(["dispatch", "--json"], { T: endpoints }, asking))
  const questions = nameServer.questions().length
  const written = await hearing(run(["dispatch", "--json"], { T: literals.map((url) => ({ url })) }, asking))
  const rebound = await hearing(
    run(["dispatch", "--json"], { T: [{ url: "https://rebound.example.test:8443/" }] }, {
      ...allowing,
      WEBHOOKS_MAX_RETRIES: "2"
    })
  )
  const { port } = await redirecting(reachable, "http://127.0.0.1:8080/")
  const redirected = await hearing(
    run(["dispatch", "--json"], { T: [{ url: `http://${reachable}:${port}/` }] }, allowing)
  )
  await run(["enqueue"], { T: endpoints }, asking)
  const worked = await hearing(
    run(["worker"], { T: endpoints }, asking, (err) => err.split("egress_blocked").length > endpoints.length)
  )
  // That they can hear: one of them on the allow list may be called, and is.
  const control = await hearing(run(["dispatch", "--json"], { T: [{ url: `http://${reachable}:3000/` }] }, allowing))
  const result = `${
    JSON.stringify({
      bound: [...bound.keys()],
      reachable,
      endpoints: endpoints.length,
      literals: literals.length,
      questions,
      guarded,
      written,
      rebound,
      redirected,
      worked,
      control
    })
  }\n`
  // More than a pipe holds: it would be cut by leaving before it is read.
  await new Promise((resolve) => process.stdout.write(result, resolve))
} finally {
  rmSync(folder, { recursive: true, force: true })
}
process.exit(0)
