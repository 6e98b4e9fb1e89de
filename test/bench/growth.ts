/**
 * `growth`: how many deliveries a second there are with more workers, more endpoints, longer payloads and more that waits. Each curve is stored in `results`, as JSON and as a plot.
 */
import { cpus } from "node:os"
import { end } from "../support/programs.js"
import { backlog } from "./backlog.js"
import { ask, start } from "./contending.js"
import { type Dialect, startDatabases } from "./databases.js"
import { drain, startWorkers } from "./draining.js"
import { layers } from "./durable.js"
import { type Benchmark, type Figure, figure, median } from "./figures.js"
import { dueNow, endpoints } from "./outbox.js"
import { type Series, store } from "./plots.js"
import { type Receiver, startReceiver } from "./receiving.js"

export const growth: Benchmark = {
  name: "growth",
  about: "deliveries a second against workers, endpoints, payload and backlog; curves in test/bench/results",
  layers,
  async *run(say) {
    const receiver = await startReceiver()
    try {
      for (const curve of curves) {
        const series: Array<Series> = []
        for (const { name, of } of curve.series) {
          const rounds = await of(curve.values, receiver)
          series.push({ name, points: rounds.map((values) => point(values)) })
          for (const [index, x] of curve.values.entries()) {
            yield figure(
              `growth/${curve.name}/${name}/${x}`,
              "a second",
              `growth/${curve.name}/${name}/${curve.values[0]}`,
              rounds[index]!.map((value, round) => ({ value, reference: rounds[0]![round]! }))
            )
          }
        }
        keep(curve, series)
      }
      yield* waiting(say)
    } finally {
      receiver.close()
    }
  }
}

// --- internal

const rounds = 3
const contenders = { "effect-webhooks": "effect-webhooks", "bare loop": "bare" } as const

/** Rates of each round, for each value that the curve has. */
type Measure = (values: ReadonlyArray<number>, receiver: Receiver) => Promise<ReadonlyArray<ReadonlyArray<number>>>

interface Shape {
  readonly name: string
  readonly title: string
  readonly x: string
  readonly values: ReadonlyArray<number>
}

/** What is measured at one value: a round gives its rate. */
interface Side {
  readonly round: () => Promise<number>
  readonly close: () => Promise<unknown>
}

/** All values by turns, so that a machine that slows down does so for all; the first round warms up. */
const byTurns = async (sides: ReadonlyArray<Side>): Promise<ReadonlyArray<ReadonlyArray<number>>> => {
  const rates: ReadonlyArray<Array<number>> = sides.map(() => [])
  try {
    for (let round = 0; round <= rounds; round++) {
      for (const [index, side] of sides.entries()) rates[index]!.push(await side.round())
    }
  } finally {
    await Promise.all(sides.map(({ close }) => close()))
  }
  return rates.map((all) => all.slice(1))
}

/** About a second's worth, going by how many were done in a second before. */
const enough = (last: number | undefined): number => Math.max(300, Math.min(5000, Math.floor(last ?? 300)))

/** Through the dispatcher, or by a loop around undici. */
const direct =
  (name: string, setup: (value: number) => { readonly endpoints?: number; readonly characters: number }): Measure =>
  async (values, receiver) =>
    byTurns(
      await Promise.all(values.map(async (value) => {
        const module = new URL("./contenders/direct.ts", import.meta.url).href
        const process = await start(module, name, { url: `${receiver.origin}/`, ...setup(value) })
        let last: number | undefined
        return {
          round: async () => last = (await ask(process, enough(last))).perSecond,
          close: () => end(process)
        }
      }))
    )

