import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as SlidingWindow from "../../src/http/SlidingWindow.js"

const at = (window: SlidingWindow.SlidingWindow, now: number) => {
  const { a, b } = SlidingWindow.advance(window, now)
  return [a, b]
}

describe("SlidingWindow", () => {
  it("keeps what is younger than nine tenths of its length and drops what is as old as it", () => {
    const window = SlidingWindow.record(SlidingWindow.make(1000), 5000, 2, 1)
    expect(at(window, 5000)).toEqual([2, 1])
    expect(at(window, 5900)).toEqual([2, 1])
    expect(at(window, 5999)).toEqual([2, 1])
    expect(at(window, 6000)).toEqual([0, 0])
    expect(at(window, 1e12)).toEqual([0, 0])
  })

  it("a clock that goes back changes nothing and loses nothing", () => {
    const window = SlidingWindow.record(SlidingWindow.record(SlidingWindow.make(1000), 5000, 1, 0), 3000, 1, 1)
    expect(at(window, 0)).toEqual([2, 1])
    expect(at(window, 5900)).toEqual([2, 1])
    expect(at(window, 6000)).toEqual([0, 0])
  })

  it("is a value: recording leaves the old one as it was", () => {
    const empty = SlidingWindow.make(1000)
    const one = SlidingWindow.record(empty, 0, 1, 1)
    SlidingWindow.record(one, 10, 1, 1)
    expect([empty.a, one.a, SlidingWindow.make(1000).a]).toEqual([0, 1, 0])
  })

  it("an infinite window forgets nothing", () => {
    const window = SlidingWindow.record(SlidingWindow.make(Infinity), 0, 1, 0)
    expect(at(window, Number.MAX_SAFE_INTEGER)).toEqual([1, 0])
  })

  it("agrees with a list of what was recorded, bucket by bucket", () => {
    const event = FastCheck.record({ wait: FastCheck.nat(400), a: FastCheck.nat(3), b: FastCheck.nat(3) })
    FastCheck.assert(FastCheck.property(FastCheck.array(event, { maxLength: 60 }), (events) => {
      let window = SlidingWindow.make(1000)
      let now = 0
      const seen: Array<{ readonly bucket: number; readonly a: number; readonly b: number }> = []
      for (const { a, b, wait } of events) {
        now += wait
        window = SlidingWindow.record(window, now, a, b)
        seen.push({ bucket: Math.floor(now / 100), a, b })
        const young = seen.filter(({ bucket }) => bucket > Math.floor(now / 100) - 10)
        expect([window.a, window.b]).toEqual([
          young.reduce((sum, { a }) => sum + a, 0),
          young.reduce((sum, { b }) => sum + b, 0)
        ])
      }
    }))
  })
})
