/**
 * Measuring by turns: every contender runs once a round, so that a machine that speeds up or slows down does so for all; each figure is
 * compared with the reference of its own round.
 */

/** Something that can be run `count` times. */
export interface Contender {
  readonly name: string
  readonly run: (count: number) => Promise<void>
  readonly close: () => Promise<void>
}

/** One line of results. */
export interface Figure {
  readonly name: string
  readonly value: number
  readonly unit: string
  /** What `ratio` compares with. */
  readonly reference: string
  readonly ratio: number
  /** Lowest and highest ratio of the rounds. */
  readonly spread: readonly [number, number]
}

interface Sample {
  readonly cpu: number
  readonly perSecond: number
}

const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? NaN
}

const sample = async (contender: Contender, count: number): Promise<Sample> => {
  const before = process.cpuUsage()
  const started = performance.now()
  await contender.run(count)
  const seconds = (performance.now() - started) / 1000
  const { system, user } = process.cpuUsage(before)
  return { cpu: (system + user) / count, perSecond: count / seconds }
}

/** CPU microseconds of this process and runs a second for each contender; the first is the reference. */
export const measure = async (
  name: string,
  contenders: ReadonlyArray<Contender>,
  options: { readonly rounds: number; readonly count: number }
): Promise<ReadonlyArray<Figure>> => {
  for (const contender of contenders) await contender.run(Math.ceil(options.count / 4))
  const rounds: Array<ReadonlyArray<Sample>> = []
  for (let round = 0; round < options.rounds; round++) {
    const samples: Array<Sample> = []
    for (const contender of contenders) samples.push(await sample(contender, options.count))
    rounds.push(samples)
  }
  for (const contender of contenders) await contender.close()
  const reference = contenders[0]?.name ?? ""
  const figure = (index: number, unit: string, read: (sample: Sample) => number): Figure => {
    const ratios = rounds.map((samples) => read(samples[index]!) / read(samples[0]!))
    return {
      name: `${name} ${contenders[index]!.name}`,
      value: median(rounds.map((samples) => read(samples[index]!))),
      unit,
      reference,
      ratio: median(ratios),
      spread: [Math.min(...ratios), Math.max(...ratios)]
    }
  }
  return contenders.flatMap((_, index) => [
    figure(index, "µs CPU/delivery", ({ cpu }) => cpu),
    figure(index, "deliveries/s", ({ perSecond }) => perSecond)
  ])
}
