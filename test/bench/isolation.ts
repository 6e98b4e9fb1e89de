/**
 * `isolation`: what 99 healthy endpoints notice of others that hang, fail, or have names that never resolve. Both sides get 100 events a second over 60 seconds, by
 * turns in stretches of 10, and one sick endpoint gets as many as one healthy one.
 */
import { start as startNameServer } from "../support/dns.js"
import { end } from "../support/programs.js"
import { arrivals, startArrivals } from "./arriving.js"
import { startDatabases } from "./databases.js"
import { quietLayers } from "./durable.js"
import type { Benchmark } from "./figures.js"
import { quantileFigure, quantiles } from "./latency.js"
import { data, endpoints } from "./outbox.js"
import { startReceiver } from "./receiving.js"

export const isolation: Benchmark = {
  name: "isolation",
  about: "milliseconds from handing in to receiving of 99 healthy endpoints, with and without six sick ones (SQLite)",
  layers: quietLayers,
  async *run() {
    const databases = await startDatabases("sqlite")
    const receiver = await startReceiver()
    const names = await startNameServer(() => "silent")
    process.env["TEST_NAME_SERVER"] = names.address
    try {
      const well = endpoints(healthy, `${receiver.origin}/told/`)
      const deaf = ["d1", "d2", "d3", "d4"]
      const sick = {
        hang: `${receiver.origin}/hang`,
        fail: `${receiver.origin}/fail`,
        ...Object.fromEntries(deaf.map((id) => [id, `https://${id}.example/hooks`]))
      }
      const sides = await Promise.all(
        [well, { ...well, ...sick }].map(async (endpoints) => ({
          size: Object.keys(endpoints).length,
          process: await startArrivals("effect-webhooks", {
            database: await databases.fresh(),
            endpoints,
            data,
            quiet: true,
            rate: rate * Object.keys(endpoints).length / healthy
          }, [resolver])
        }))
      )
      const latencies: Array<ReadonlyArray<ReadonlyArray<number>>> = []
      for (let round = 0; round <= rounds; round++) {
        const row: Array<ReadonlyArray<number>> = []
        for (const { process, size } of sides) {
          const turns = Math.ceil(rate * (round === 0 ? 2 : seconds) / healthy)
          row.push((await arrivals(process, receiver, turns * size, turns * healthy)).latencies)
        }
        if (round > 0) latencies.push(row)
      }
      await Promise.all(sides.map(({ process }) => end(process)))
      for (const [index, side] of ["without", "with"].entries()) {
        for (const [name, share] of Object.entries(quantiles)) {
          yield quantileFigure(
            `isolation/${side}/${name}`,
            `isolation/without/${name}`,
            share,
            latencies.map((row) => ({ value: row[index]!, reference: row[0]! }))
          )
        }
      }
    } finally {
      receiver.close()
      await names.stop()
      await databases.close()
    }
  }
}

// --- internal

const healthy = 99
/** Events a second to the healthy ones. */
const rate = 100
const rounds = 6
const seconds = 10
/** Sends the questions for names to ours. */
const resolver = `--import=${new URL("../support/egress/resolver.mjs", import.meta.url).href}`
