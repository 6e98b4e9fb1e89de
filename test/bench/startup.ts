/** `startup`: how long whole commands take, from the start of the process to its end, against one that only loads Effect. */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { type Benchmark, figure } from "./figures.js"
import { startReceiver } from "./receiving.js"

const rounds = 15

export const startup: Benchmark = {
  name: "startup",
  about: "whole processes: signing a body, and dispatching one event to the receiver",
  layers: ["the command line, with all that each command loads"],
  async *run() {
    const receiver = await startReceiver()
    try {
      const program = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url))
      const commands = {
        effect: { args: ["--input-type=module", "-e", "await import(\"effect/Effect\")"], input: "", says: "" },
        sign: {
          args: [program, "sign", "--id", "msg_1", "--timestamp", "1700000000"],
          input: "{\"a\": 1}",
          says: "webhook-signature"
        },
        dispatch: {
          args: [program, "dispatch"],
          input: "{\"type\": \"Bench\", \"data\": {\"a\": 1}}",
          says: "1 delivered"
        }
      }
      const names = Object.keys(commands) as ReadonlyArray<keyof typeof commands>
      const env = {
        PATH: process.env["PATH"],
        WEBHOOKS_SECRET: "bench-secret-of-more-than-sixteen-bytes",
        WEBHOOKS_CONFIG: JSON.stringify({ Bench: [{ url: `${receiver.origin}/` }] }),
        WEBHOOKS_EGRESS_ALLOW: "127.0.0.1"
      }
      const times: Array<Record<string, number>> = []
      // The first round fills the system's caches.
      for (let round = 0; round <= rounds; round++) {
        const row: Record<string, number> = {}
        for (const name of names) row[name] = await timed(commands[name], env)
        if (round > 0) times.push(row)
      }
      for (const name of names) {
        yield figure(
          `startup/${name}`,
          "ms",
          "startup/effect",
          times.map((row) => ({ value: row[name]!, reference: row["effect"]! }))
        )
      }
    } finally {
      receiver.close()
    }
  }
}

// --- internal

interface Command {
  readonly args: ReadonlyArray<string>
  readonly input: string
  /** What its output must have in it, or it hasn't done what is measured. */
  readonly says: string
}

/** Milliseconds from the start of a process to its end; fails unless it succeeds. */
const timed = ({ args, input, says }: Command, env: NodeJS.ProcessEnv): Promise<number> =>
  new Promise((resolve, reject) => {
    const started = performance.now()
    const child = spawn(process.execPath, args, { env, stdio: ["pipe", "pipe", "pipe"] })
    let said = ""
    child.stdout.on("data", (chunk) => said += chunk)
    child.stderr.on("data", (chunk) => said += chunk)
    child.on("error", reject)
    child.on("close", (code) => {
      if (code === 0 && said.includes(says)) resolve(performance.now() - started)
      else reject(new Error(`${args.join(" ")} ended with ${code}: ${said}`))
    })
    child.stdin.end(input)
  })
