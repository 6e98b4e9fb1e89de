/** What a benchmark gives, and how it is printed. */

/** One line of results. */
export interface Figure {
  /** `benchmark/contender/what`. */
  readonly name: string
  readonly value: number
  readonly unit: string
  /** What `ratio` compares with: another figure of the same run. */
  readonly reference: string
  readonly ratio: number
  /** Lowest and highest ratio of the rounds. */
  readonly spread: readonly [number, number]
}

/** One of the programs of `npm run bench`. */
export interface Benchmark {
  readonly name: string
  /** What it shows, in a line for a person. */
  readonly about: string
  /** What is switched on in the library while it runs. */
  readonly layers: ReadonlyArray<string>
  /** Gives its figures as it has them; what it says besides is for a person. */
  readonly run: (say: (text: string) => void) => AsyncIterable<Figure>
}

/** What the design wants of a figure: of its ratio, or of its value. */
export interface Target {
  readonly of: "ratio" | "value"
  readonly most?: number
  readonly least?: number
}

export const median = (values: ReadonlyArray<number>): number => quantile(values, 0.5)

/** The value below which `share` of the values lie. */
export const quantile = (values: ReadonlyArray<number>, share: number): number => {
  const sorted = [...values].sort((left, right) => left - right)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN
}

/** A figure of several rounds, each with a value of its own and one of the reference's. */
export const figure = (
  name: string,
  unit: string,
  reference: string,
  rounds: ReadonlyArray<{ readonly value: number; readonly reference: number }>
): Figure => {
  const ratios = rounds.map((round) => round.value / round.reference)
  return {
    name,
    value: median(rounds.map(({ value }) => value)),
    unit,
    reference,
    ratio: median(ratios),
    spread: [Math.min(...ratios), Math.max(...ratios)]
  }
}

/** Whether a figure is what is wanted of it; `undefined`: nothing is. */
export const meets = (figure: Figure, target: Target | undefined): boolean | undefined => {
  if (target === undefined) return undefined
  const found = figure[target.of]
  return found <= (target.most ?? Infinity) && found >= (target.least ?? -Infinity)
}

/** A row of the table for a person. */
export const row = (figure: Figure, target: Target | undefined): string => {
  const { name, ratio, reference, spread, unit, value } = figure
  const compared = reference === name
    ? "(reference)"
    : `${number(ratio)} × ${reference} (${number(spread[0])} to ${number(spread[1])})`
  const wanted = target === undefined
    ? ""
    : `  ${meets(figure, target) === true ? "ok:" : "MISSED:"} ${target.of} ${
      target.most === undefined ? `≥ ${target.least}` : `≤ ${target.most}`
    }`
  return `  ${name.padEnd(44)} ${number(value).padStart(9)} ${unit.padEnd(16)} ${compared}${wanted}`
}

// --- internal

const number = (value: number): string =>
  Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2)
