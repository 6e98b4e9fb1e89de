import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as FastCheck from "effect/FastCheck"
import * as Circuit from "../../src/http/Circuit.js"

/** The machine as the properties see it, so that they can be run on a broken one. */
type Machine = Pick<typeof Circuit, "admit" | "advance" | "settle">

type Step =
  | { readonly _tag: "Call" }
  | { readonly _tag: "Settle"; readonly which: number; readonly result: Circuit.Result }
  | { readonly _tag: "Wait"; readonly ms: number }

interface Schedule {
  readonly settings: Circuit.Settings
  readonly steps: ReadonlyArray<Step>
}

const settle = (result: Circuit.Result): FastCheck.Arbitrary<Step> =>
  FastCheck.nat(7).map((which) => ({ _tag: "Settle", which, result }))

// Weighted so that circuits open, half-open and close many times in one run: with even odds a schedule hardly ever gets
// past the first break, and the properties hold of nothing.
const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  { weight: 8, arbitrary: FastCheck.constant<Step>({ _tag: "Call" }) },
  { weight: 6, arbitrary: settle("Failure") },
  { weight: 3, arbitrary: settle("Success") },
  { weight: 2, arbitrary: settle("Neutral") },
  { weight: 2, arbitrary: FastCheck.integer({ min: 1, max: 400 }).map((ms): Step => ({ _tag: "Wait", ms })) },
  { weight: 2, arbitrary: FastCheck.integer({ min: 900, max: 2500 }).map((ms): Step => ({ _tag: "Wait", ms })) }
)

const schedule: FastCheck.Arbitrary<Schedule> = FastCheck.record({
  settings: FastCheck.record({
    probes: FastCheck.integer({ min: 1, max: 3 }),
    consecutiveFailures: FastCheck.constantFrom(1, 2, 3, Infinity),
    minimumThroughput: FastCheck.integer({ min: 1, max: 5 }),
    failureRatio: FastCheck.constantFrom(0.3, 0.5, 1)
  }).map((options) =>
    Circuit.settings({
      ...options,
      samplingWindow: 5000,
      maxHalfOpen: 2000,
      breakDuration: (failedProbes) => Duration.millis(1000 * 2 ** Math.min(failedProbes, 2))
    })
  ),
  steps: FastCheck.array(step, { minLength: 40, maxLength: 250, size: "max" })
})

interface Flight {
  readonly generation: number
}

/** What a run looked like at one moment. */
interface Moment {
  readonly before: Circuit.Circuit
  readonly after: Circuit.Circuit
  readonly now: number
  readonly settings: Circuit.Settings
  readonly inFlight: ReadonlyArray<Flight>
  /** The generation of the call whose result came, if one did. */
  readonly settled: number | undefined
}

/** Plays a schedule and shows each moment of it; gives the end. */
const play = (machine: Machine, { settings, steps }: Schedule, look: (moment: Moment) => void): Moment => {
  let state = Circuit.initial(settings)
  let now = 1_000_000
  const inFlight: Array<Flight> = []
  let moment: Moment = { before: state, after: state, now, settings, inFlight, settled: undefined }
  for (const step of steps) {
    const before = state
    let settled: number | undefined
    switch (step._tag) {
      case "Call": {
        const [admission, next] = machine.admit(state, now, settings)
        state = next
        if (admission._tag === "Permitted") inFlight.push({ generation: admission.generation })
        break
      }
      case "Settle": {
        const [flight] = inFlight.splice(step.which % Math.max(1, inFlight.length), 1)
        if (flight === undefined) continue
        settled = flight.generation
        state = machine.settle(state, flight.generation, step.result, now, settings)
        break
      }
      case "Wait":
        now += step.ms
    }
    moment = { before, after: state, now, settings, inFlight, settled }
    look(moment)
  }
  return moment
}

const fail = (what: string): never => {
  throw new Error(what)
}

/** Never more than the permitted probes in flight, and the machine knows how many there are. */
const boundedProbes = (machine: Machine) => (schedule: Schedule): void => {
  play(machine, schedule, ({ after, inFlight, settings }) => {
    if (after._tag !== "HalfOpen") return
    const probes = inFlight.filter((flight) => flight.generation === after.generation).length
    if (probes > settings.probes) fail(`${probes} probes in flight`)
    if (probes !== after.inFlight) fail(`${probes} probes in flight, ${after.inFlight} counted`)
  })
}

/** A result of an earlier generation leaves the state what time alone makes of it. */
const staleIsNothing = (machine: Machine) => (schedule: Schedule): void => {
  play(machine, schedule, ({ after, before, now, settings, settled }) => {
    const current = Circuit.advance(before, now, settings)
    if (settled === undefined || settled === current.generation) return
    expect(after).toEqual(current)
  })
}

