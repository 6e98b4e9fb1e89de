import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as Circuit from "../../src/http/Circuit.js"
import { blank, type EndpointRow } from "../../src/outbox/internal/endpointRows.js"
import * as Health from "../../src/outbox/internal/health.js"

const second = 1000
const hour = 3600 * second
const day = 24 * hour

const settings: Health.Settings = { circuit: Circuit.settings(), disableAfter: 5 * day, disableSpread: 12 * hour }

const ok = { delivered: true, circuitResult: "Success", status: 200 } as const
const down = { delivered: false, circuitResult: "Failure", status: 500 } as const
/** The server answered, so the circuit is content; the delivery failed all the same. */
const refused = { delivered: false, circuitResult: "Success", status: 404 } as const
const stopped = { delivered: false, circuitResult: "Neutral", status: undefined } as const

type Given = Partial<Health.Result> & Pick<Health.Result, "circuitResult" | "delivered" | "now">

const result = (row: EndpointRow, given: Given): Health.Result => ({
  generation: row.circuit.generation,
  retryAfter: undefined,
  status: undefined,
  disable: undefined,
  ...given
})

/** Folds results in, each admitted by the circuit as it is at that time. */
const run = (results: ReadonlyArray<Given>, from: EndpointRow = blank("e")) => {
  let row = from
  const events: Array<Health.HealthEvent> = []
  for (const given of results) {
    const [admission, circuit] = Circuit.admit(row.circuit, given.now, settings.circuit)
    const generation = admission._tag === "Permitted" ? admission.generation : row.circuit.generation
    const settled = Health.settle({ ...row, circuit }, result(row, { generation, ...given }), settings)
    row = settled.row
    events.push(...settled.events)
  }
  return { row, events }
}

const times = (count: number, every: number, given: Omit<Given, "now">, from = 0): ReadonlyArray<Given> =>
  Array.from({ length: count }, (_, index): Given => ({ ...given, now: from + index * every }))

