/** `memory`: resident bytes of a process that has delivered ever more events: it must not remember them. */
import { ask, start } from "./contending.js"
import { layers } from "./direct.js"
import { type Benchmark, figure } from "./figures.js"
import { startReceiver } from "./receiving.js"

const counts = [100_000, 500_000, 1_000_000]

export const memory: Benchmark = {
  name: "memory",
  about: "resident bytes after ever more deliveries through the dispatcher, by one process",
  layers,
  async *run() {
    const receiver = await startReceiver()
    const module = new URL("./contenders/direct.ts", import.meta.url).href
    const process = await start(module, "effect-webhooks", { url: `${receiver.origin}/`, characters: 200 })
    try {
      let done = 0
      let first: number | undefined
      for (const count of counts) {
        const { rss } = await ask(process, count - done)
        done = count
        first ??= rss
        yield figure(`memory/${count}`, "MB", `memory/${counts[0]}`, [{ value: rss / 1e6, reference: first / 1e6 }])
      }
    } finally {
      process.disconnect()
      receiver.close()
    }
  }
}