/** Whatever happened, even if nothing in flight ever ends, some later call is admitted, at the time that was told. */
const admitsLater = (machine: Machine) => (schedule: Schedule): void => {
  const { after, now, settings } = play(machine, schedule, () => {})
  let state = after
  let at = now
  // Half-open may have to run out (a refusal asks for patience of a second at most), and a break after it.
  while (at <= now + settings.maxHalfOpen + 4000) {
    const [admission, next] = machine.admit(state, at, settings)
    if (admission._tag === "Permitted") return
    if (!(admission.retryAfter > 0 && admission.retryAfter <= 4000)) fail(`retryAfter ${admission.retryAfter}`)
    state = next
    at += admission.retryAfter
  }
  fail("no later call is admitted")
}

/** A half-open circuit whose probes were all interrupted admits a call at once. */
const permitsComeBack = (machine: Machine) => (schedule: Schedule): void => {
  const { after, inFlight, now, settings } = play(machine, schedule, () => {})
  const state = inFlight.reduce<Circuit.Circuit>(
    (state, flight) => machine.settle(state, flight.generation, "Neutral", now, settings),
    Circuit.advance(after, now, settings)
  )
  if (state._tag !== "HalfOpen") return
  if (machine.admit(state, now, settings)[0]._tag === "Rejected") fail("half-open, nothing in flight, and refused")
}

/** Open is entered only by a failure of the present generation, or by a half-open state that ran out. */
const opensForCause = (machine: Machine) => (schedule: Schedule): void => {
  play(machine, schedule, ({ after, before, now, settings, settled }) => {
    if (after._tag !== "Open" || (before._tag === "Open" && before.generation === after.generation)) return
    const ranOut = before._tag === "HalfOpen" && now >= before.since + settings.maxHalfOpen
    if (!ranOut && settled !== before.generation) fail("opened for no cause")
  })
}

/** Generations only go up, by one a change of state. */
const generationsRise = (machine: Machine) => (schedule: Schedule): void => {
  play(machine, schedule, ({ after, before }) => {
    if (after.generation < before.generation) fail("went back")
    if (after.generation === before.generation && after._tag !== before._tag) fail("changed without a new generation")
  })
}

const check = (property: (schedule: Schedule) => void) =>
  FastCheck.check(FastCheck.property(schedule, property), { numRuns: 400, seed: 42 })

const withoutGenerations: Machine = {
  ...Circuit,
  settle: (state, _, result, now, settings) =>
    Circuit.settle(state, Circuit.advance(state, now, settings).generation, result, now, settings)
}

const withoutPermitReturn: Machine = {
  ...Circuit,
  settle: (state, generation, result, now, settings) =>
    result === "Neutral" ? state : Circuit.settle(state, generation, result, now, settings)
}

const withoutProbeLimit: Machine = {
  ...Circuit,
  admit: (state, now, settings) => Circuit.admit(state, now, { ...settings, probes: Infinity })
}

const withOneProbeTooMany: Machine = {
  ...Circuit,
  admit: (state, now, settings) => Circuit.admit(state, now, { ...settings, probes: settings.probes + 1 })
}

const withoutEndOfHalfOpen: Machine = {
  ...Circuit,
  admit: (state, now, settings) => Circuit.admit(state, now, { ...settings, maxHalfOpen: Infinity }),
  settle: (state, generation, result, now, settings) =>
    Circuit.settle(state, generation, result, now, { ...settings, maxHalfOpen: Infinity })
}

const withEternalBreak: Machine = {
  ...Circuit,
  settle: (state, generation, result, now, settings) =>
    Circuit.settle(state, generation, result, now, { ...settings, breakDuration: () => Infinity })
}

const withoutNewGenerations: Machine = {
  ...Circuit,
  settle: (state, generation, result, now, settings) => {
    const next = Circuit.settle(state, generation, result, now, settings)
    return next._tag === "Open" ? { ...next, generation } : next
  }
}

const withHastyOpening: Machine = {
  ...Circuit,
  admit: (state, now, settings) => {
    const [admission, next] = Circuit.admit(state, now, settings)
    return next._tag === "Closed" && next.results.b > 0
      ? [admission, Circuit.Circuit.Open({ generation: next.generation + 1, until: now + 1000, failedProbes: 0 })]
      : [admission, next]
  }
}

