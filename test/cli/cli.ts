/**
 * Runs the built command line as a user does: a process of its own, an environment and a working directory with nothing in it.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import * as http from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll } from "vitest"

/** The built binary; another by `EFFECT_WEBHOOKS_BIN`. */
export const bin = process.env.EFFECT_WEBHOOKS_BIN ?? fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url))

/** An empty folder for the test file, the working directory of what it runs. */
export const folder = mkdtempSync(join(tmpdir(), "effect-webhooks-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly out: string
  readonly err: string
}

export interface Running {
  readonly child: ChildProcessWithoutNullStreams
  readonly out: () => string
  readonly err: () => string
  readonly ended: Promise<Ended>
}

const running = new Set<ChildProcessWithoutNullStreams>()
afterAll(() => {
  for (const child of running) child.kill("SIGKILL")
})

export const start = (
  args: ReadonlyArray<string>,
  options: { readonly env?: Readonly<Record<string, string>>; readonly command?: readonly [string, ...Array<string>] } =
    {}
): Running => {
  const [command, ...before] = options.command ?? [process.execPath, bin]
  const child = spawn(command, [...before, ...args], {
    cwd: folder,
    env: { PATH: process.env.PATH ?? "", ...options.env }
  })
  running.add(child)
  let out = ""
  let err = ""
  child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text))
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text))
  child.stdin.on("error", () => undefined)
  const ended = new Promise<Ended>((resolve) => {
    child.on("close", (code, signal) => {
      running.delete(child)
      resolve({ code, signal, out, err })
    })
  })
  return { child, out: () => out, err: () => err, ended }
}

/** Runs to the end, with `input` on stdin. */
export const run = (
  args: ReadonlyArray<string>,
  options: { readonly env?: Readonly<Record<string, string>>; readonly input?: string | Uint8Array } = {}
): Promise<Ended> => {
  const { child, ended } = start(args, options)
  child.stdin.end(options.input ?? "")
  return ended
}

/** Runs a line of shell with `$cli` in it. */
export const shell = (line: string, env: Readonly<Record<string, string>> = {}): Promise<Ended> => {
  const { child, ended } = start(["-c", line], {
    command: ["bash", "--norc"],
    env: { ...env, cli: `${process.execPath} ${bin}` }
  })
  child.stdin.end()
  return ended
}

export const until = async (condition: () => boolean): Promise<void> => {
  const deadline = performance.now() + 20_000
  while (!condition()) {
    if (performance.now() > deadline) throw new Error("the condition was not met within 20 s")
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Until the program takes signals: of SIGHUP nothing else takes care. */
export const untilListening = ({ child }: Running): Promise<void> =>
  until(() => {
    const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1] ?? "0"
    return (BigInt(`0x${caught}`) & 1n) === 1n
  })

// What a program printed has no type; the assertions look at it.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export const json = (text: string): ReadonlyArray<any> =>
  text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line))

/** A receiver on loopback; answers with `handle`, or 200. */
export const receive = async (handle?: http.RequestListener): Promise<{
  readonly url: string
  readonly requests: Array<http.IncomingMessage>
  readonly close: () => void
}> => {
  const requests: Array<http.IncomingMessage> = []
  const server = http.createServer((request, response) => {
    requests.push(request)
    request.resume()
    if (handle === undefined) response.end()
    else handle(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests, close }
}
