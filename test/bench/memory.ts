/**
 * `memory`: resident bytes of a process that has delivered ever more events: it must not remember them. A million go to a client that answers at once, a tenth of that over sockets to
 * the receiver.
 */
import { ask, start } from "./contending.js"
import { type Benchmark, figure } from "./figures.js"
import { startReceiver } from "./receiving.js"

const marks = {
  "in-memory": [100_000, 500_000, 1_000_000],
  sockets: [10_000, 50_000, 100_000]
}

export const memory: Benchmark = {
  name: "memory",
  about: "resident bytes after ever more deliveries through the dispatcher, by one process",
  layers: ["everything but the egress guard (in memory)", "everything (over sockets)"],
  async *run() {
    const receiver = await startReceiver()
    try {
      for (const [name, counts] of Object.entries(marks)) {
        const module = new URL("./contenders/memory.ts", import.meta.url).href
        const setup = { url: `${receiver.origin}/`, characters: 200 }
        const process = await start(module, name, setup)
        try {
          let done = 0
          let first: number | undefined
          for (const count of counts) {
            const { rss } = await ask(process, count - done)
            done = count
            first ??= rss
            yield figure(`memory/${name}/${count}`, "MB", `memory/${name}/${counts[0]}`, [
              { value: rss / 1e6, reference: first / 1e6 }
            ])
          }
        } finally {
          process.disconnect()
        }
      }
    } finally {
      receiver.close()
    }
  }
}
