/**
 * `timeouts`: what an attempt's timeout and a deadline over all attempts add to a call that reaches neither. CPU time, less that of the same call without; the part of the client
 * that bounds a call is measured by itself.
 */
import { compare } from "./contending.js"
import { type Benchmark, figure } from "./figures.js"

const names = ["bare", "timers", "effect-timeout", "effect-webhooks"]

export const timeouts: Benchmark = {
  name: "timeouts",
  about:
    "an attempt's timeout and a deadline, over the call alone: by Node.js's timers, by Effect.timeoutFail, by the library",
  layers: ["attempt timeout", "deadline"],
  async *run() {
    const samples = await compare({
      module: new URL("./contenders/timeouts.ts", import.meta.url).href,
      names,
      setup: {},
      rounds: 5,
      count: 100_000,
      counts: { "effect-timeout": 20_000 }
    })
    const reference = names.indexOf("effect-timeout")
    for (const [index, name] of names.entries()) {
      if (index === 0) continue
      yield figure(
        `timeouts/${name}`,
        "µs over bare",
        "timeouts/effect-timeout",
        samples.map((row) => ({
          value: row[index]!.cpu - row[0]!.cpu,
          reference: row[reference]!.cpu - row[0]!.cpu
        }))
      )
    }
  }
}
