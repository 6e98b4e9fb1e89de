import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as RetryBudget from "../../src/http/RetryBudget.js"

/** How many of `n` retries at `now` are granted. */
const granted = (budget: RetryBudget.RetryBudget, n: number, now: number, settings: RetryBudget.Settings) => {
  let state = budget
  let granted = 0
  for (let i = 0; i < n; i++) {
    const [yes, next] = RetryBudget.retry(state, now, settings)
    if (yes) granted++
    state = next
  }
  return [granted, state] as const
}

const requests = (budget: RetryBudget.RetryBudget, n: number, now: number) =>
  Array.from({ length: n }).reduce<RetryBudget.RetryBudget>((state) => RetryBudget.request(state, now), budget)

describe("RetryBudget", () => {
  const settings = RetryBudget.settings()

  it("by default 0.2 × requests + 3 a second over 10 seconds", () => {
    expect(settings).toEqual({ ratio: 0.2, perSecond: 3, window: 10_000 })
    expect(granted(RetryBudget.initial(settings), 1000, 0, settings)[0]).toBe(30)
    expect(granted(requests(RetryBudget.initial(settings), 100, 0), 1000, 0, settings)[0]).toBe(50)
    expect(granted(requests(RetryBudget.initial(settings), 4, 0), 1000, 0, settings)[0]).toBe(30)
  })

  it("a refusal costs nothing, and what was granted comes back with the window", () => {
    const [first, spent] = granted(RetryBudget.initial(settings), 1000, 0, settings)
    expect([first, granted(spent, 1, 8999, settings)[0], granted(spent, 1000, 10_000, settings)[0]]).toEqual([
      30,
      0,
      30
    ])
  })

  it("nothing allowed, nothing granted", () => {
    const none = RetryBudget.settings({ ratio: 0, perSecond: 0 })
    expect(granted(requests(RetryBudget.initial(none), 50, 0), 10, 0, none)[0]).toBe(0)
  })

  it("never grants more in a window than it says, however calls and time come", () => {
    const step = FastCheck.record({ wait: FastCheck.nat(700), requests: FastCheck.nat(5), retries: FastCheck.nat(20) })
    FastCheck.assert(FastCheck.property(FastCheck.array(step, { maxLength: 80, size: "max" }), (steps) => {
      let budget = RetryBudget.initial(settings)
      let now = 0
      const grants: Array<number> = []
      const calls: Array<number> = []
      for (const { requests: n, retries, wait } of steps) {
        now += wait
        budget = requests(budget, n, now)
        for (let i = 0; i < n; i++) calls.push(now)
        const [yes, next] = granted(budget, retries, now, settings)
        budget = next
        for (let i = 0; i < yes; i++) grants.push(now)
        const recent = (times: ReadonlyArray<number>, length: number) => times.filter((at) => at > now - length).length
        // Judged when something is granted: what justified a grant may be gone later. A grant is remembered for at
        // least nine tenths of the window, a request for at most the whole of it.
        if (yes > 0) expect(recent(grants, 9000)).toBeLessThanOrEqual(0.2 * recent(calls, 10_000) + 30)
      }
    }))
  })
})
