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

const dispatch = (
  config: object,
  allow: string,
  nameServer: string,
  cwd: string
): Promise<{ readonly code: number | null; readonly out: string; readonly err: string }> =>
  new Promise((resolve) => {
    const child = spawn(process.execPath, [bin, "dispatch", "--json"], {
      cwd,
      env: {
        PATH: process.env.PATH ?? "",
        NODE_OPTIONS: `--import=${new URL("./resolver.mjs", import.meta.url).href}`,
        TEST_NAME_SERVER: nameServer,
        WEBHOOKS_CONFIG: JSON.stringify(config),
        WEBHOOKS_EGRESS_ALLOW: allow,
        WEBHOOKS_MAX_RETRIES: "0",
        WEBHOOKS_LOG_LEVEL: "all"
      }
    })
    let out = ""
    let err = ""
    child.stdout.on("data", (data: Buffer) => (out += data.toString()))
    child.stderr.on("data", (data: Buffer) => (err += data.toString()))
    child.on("close", (code) => resolve({ code, out, err }))
    child.stdin.end("{\"type\":\"T\",\"data\":{}}\n")
  })

if (inNamespace) prepare()
const folder = mkdtempSync(join(tmpdir(), "effect-webhooks-guard-"))
try {
  const bound = new Map<string, number>()
  for (const address of addresses) {
    for (const port of ports) if (await listen(address, port) !== undefined) bound.set(address, port)
  }
  // A name an address: `n0.example.test` and so on; `mixed` has a public one before it.
  const nameServer = await dns.start((name) => {
    const index = /^([nm])(\d+)\.example\.test$/.exec(name)
    if (index === null) return "NXDOMAIN"
    const address = addresses[Number(index[2])] ?? ""
    return index[1] === "m" ? ["127.0.0.1", address, "1.1.1.1"] : [address]
  })
  const endpoints = addresses.flatMap((_, index) =>
    ["n", "m"].flatMap((kind) =>
      ports.filter((port) => port === 443 || port === 8080).map((port) => ({
        id: `${kind}${index}-${port}`,
        url: `https://${kind}${index}.example.test:${port}/`,
        timeout: "3s"
      }))
    )
  )
  const guarded = await dispatch({ T: endpoints }, "", nameServer.address, folder)
  const heardGuarded = [...heard]
  // That they can hear: one of the names on the allow list may be called, and is.
  const reachable = bound.has("10.1.2.3") ? "10.1.2.3" : "127.0.0.2"
  const control = await dispatch(
    { T: [{ url: `http://${reachable}:3000/` }] },
    reachable,
    nameServer.address,
    folder
  )
  process.stdout.write(`${
    JSON.stringify({
      bound: [...bound.keys()],
      endpoints: endpoints.length,
      guarded,
      heardGuarded,
      control,
      heardControl: heard.slice(heardGuarded.length),
      questions: nameServer.questions().length
    })
  }\n`)
} finally {
  rmSync(folder, { recursive: true, force: true })
}
process.exit(0)
