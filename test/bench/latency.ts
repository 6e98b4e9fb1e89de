/**
 * `latency`: the time from handing an event in to its request at the receiver, with the worker in the program that hands it in. The reference stores the event,
 * commits and sends at once, in the same process.
 */
import { end } from "../support/programs.js"
import { arrivals, startArrivals } from "./arriving.js"
import { type Dialect, startDatabases } from "./databases.js"
import { layers } from "./durable.js"
import { type Benchmark, type Figure, median, quantile } from "./figures.js"
import { data, endpoints } from "./outbox.js"
import { startReceiver } from "./receiving.js"

export const latency: Benchmark = {
  name: "latency",
  about: "milliseconds from handing an event in to its request at the receiver, events arriving at random",
  layers,
  async *run(say) {
    for (const dialect of ["sqlite", "postgres"] as const) yield* run(dialect, say)
  }
}

/** The quantiles that are told. */
export const quantiles = { p50: 0.5, p95: 0.95, p99: 0.99, "p99.9": 0.999 }

/** A figure of all rounds' latencies taken together, compared with those of a reference; the spread is that of the rounds. */
export const quantileFigure = (
  name: string,
  reference: string,
  share: number,
  rounds: ReadonlyArray<{ readonly value: ReadonlyArray<number>; readonly reference: ReadonlyArray<number> }>
): Figure => {
  const ratios = rounds.map(({ reference, value }) => quantile(value, share) / quantile(reference, share))
  const value = quantile(rounds.flatMap(({ value }) => value), share)
  return {
    name,
    value,
    unit: "ms",
    reference,
    ratio: value / quantile(rounds.flatMap(({ reference }) => reference), share),
    spread: [Math.min(...ratios), Math.max(...ratios)]
  }
}

// --- internal

const rounds = 5
/** Seconds of a round, at 50 a second and at half of the maximum. */
const seconds = { quiet: 3, busy: 1.5 }
/** At 50 a second it takes minutes until a program's compiler has done its work. */
const warmUp = 3000
const contenders = ["bare", "effect-webhooks"] as const

async function* run(dialect: Dialect, say: (text: string) => void): AsyncGenerator<Figure> {
  const databases = await startDatabases(dialect)
  const receiver = await startReceiver()
  const to = endpoints(10, `${receiver.origin}/told/`)
  const open = async (rate: number | undefined) =>
    Promise.all(contenders.map(async (name) =>
      startArrivals(name, {
        database: await databases.fresh(),
        endpoints: to,
        data,
        warmUp,
        ...(rate === undefined ? {} : { rate })
      })
    ))
  const measure = async (rate: number, time: number) => {
    const processes = await open(rate)
    try {
      const count = Math.ceil(rate * time)
      const latencies: Array<ReadonlyArray<ReadonlyArray<number>>> = []
      for (let round = 0; round <= rounds; round++) {
        const row: Array<ReadonlyArray<number>> = []
        for (const process of processes) row.push((await arrivals(process, receiver, count)).latencies)
        if (round > 0) latencies.push(row)
      }
      return latencies
    } finally {
      await Promise.all(processes.map(end))
    }
  }
  const figures = function*(load: string, latencies: ReadonlyArray<ReadonlyArray<ReadonlyArray<number>>>) {
    for (const [index, contender] of contenders.entries()) {
      for (const [name, share] of Object.entries(quantiles)) {
        yield quantileFigure(
          `latency/${dialect}/${load}/${contender}/${name}`,
          `latency/${dialect}/${load}/bare/${name}`,
          share,
          latencies.map((row) => ({ value: row[index]!, reference: row[0]! }))
        )
      }
    }
  }
  try {
    yield* figures("at-50", await measure(50, seconds.quiet))
    const [bare, library] = await open(undefined)
    const rates: Array<number> = []
    for (let round = 0; round < 4; round++) {
      rates.push((await arrivals(library!, receiver, Math.ceil(rates[0] ?? 200))).perSecond)
    }
    await Promise.all([bare!, library!].map(end))
    const half = Math.round(median(rates.slice(1)) / 2)
    say(`${dialect}: half of the maximum is ${half} events a second`)
    yield* figures("at-half", await measure(half, seconds.busy))
  } finally {
    receiver.close()
    await databases.close()
  }
}