describe("settling an attempt in the endpoint's row", () => {
  it("counts failures from the first on, and a success forgets them", () => {
    const failed = run(times(3, second, down, 10)).row
    expect(failed).toMatchObject({
      consecutiveFailures: 3,
      firstFailureAt: 10,
      lastFailureAt: 2010,
      lastSuccessAt: undefined
    })
    expect(run([{ ...ok, now: 5000 }], failed).row).toMatchObject({
      consecutiveFailures: 0,
      firstFailureAt: undefined,
      lastFailureAt: undefined,
      lastSuccessAt: 5000
    })
  })

  it("an answer that isn't a delivery is a failure, whatever it means to the circuit", () => {
    const { row } = run([{ ...refused, now: 1 }])
    expect([row.consecutiveFailures, row.circuit._tag]).toEqual([1, "Closed"])
  })

  it("what was stopped counts neither way", () => {
    const before = run(times(2, second, down)).row
    expect(run([{ ...stopped, now: 9 * day }], before)).toEqual({ row: before, events: [] })
  })

  it("five failures in a row open the circuit, and a probe that succeeds closes it: one event each", () => {
    const opened = run(times(7, 1, down))
    expect(opened.events).toEqual(["endpoint.failing"])
    expect(opened.row.circuit).toMatchObject({ _tag: "Open", until: 4 + 30 * second })
    const probing = run([{ ...down, now: 31 * second }], opened.row)
    expect([probing.row.circuit._tag, probing.events]).toEqual(["Open", []])
    const recovered = run([{ ...ok, now: 200 * second }], probing.row)
    expect([recovered.row.circuit._tag, recovered.events]).toEqual(["Closed", ["endpoint.recovered"]])
  })

  it("a late result of an earlier generation doesn't touch the circuit", () => {
    const { row } = run(times(5, 1, down))
    const late = Health.settle(row, result(row, { ...ok, generation: 0, now: 100 }), settings)
    expect(late.row.circuit).toEqual(row.circuit)
    expect(late.events).toEqual([])
  })

  for (const status of [429, 503]) {
    it(`Retry-After on a ${status} pauses the endpoint and opens the circuit for that long`, () => {
      const { events, row } = run([{ ...down, status, retryAfter: hour, now: 5 }])
      expect(row.pausedUntil).toBe(5 + hour)
      expect(row.circuit).toMatchObject({ _tag: "Open", until: 5 + hour })
      expect(events).toEqual(["endpoint.failing"])
      // Exactly one probe afterwards.
      const [first, probing] = Circuit.admit(row.circuit, 5 + hour, settings.circuit)
      const [second] = Circuit.admit(probing, 5 + hour, settings.circuit)
      expect([first._tag, second._tag]).toEqual(["Permitted", "Rejected"])
    })
  }

  it("a shorter Retry-After that comes later shortens nothing, and a success in flight lifts nothing", () => {
    const paused = run([{ ...down, status: 503, retryAfter: hour, now: 0 }]).row
    const shorter =
      Health.settle(paused, result(paused, { ...down, status: 429, retryAfter: 5, now: 10 }), settings).row
    expect([shorter.pausedUntil, shorter.circuit]).toMatchObject([hour, { _tag: "Open", until: hour }])
    const success = Health.settle(shorter, result(shorter, { ...ok, generation: 0, now: 20 }), settings).row
    expect([success.pausedUntil, success.circuit]).toMatchObject([hour, { _tag: "Open", until: hour }])
  })

  it("a probe that is told to wait has failed: the break after the next one is longer", () => {
    const opened = run(times(5, 0, down)).row
    const probed = run([{ ...down, status: 503, retryAfter: 1, now: 30 * second }], opened).row
    expect(probed.circuit).toMatchObject({ _tag: "Open", until: 90 * second, failedProbes: 1 })
  })

  it("a pause doesn't end a break that lasts longer", () => {
    const opened = run(times(5, 0, down)).row
    const paused = Health.settle(opened, result(opened, { ...down, status: 503, retryAfter: 2, now: 1 }), settings).row
    expect(paused.circuit).toMatchObject({ _tag: "Open", until: 30 * second })
  })

  it("Retry-After on any other answer pauses nothing", () => {
    const { row } = run([{ ...down, status: 500, retryAfter: hour, now: 0 }, {
      ...refused,
      status: 301,
      retryAfter: hour,
      now: 1
    }])
    expect([row.pausedUntil, row.circuit._tag]).toEqual([undefined, "Closed"])
  })

  it.each(
    [["gone", 410, "answered 410 Gone"], [
      "receiver",
      500,
      "the receiver asked for it (webhook-delivery: disable)"
    ]] as const
  )("disables by %s at once", (disable, status, reason) => {
    const { events, row } = run([{ ...down, status, disable, now: 7 }])
    expect(row.disabled).toEqual({ at: 7, by: disable, reason })
    expect(events).toEqual(["endpoint.disabled"])
  })

  it("one that is disabled stays disabled as it was", () => {
    const disabled = { at: 1, by: "operator", reason: "asked to" } as const
    expect(run([{ ...down, status: 410, disable: "gone", now: 7 }], { ...blank("e"), disabled }))
      .toMatchObject({ row: { disabled }, events: [] })
    expect(run([{ ...ok, now: 8 }], { ...blank("e"), disabled }).row.disabled).toEqual(disabled)
  })

  it("nothing but failures for five days disables, not a millisecond earlier", () => {
    const failing = run(times(20, 6 * hour, refused)).row
    expect(failing.lastFailureAt).toBe(114 * hour)
    expect(run([{ ...refused, now: 5 * day - 1 }], failing)).toMatchObject({ row: { disabled: undefined }, events: [] })
    expect(run([{ ...refused, now: 5 * day }], failing)).toMatchObject({
      row: { disabled: { at: 5 * day, by: "failing" } },
      events: ["endpoint.disabled"]
    })
    expect(run([{ ...stopped, now: 5 * day }], failing).row.disabled).toBeUndefined()
  })

  it("failures within half a day, and one five days later, don't", () => {
    const burst = [...times(12, hour, refused), { ...refused, now: 12 * hour - 1 }]
    expect(run([...burst, { ...refused, now: 5 * day }]).row.disabled).toBeUndefined()
    expect(run([...burst, { ...refused, now: 12 * hour }, { ...refused, now: 5 * day }]).row.disabled?.by).toBe(
      "failing"
    )
    // The one five days later is now the one before.
    expect(run([...burst, { ...refused, now: 5 * day }, { ...refused, now: 5 * day + 1 }]).row.disabled?.by).toBe(
      "failing"
    )
  })

  it("one success clears the clock", () => {
    const failing = [
      ...times(19, 6 * hour, refused),
      { ...ok, now: 115 * hour },
      ...times(20, 6 * hour, refused, 116 * hour)
    ]
    expect(run(failing).row.disabled).toBeUndefined()
    expect(run([...failing, { ...refused, now: 116 * hour + 5 * day }]).row.disabled?.by).toBe("failing")
  })
})

