/**
 * `direct`: what a delivery through `WebhookDispatcher`, everything on, costs the sender. CPU time is the figure that counts: on two processors the
 * receiver takes its share of the wall clock.
 */
import { compare } from "./contending.js"
import { type Benchmark, figure } from "./figures.js"
import { ceiling, startReceiver } from "./receiving.js"

const names = ["undici", "undici-request", "cockatiel", "got", "stock", "effect-webhooks"]

/** What is switched on. */
export const layers: ReadonlyArray<string> = [
  "egress guard",
  "correlation id",
  "deadline",
  "retry",
  "retry budget",
  "circuit breaker",
  "slots",
  "attempt timeout",
  "both signatures",
  "metrics",
  "spans",
  "logs at warning"
]

export const direct: Benchmark = {
  name: "direct",
  about: "one event to one endpoint, ten at a time: CPU of the sender, and deliveries a second",
  layers,
  async *run(say) {
    const receiver = await startReceiver()
    try {
      say(
        `the receiver answers ${
          Math.round(await ceiling(receiver, 700))
        } requests a second to a sender that makes them beforehand`
      )
      const samples = await compare({
        module: new URL("./contenders/direct.ts", import.meta.url).href,
        names,
        setup: { url: `${receiver.origin}/`, characters: 200 },
        rounds: 5,
        count: 10_000,
        counts: { got: 2000, stock: 2000, "effect-webhooks": 5000 }
      })
      for (const [index, name] of names.entries()) {
        yield figure(
          `direct/${name}/cpu`,
          "µs a delivery",
          "direct/undici/cpu",
          samples.map((row) => ({ value: row[index]!.cpu, reference: row[0]!.cpu }))
        )
      }
      const stock = names.indexOf("stock")
      for (const [index, name] of names.entries()) {
        yield figure(
          `direct/${name}/rate`,
          "a second",
          "direct/stock/rate",
          samples.map((row) => ({ value: row[index]!.perSecond, reference: row[stock]!.perSecond }))
        )
      }
    } finally {
      receiver.close()
    }
  }
}