/** By workers over one database each. */
const durable = (
  dialect: Dialect,
  name: "bare" | "effect-webhooks",
  setup: (value: number) => { readonly workers?: number; readonly endpoints?: number; readonly bytes?: number }
): Measure =>
async (values, receiver) => {
  const databases = await startDatabases(dialect)
  try {
    const sides = values.map(async (value) => {
      const { bytes, endpoints: count = 10, workers = 1 } = setup(value)
      const body = bytes === undefined ? dueNow.body : Buffer.from(JSON.stringify({ note: "x".repeat(bytes - 11) }))
      const to = endpoints(count, `${receiver.origin}/`)
      const fleet = await startWorkers(name, { database: await databases.fresh(), endpoints: to }, workers)
      let round = 0
      let last: number | undefined
      return {
        round: async () => {
          const filling = { ...dueNow, body, prefix: `r${round++}_`, messages: enough(last), endpoints: count }
          return last = (await drain(fleet, receiver, filling)).perSecond
        },
        close: fleet.close
      }
    })
    return await byTurns(await Promise.all(sides))
  } finally {
    await databases.close()
  }
}

const kilobytes = [1000, 16_000, 256_000]
const fleets = [1, 10, 100, 1000]

const curves: ReadonlyArray<
  Shape & { readonly series: ReadonlyArray<{ readonly name: string; readonly of: Measure }> }
> = [
  {
    name: "endpoints",
    title: "Deliveries a second, by endpoints",
    x: "endpoints, by turns",
    values: fleets,
    series: [
      { name: "direct", of: direct("effect-webhooks", (endpoints) => ({ endpoints, characters: 200 })) },
      { name: "direct, bare undici", of: direct("undici", (endpoints) => ({ endpoints, characters: 200 })) },
      { name: "SQLite", of: durable("sqlite", "effect-webhooks", (endpoints) => ({ endpoints })) }
    ]
  },
  {
    name: "payload",
    title: "Deliveries a second, by size of the payload",
    x: "bytes of each payload",
    values: kilobytes,
    series: [
      { name: "direct", of: direct("effect-webhooks", (bytes) => ({ characters: bytes - 450 })) },
      { name: "direct, bare undici", of: direct("undici", (bytes) => ({ characters: bytes - 450 })) },
      { name: "SQLite", of: durable("sqlite", "effect-webhooks", (bytes) => ({ bytes })) }
    ]
  },
  {
    name: "workers",
    title: "Deliveries a second, by workers on one PostgreSQL",
    x: "worker processes",
    values: [1, 2, 4],
    series: Object.entries(contenders).map(([name, contender]) => ({
      name,
      of: durable("postgres", contender, (workers) => ({ workers, endpoints: 40 }))
    }))
  }
]

/** The rates of `backlog`, as a curve. */
async function* waiting(say: (text: string) => void): AsyncGenerator<Figure> {
  const rates = new Map<string, Map<number, Figure>>()
  for await (const one of backlog.run(say)) {
    const [, dialect = "", size = "", what] = one.name.split("/")
    if (what !== "rate") continue
    const name = dialect === "postgres" ? "PostgreSQL" : "SQLite"
    rates.set(name, (rates.get(name) ?? new Map<number, Figure>()).set(Number(size), one))
    yield { ...one, name: `growth/backlog/${name}/${size}`, reference: `growth/backlog/${name}/1000` }
  }
  const values = [...rates.values().next().value?.keys() ?? []]
  keep(
    { name: "backlog", title: "Deliveries a second, by what else is pending", x: "other pending deliveries", values },
    [...rates].map(([name, figures]) => {
      const first = figures.get(values[0]!)!.value
      return {
        name,
        points: values.map((size) => {
          const { spread, value } = figures.get(size)!
          return { median: value, low: Math.min(value, spread[0] * first), high: Math.max(value, spread[1] * first) }
        })
      }
    })
  )
}

const point = (values: ReadonlyArray<number>) => ({
  median: median(values),
  low: Math.min(...values),
  high: Math.max(...values)
})

const keep = ({ name, title, values, x }: Shape, series: ReadonlyArray<Series>): void =>
  store({
    name: `growth-${name}`,
    title,
    about: `${cpus().length} processors (${
      cpus()[0]?.model ?? "unknown"
    }) for sender, receiver and database; Node.js ${process.versions.node}`,
    x: { name: x, values },
    y: "deliveries a second",
    series
  })
