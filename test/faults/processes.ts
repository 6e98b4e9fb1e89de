/** Programs under test, each a process of its own that can be killed, frozen and restarted. */
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { until } from "./waiting.js"

/** The built command line; another by `EFFECT_WEBHOOKS_BIN`. */
export const bin = process.env.EFFECT_WEBHOOKS_BIN ?? fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url))

const loader = ["--import", import.meta.resolve("tsx")]

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly out: string
  readonly err: string
}

export interface Running {
  /** What it says of itself in `X-Worker`. */
  readonly name: string
  readonly cwd: string
  readonly child: ChildProcess
  readonly pid: number
  /** What it wrote so far. */
  readonly out: () => string
  readonly err: () => string
  readonly ended: Promise<Ended>
  /** Sends a signal, unless it has ended. */
  readonly signal: (name: NodeJS.Signals) => void
  readonly alive: () => boolean
}

export interface StartOptions {
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  /** Modules that are loaded before the program. */
  readonly preload?: ReadonlyArray<string> | undefined
  /** A program of this folder in place of the command line. */
  readonly program?: string | undefined
  readonly input?: string | undefined
}

const running = new Set<Running>()

/** Starts a process; `name` reaches it as `WORKER_NAME`. */
export const start = (name: string, args: ReadonlyArray<string>, options: StartOptions): Running => {
  const preload = (options.preload ?? []).flatMap((module) => ["--import", programUrl(module)])
  const what = options.program === undefined ? [bin] : [fileURLToPath(programUrl(options.program))]
  const child = spawn(
    process.execPath,
    [...(options.program?.endsWith(".ts") === true ? loader : []), ...preload, ...what, ...args],
    {
      cwd: options.cwd,
      env: { PATH: process.env.PATH ?? "", ...options.env, WORKER_NAME: name },
      stdio: ["pipe", "pipe", "pipe"]
    }
  )
  let out = ""
  let err = ""
  child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text))
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    // A program that complains without end must not fill this one.
    if (err.length < 1_000_000) err += text
  })
  child.stdin.on("error", () => undefined)
  child.stdin.end(options.input ?? "")
  const alive = () => child.exitCode === null && child.signalCode === null
  const self: Running = {
    name,
    cwd: options.cwd,
    child,
    pid: child.pid ?? 0,
    out: () => out,
    err: () => err,
    ended: new Promise((resolve, reject) => {
      child.on("error", reject)
      child.on("close", (code, signal) => {
        running.delete(self)
        resolve({ code, signal, out, err })
      })
    }),
    alive,
    signal: (name) => {
      if (alive()) child.kill(name)
    }
  }
  running.add(self)
  return self
}

/** SIGKILL to what still runs, in one folder or everywhere; resolves when it has ended. */
export const killAll = async (folder?: string): Promise<void> => {
  const left = [...running].filter(({ cwd }) => folder === undefined || cwd === folder)
  for (const process of left) process.child.kill("SIGKILL")
  await Promise.all(left.map(({ ended }) => ended))
}

/** Sends SIGTERM to what must then end by itself, with 0. */
export const stop = async (process: Running, seconds = 20): Promise<Ended> => {
  process.signal("SIGTERM")
  await until(
    () => `${process.name} stops after SIGTERM: ${process.err().slice(-500)}`,
    () => !process.alive(),
    seconds
  )
  const ended = await process.ended
  if (ended.code === 0) return ended
  throw new Error(`${process.name} ended with ${ended.code ?? ended.signal} after SIGTERM:\n${ended.err.slice(-1000)}`)
}

/** Keeps one worker running: one that was killed, or found another in its place, is started again. */
export interface Supervised {
  readonly current: () => Running | undefined
  /** Every process so far. */
  readonly all: ReadonlyArray<Running>
  /** No more restarts. */
  readonly abandon: () => void
  /** No more restarts; SIGTERM to what runs, which must end with 0. */
  readonly stop: () => Promise<void>
}

export const supervise = (
  name: string,
  launch: (name: string) => Running,
  /** Waited for before a new start. */
  counted: () => Promise<unknown> = () => Promise.resolve()
): Supervised => {
  const all: Array<Running> = []
  const state = { stopping: false }
  let current: Running | undefined
  let problem: string | undefined
  const loop = async () => {
    while (!state.stopping) {
      current = launch(`${name}-${all.length + 1}`)
      all.push(current)
      const { code, err, signal } = await current.ended
      current = undefined
      await counted()
      if (state.stopping || signal === "SIGKILL") continue
      // On SQLite, the lock of one that was killed stands until it lapses.
      if (code === 1 && err.includes("already running")) {
        await new Promise((resolve) => setTimeout(resolve, 100))
        continue
      }
      problem = `${name} ended by itself with ${code ?? signal}:\n${err.slice(-2000)}`
      return
    }
  }
  const ended = loop()
  return {
    current: () => current,
    all,
    abandon: () => {
      state.stopping = true
    },
    stop: async () => {
      state.stopping = true
      const last = current
      if (last !== undefined) {
        // Before that a signal finds a program that is still being loaded, and ends it.
        await until(`${last.name} starts`, () => !last.alive() || (last.out() + last.err()).includes("worker started"))
        await stop(last)
      }
      await ended
      if (problem !== undefined) throw new Error(problem)
    }
  }
}

// --- internal

const programUrl = (name: string): string => new URL(`./programs/${name}`, import.meta.url).href
