/**
 * `backlog`: what a delivery costs while others are pending: half of them due another day, of the very endpoints that are sent to, half due now, of endpoints that an
 * operator has disabled.
 */
import { type Dialect, fill, query, startDatabases } from "./databases.js"
import { drain, startWorkers, used } from "./draining.js"
import { layers } from "./durable.js"
import { type Benchmark, type Figure, figure } from "./figures.js"
import { dueNow, endpoints } from "./outbox.js"
import { startReceiver } from "./receiving.js"

export const backlog: Benchmark = {
  name: "backlog",
  about: "CPU of the worker and rate with others pending, and the worker's memory beyond that of an idle one",
  layers,
  async *run(say) {
    for (const dialect of ["sqlite", "postgres"] as const) yield* run(dialect, say)
  }
}

// --- internal

const sizes = [1000, 100_000, 1_000_000]
const rounds = 5
const endpointCount = 20
const day = 86_400_000

async function* run(dialect: Dialect, say: (text: string) => void): AsyncGenerator<Figure> {
  const databases = await startDatabases(dialect)
  const receiver = await startReceiver()
  const sides: Array<Awaited<ReturnType<typeof startSide>>> = []
  const startSide = async (size: number) => {
    const database = await databases.fresh()
    const workers = await startWorkers("effect-webhooks", {
      database,
      endpoints: {
        ...endpoints(endpointCount, `${receiver.origin}/`),
        ...Object.fromEntries(
          Array.from({ length: endpointCount }, (_, n) => [`off${n}`, `${receiver.origin}/off${n}`])
        )
      }
    }, 1)
    const idle = await used(workers)
    await query(
      database,
      ...Array.from(
        { length: endpointCount },
        (_, n) =>
          `INSERT INTO webhook_endpoints (id, disabled_at, disabled_by, disabled_reason, updated_at)
         VALUES ('off${n}', 1, 'operator', 'for the benchmark', 1)`
      )
    )
    const half = {
      ...dueNow,
      messages: size / 2 / endpointCount,
      deliveries: endpointCount,
      endpoints: endpointCount
    }
    await fill(database, { ...half, prefix: "later_", lane: "retry", dueAt: Date.now() + day })
    await fill(database, { ...half, prefix: "off_", endpoint: "off" })
    await query(database, dialect === "postgres" ? "VACUUM ANALYZE" : "ANALYZE")
    return { size, idle: idle.rss, workers }
  }
  try {
    for (const size of sizes) sides.push(await startSide(size))
    say(`${dialect}: the rows are there`)
    const samples: Array<ReadonlyArray<Awaited<ReturnType<typeof drain>>>> = []
    for (let round = 0; round <= rounds; round++) {
      const row: Array<Awaited<ReturnType<typeof drain>>> = []
      for (const { workers } of sides) {
        const messages = Math.floor(samples[0]?.[0]?.perSecond ?? 500)
        row.push(
          await drain(workers, receiver, { ...dueNow, prefix: `r${round}_`, messages, endpoints: endpointCount })
        )
      }
      samples.push(row)
    }
    for (const [index, { idle, size }] of sides.entries()) {
      const name = (what: string, size: number) => `backlog/${dialect}/${size}/${what}`
      const compared = (what: string, unit: string, value: (sample: typeof samples[0][0], idle: number) => number) =>
        figure(
          name(what, size),
          unit,
          name(what, sizes[0]!),
          samples.slice(1).map((row) => ({
            value: value(row[index]!, idle),
            reference: value(row[0]!, sides[0]!.idle)
          }))
        )
      yield compared("cpu", "µs a delivery", ({ cpu }) => cpu)
      yield compared("rate", "a second", ({ perSecond }) => perSecond)
      yield compared("memory", "MB over idle", ({ rss }, idle) => (rss - idle) / 1e6)
    }
  } finally {
    await Promise.all(sides.map(({ workers }) => workers.close()))
    receiver.close()
    await databases.close()
  }
}