describe("any history", () => {
  const step = FastCheck.record({
    wait: FastCheck.oneof(
      { weight: 3, arbitrary: FastCheck.integer({ min: 0, max: 2 * second }) },
      { weight: 3, arbitrary: FastCheck.integer({ min: 0, max: 40 * hour }) }
    ),
    kind: FastCheck.oneof(
      { weight: 12, arbitrary: FastCheck.constantFrom(down, refused) },
      { weight: 1, arbitrary: FastCheck.constant(ok) },
      { weight: 2, arbitrary: FastCheck.constant(stopped) }
    ),
    status: FastCheck.constantFrom(429, 500, 503),
    retryAfter: FastCheck.option(FastCheck.integer({ min: 1, max: day }), { nil: undefined, freq: 3 }),
    late: FastCheck.integer({ min: 0, max: 5 }).map((n) => n === 0)
  })

  it("agrees with its story told from the beginning", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.array(step, { maxLength: 60, size: "max" }), (steps) => {
        let row = blank("e")
        let now = 0
        let pausedUntil = 0
        let open = false
        /** Times of the failures since the last success. */
        let failures: Array<number> = []
        for (const { kind, late, retryAfter, status, wait } of steps) {
          now += wait
          const [admission, circuit] = Circuit.admit(row.circuit, now, settings.circuit)
          // Nothing is admitted while a pause lasts: what comes then began before.
          const admitted = admission._tag === "Permitted" && !late
          if (admission._tag === "Permitted" && row.pausedUntil !== undefined) {
            expect(now).toBeGreaterThanOrEqual(row.pausedUntil)
          }
          const generation = admitted ? admission.generation : -1
          const before = admitted ? { ...row, circuit } : row
          const given = result(before, { ...kind, generation, now, ...(kind === down ? { status, retryAfter } : {}) })
          const settled = Health.settle(before, given, settings)
          row = settled.row

          if (kind === ok) failures = []
          if (kind === down && retryAfter !== undefined && status !== 500) {
            pausedUntil = Math.max(pausedUntil, now + retryAfter)
            expect(row.circuit).toMatchObject({ _tag: "Open" })
          }
          const [first] = failures
          const previous = failures.at(-1)
          if (kind === down || kind === refused) failures.push(now)
          const hopeless = failures.at(-1) === now && kind !== stopped && kind !== ok && first !== undefined &&
            previous !== undefined && now - first >= settings.disableAfter && previous - first >= settings.disableSpread
          expect(row.disabled !== undefined).toBe(before.disabled !== undefined || hopeless)
          expect(settled.events.includes("endpoint.disabled")).toBe(before.disabled === undefined && hopeless)
          expect(row.pausedUntil ?? 0).toBe(pausedUntil)
          expect([row.consecutiveFailures, row.firstFailureAt, row.lastFailureAt])
            .toEqual([failures.length, failures[0], failures.at(-1)])
          // Failing and recovered take turns.
          for (const event of settled.events) {
            if (event === "endpoint.disabled") continue
            expect(event).toBe(open ? "endpoint.recovered" : "endpoint.failing")
            open = !open
          }
          expect(row.circuit._tag !== "Closed").toBe(open)
        }
      }),
      { numRuns: 400 }
    )
  })
})