describe("properties of the machine, each with faults that it finds", () => {
  const properties: ReadonlyArray<
    readonly [string, (machine: Machine) => (schedule: Schedule) => void, Readonly<Record<string, Machine>>]
  > = [
    ["never more than the permitted probes in flight", boundedProbes, {
      withoutProbeLimit,
      withOneProbeTooMany,
      withoutPermitReturn,
      withoutGenerations
    }],
    ["no transition by a stale generation", staleIsNothing, { withoutGenerations }],
    ["after open some later call is admitted", admitsLater, { withoutEndOfHalfOpen, withEternalBreak }],
    ["interrupted probes give their permits back", permitsComeBack, { withoutPermitReturn }],
    ["it opens for a cause only", opensForCause, { withoutGenerations, withHastyOpening }],
    ["each change of state is a new generation", generationsRise, { withoutNewGenerations }]
  ]
  for (const [name, property, faults] of properties) {
    it(name, () => {
      FastCheck.assert(FastCheck.property(schedule, property(Circuit)), { numRuns: 400 })
    })
    for (const [fault, machine] of Object.entries(faults)) {
      it(`${name}: finds a machine ${fault}`, () => {
        expect(check(property(machine)).failed).toBe(true)
      })
    }
  }

  it("the schedules reach every state, and results of earlier generations", () => {
    const seen: Record<string, number> = { Closed: 0, Open: 0, HalfOpen: 0, stale: 0, reclosed: 0 }
    for (const run of FastCheck.sample(schedule, { numRuns: 200, seed: 1 })) {
      play(Circuit, run, ({ after, before, settled }) => {
        seen[after._tag]!++
        if (settled !== undefined && settled !== before.generation) seen["stale"]!++
        if (before._tag === "HalfOpen" && after._tag === "Closed") seen["reclosed"]!++
      })
    }
    for (const [what, times] of Object.entries(seen)) expect([what, times > 100]).toEqual([what, true])
  })
})

describe("Circuit", () => {
  const settings = Circuit.settings()

  it("settings: the defaults, and durations in any form", () => {
    const { breakDuration, ...rest } = settings
    expect(rest).toEqual({
      failureRatio: 0.5,
      minimumThroughput: 10,
      samplingWindow: 30_000,
      consecutiveFailures: 5,
      probes: 1,
      maxHalfOpen: 60_000,
      slowCalls: undefined
    })
    expect([0, 1, 2, 3, 4, 50, 5000].map(breakDuration)).toEqual([30, 60, 120, 240, 300, 300, 300].map((s) => s * 1000))
    expect(Circuit.settings({ samplingWindow: "1 minute", maxHalfOpen: 5, probes: 0 })).toMatchObject({
      samplingWindow: 60_000,
      maxHalfOpen: 5,
      probes: 1
    })
  })

  it("retryAfter: zero when a call would be admitted", () => {
    const open = Circuit.Circuit.Open({ generation: 1, until: 500, failedProbes: 0 })
    expect([0, 499, 500, 900].map((now) => Circuit.retryAfter(open, now, settings))).toEqual([500, 1, 0, 0])
    expect(Circuit.retryAfter(Circuit.initial(settings), 0, settings)).toBe(0)
  })

  it("a half-open circuit that nobody looked at reopened when its time ran out, not when it was looked at", () => {
    const halfOpen = Circuit.Circuit.HalfOpen({ generation: 2, since: 0, inFlight: 1, succeeded: 0, failedProbes: 0 })
    expect(Circuit.advance(halfOpen, 59_999, settings)).toBe(halfOpen)
    expect(Circuit.advance(halfOpen, 100_000, settings)).toEqual(
      Circuit.Circuit.Open({ generation: 3, until: 60_000 + 60_000, failedProbes: 1 })
    )
  })

  it("openUntil: open until then at least, whatever it was before, and results of calls under way change nothing", () => {
    const [admission, half] = Circuit.admit(
      Circuit.Circuit.Open({ generation: 1, until: 0, failedProbes: 2 }),
      0,
      settings
    )
    if (admission._tag === "Rejected") throw new Error("refused")
    const opened = Circuit.openUntil(half, 900)
    expect(opened).toEqual(Circuit.Circuit.Open({ generation: 3, until: 900, failedProbes: 2 }))
    expect(Circuit.settle(opened, admission.generation, "Success", 10, settings)).toBe(opened)
    const closed = Circuit.openUntil(Circuit.initial(settings), 900)
    expect(closed).toEqual(Circuit.Circuit.Open({ generation: 1, until: 900, failedProbes: 0 }))
    expect(Circuit.settle(closed, 0, "Failure", 10, settings)).toBe(closed)
    expect(Circuit.openUntil(closed, 900)).toBe(closed)
    expect(Circuit.openUntil(closed, 899)).toBe(closed)
    expect(Circuit.openUntil(closed, 901)).toEqual(
      Circuit.Circuit.Open({ generation: 2, until: 901, failedProbes: 0 })
    )
    expect([899, 900].map((now) => Circuit.admit(closed, now, settings)[0]._tag)).toEqual(["Rejected", "Permitted"])
  })

  it("reset: closed, of a new generation", () => {
    const open = Circuit.Circuit.Open({ generation: 7, until: 500, failedProbes: 3 })
    expect(Circuit.reset(open, settings)).toMatchObject({ _tag: "Closed", generation: 8, consecutiveFailures: 0 })
  })
})
