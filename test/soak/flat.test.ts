import { expect, it } from "@effect/vitest"
import { allowed, compare, fewest, judge, type Sample } from "./flat.js"

const steady: Sample = { heap: 50, sockets: 40, fibers: 200, handles: 120, files: 100, rss: 200 }

/** A run of as many samples, each as `change` makes it; `at` goes from 0 to 1. */
const run = (count: number, change: (at: number) => Partial<Sample>): ReadonlyArray<Sample> =>
  Array.from({ length: count }, (_, index) => ({ ...steady, ...change(index / (count - 1)) }))

it("what goes up and down, or only at first, or for a moment, is flat", () => {
  expect(judge(run(60, () => ({})))).toEqual([])
  expect(judge(run(60, (at) => ({ heap: 50 + 20 * Math.sin(at * 40 * Math.PI) })))).toEqual([])
  expect(judge(run(60, (at) => ({ heap: 30 + 30 * Math.min(at / 0.2, 1), rss: 100 + 300 * Math.min(at / 0.2, 1) }))))
    .toEqual([])
  expect(judge(run(60, (at) => ({ fibers: at > 0.9 ? 5000 : 200 })))).toEqual([])
  expect(judge(run(60, (at) => ({ heap: 80 - 40 * at })))).toEqual([])
})

it("what grows all the time is found, each figure for itself", () => {
  for (const [figure, most] of Object.entries(allowed)) {
    const name = figure as keyof Sample
    // Of what is gained in a whole run, the middles of the two quarters are half a run apart.
    expect(judge(run(60, (at) => ({ [name]: 100 + 1.9 * most * at })))).toEqual([])
    expect(judge(run(60, (at) => ({ [name]: 100 + 2.2 * most * at })))).toMatchObject([
      expect.stringContaining(`${name} has grown from`)
    ])
  }
})

it("medians are those of the second and the last quarter", () => {
  const samples = run(16, (at) => ({ heap: Math.round(at * 15) }))
  expect(compare(samples).heap).toEqual({ second: 5.5, last: 13.5 })
  expect(compare(samples.slice(0, 12)).heap).toEqual({ second: 4, last: 10 })
})

it("too few samples tell nothing", () => {
  expect(judge(run(fewest - 1, () => ({})))).toEqual([expect.stringContaining("too few")])
  expect(judge(run(fewest, () => ({})))).toEqual([])
})
