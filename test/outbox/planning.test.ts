import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as Circuit from "../../src/http/Circuit.js"
import { blank, type EndpointRow } from "../../src/outbox/internal/endpointRows.js"
import * as Planning from "../../src/outbox/internal/planning.js"
import * as Rotation from "../../src/outbox/internal/rotation.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"

const now = 1_000_000
const circuit = Circuit.settings()

const endpointOf = (id: string, fields: Partial<Endpoint.EndpointFields> = {}) =>
  new Endpoint.Endpoint({
    id,
    url: `https://hooks.example.com/${id}`,
    events: ["*"],
    enabled: true,
    secrets: [],
    headers: {},
    timeout: undefined,
    maxConcurrency: undefined,
    rateLimit: undefined,
    ordered: false,
    format: "event",
    tenant: undefined,
    description: undefined,
    ...fields
  })

interface Given {
  readonly first?: number
  readonly retry?: number
  readonly leased?: number
  readonly endpoint?: Partial<Endpoint.EndpointFields>
  readonly row?: Partial<EndpointRow>
}

const candidate = (id: string, { endpoint, first, leased, retry, row }: Given): Planning.Candidate => ({
  due: { endpointId: id, first, since: first, retry, leased },
  endpoint: endpointOf(id, endpoint),
  row: row === undefined ? undefined : { ...blank(id, circuit), ...row }
})

const candidates = (all: Readonly<Record<string, Given>>) =>
  Object.entries(all).map(([id, given]) => candidate(id, given))

const load = (given: Partial<Planning.Load> = {}): Planning.Load => ({
  now,
  held: 0,
  heldRetries: 0,
  heldOf: () => 0,
  concurrency: 64,
  endpointConcurrency: 10,
  claim: 200,
  kept: 16,
  rotation: Rotation.make(),
  circuit,
  ...given
})

const plan = (all: Readonly<Record<string, Given>>, given: Partial<Planning.Load> = {}) =>
  Planning.plan(candidates(all), load(given))

const wanted = ({ wants }: Planning.Plan) =>
  Object.fromEntries(wants.map(({ endpoint, first, retry }) => [endpoint.id, [first, retry]]))

/** Where these were asked for, the first of them first. */
const after = (asked: Readonly<Record<string, readonly [number, number]>>) => {
  const rotation = Rotation.make()
  for (const [id, [first, retry]] of Object.entries(asked)) {
    rotation.ask([{ endpoint: { id }, first, retry, turn: rotation.turnOf(id) }])
  }
  return rotation
}

/** What is wanted one time after the other. */
const inTurn = (times: number, all: Readonly<Record<string, Given>>, given: Partial<Planning.Load>) => {
  const rotation = Rotation.make()
  return Array.from({ length: times }, () => {
    const planned = plan(all, { ...given, rotation })
    rotation.ask(planned.wants)
    return wanted(planned)
  })
}

const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((a, b) => a + b, 0)

const many = (count: number, given: Given): Readonly<Record<string, Given>> =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`e${n}`, given]))

describe("a plan", () => {
  it("gives the free slots in equal shares, at most what an endpoint may have", () => {
    expect(wanted(plan(many(3, { first: 0 })))).toEqual({ e0: [10, 0], e1: [10, 0], e2: [10, 0] })
    const crowded = plan(many(20, { first: 0 }))
    const shares = Object.values(wanted(crowded)).map(([first]) => first!)
    expect([sum(shares), Math.min(...shares), Math.max(...shares)]).toEqual([64, 3, 4])
  })

  it("gives retries equal shares of what they may have", () => {
    const shares = Object.values(wanted(plan(many(10, { retry: 0 })))).map(([, retry]) => retry!)
    expect([shares.length, sum(shares), Math.min(...shares), Math.max(...shares)]).toEqual([10, 48, 4, 5])
  })

  it("minds what is under way: in all, of an endpoint, and the endpoint's own limit", () => {
    expect(wanted(plan({ a: { first: 0 } }, { held: 60 }))).toEqual({ a: [4, 0] })
    expect(wanted(plan({ a: { first: 0 } }, { held: 8, heldOf: () => 8 }))).toEqual({ a: [2, 0] })
    expect(wanted(plan({ a: { first: 0, endpoint: { maxConcurrency: 3 } } }))).toEqual({ a: [3, 0] })
    expect(wanted(plan({ a: { first: 0, endpoint: { maxConcurrency: 60 } } }))).toEqual({ a: [60, 0] })
    expect(wanted(plan({ a: { first: 0, endpoint: { maxConcurrency: 60 } } }, { claim: 7 }))).toEqual({ a: [7, 0] })
  })

  it("tells when something is due that has no slot", () => {
    expect(plan({ a: { first: 0 } }, { held: 64 })).toMatchObject({ wants: [], short: true })
    expect(plan({ a: { first: 0 } }, { heldOf: () => 10, held: 10 })).toMatchObject({ wants: [], short: true })
    // Slots are free, but not for retries.
    expect(plan({ a: { retry: 0 } }, { held: 48, heldRetries: 48 })).toMatchObject({ wants: [], short: true })
    expect(plan({ a: { first: now + 1 } })).toMatchObject({ wants: [], short: false })
  })

  it("is complete only where first attempts are all that is due, and all are asked for", () => {
    expect(plan({ a: { first: 0 }, b: { first: 0, retry: now + 1 }, c: { first: now + 1 } }).complete).toBe(true)
    const lacking: ReadonlyArray<Planning.Plan> = [
      plan({ a: { first: 0 }, b: { leased: 0 } }),
      plan({ a: { first: 0, retry: 0 } }),
      plan({ a: { first: 0 }, b: { retry: 0 } }),
      plan({ a: { first: 0 }, b: { first: 0 } }, { heldOf: (id) => id === "b" ? 10 : 0, held: 10 }),
      plan(many(20, { first: 0 }), { claim: 10 }),
      plan({ a: { first: 0, retry: 0 } }, { held: 48, heldRetries: 48 }),
      plan({ a: { first: 0, retry: 0 } }, { held: 9, heldOf: () => 9, rotation: after({ a: [1, 0] }) })
    ]
    expect(lacking.map(({ complete }) => complete)).toEqual(lacking.map(() => false))
  })

  it("keeps slots for first attempts: retries never get them, first attempts do", () => {
    expect(sum(Object.values(wanted(plan(many(10, { retry: 0 })))).map(([, retry]) => retry!))).toBe(48)
    const full = { held: 48, heldRetries: 48 }
    expect(plan(many(10, { retry: 0 }), full)).toMatchObject({ wants: [] })
    expect(wanted(plan({ ...many(10, { retry: 0 }), fresh: { first: 0 } }, full))["fresh"]).toEqual([
      expect.any(Number),
      0
    ])
    expect(wanted(plan({ ...many(10, { retry: 0 }), fresh: { first: 0 } }, full))["fresh"]![0]).toBeGreaterThan(0)
  })

  it("of an endpoint that has both, a quarter are first attempts, and of a single slot every other one", () => {
    expect(wanted(plan({ a: { first: 0, retry: 0 } }))).toEqual({ a: [3, 7] })
    const single = { concurrency: 1, kept: 0 }
    const given = inTurn(4, { a: { first: 0, retry: 0 } }, single)
    expect(given).toEqual([{ a: [1, 0] }, { a: [0, 1] }, { a: [1, 0] }, { a: [0, 1] }])
  })

  it("of a single slot gives each endpoint's first attempts and retries their turn, however many endpoints", () => {
    for (const count of [1, 2, 3, 4]) {
      const given = inTurn(2 * count, many(count, { first: 0, retry: 0 }), { concurrency: 1, kept: 0 })
      expect(new Set(given.map((wanted) => JSON.stringify(wanted))).size).toBe(2 * count)
    }
  })

  it("gives lanes their turn, whoever else comes and goes", () => {
    const rotation = Rotation.make()
    const given = Array.from({ length: 12 }, (_, turn) => {
      const others: Readonly<Record<string, Given>> = turn % 2 === 0 ? {} : { b: { retry: 0 } }
      const { wants } = plan({ a: { first: 0, retry: 0 }, ...others }, { concurrency: 1, kept: 0, rotation })
      rotation.ask(wants)
      return wants.map(({ endpoint, retry }) => `${endpoint.id}${retry}`).join()
    })
    for (const each of ["a0", "a1", "b1"]) expect(given.filter((one) => one === each).length).toBeGreaterThan(2)
  })

  it("lets retries of who has first attempts all the time come beside those of others", () => {
    const rotation = Rotation.make()
    const given = Array.from({ length: 12 }, () => {
      const all = { a: { retry: 0 }, b: { first: 0, retry: 0 }, c: { retry: 0 } }
      // Of the slots for retries one is free each time.
      const { wants } = plan(all, { concurrency: 16, kept: 4, held: 11, heldRetries: 11, rotation })
      rotation.ask(wants)
      return wants.flatMap(({ endpoint, retry }) => retry > 0 ? [endpoint.id] : []).join()
    })
    for (const id of ["a", "b", "c"]) expect(given.filter((one) => one === id)).toHaveLength(4)
  })

  it("lets each come by turns, so that with fewer slots than endpoints none waits for long", () => {
    const given = inTurn(30, many(10, { first: 0 }), { concurrency: 4 })
    const served = Object.keys(many(10, {})).map((id) => given.filter((wanted) => id in wanted).length)
    expect(served).toEqual(Array.from({ length: 10 }, () => 12))
  })

  it("lets each come by turns where those that have a slot are left out, one after the other", () => {
    // Two slots, one an endpoint, of which one is free each time.
    const rotation = Rotation.make()
    const served: Array<string> = ["e0"]
    for (let turn = 0; turn < 30; turn++) {
      const busy = served.at(-1)
      const heldOf = (id: string) => id === busy ? 1 : 0
      const { wants } = plan(many(3, { first: 0 }), {
        concurrency: 2,
        endpointConcurrency: 1,
        held: 1,
        heldOf,
        rotation
      })
      rotation.ask(wants)
      served.push(wants[0]!.endpoint.id)
    }
    for (const id of ["e0", "e1", "e2"]) {
      expect(served.filter((one) => one === id).length).toBeGreaterThanOrEqual(10)
    }
  })

  it("starves nobody, whatever slots, limits and lanes there are, and however long requests take", () => {
    const given = FastCheck.record({
      slots: FastCheck.integer({ min: 1, max: 16 }),
      limit: FastCheck.constantFrom(1, 2, 3, 10),
      lanes: FastCheck.array(FastCheck.constantFrom("first", "retry", "both"), { minLength: 1, maxLength: 8 }),
      times: FastCheck.array(FastCheck.integer({ min: 80, max: 120 }), { minLength: 1, maxLength: 8 })
    })
    FastCheck.assert(
      FastCheck.property(given, ({ lanes, limit, slots, times }) => {
        const rotation = Rotation.make()
        const kept = Math.min(slots - 1, Math.floor(slots / 4))
        const sent = new Map(lanes.flatMap((lanes, n) =>
          (["first", "retry"] as const)
            .filter((lane) => lanes === "both" || lanes === lane)
            .map((lane) => [`e${n} ${lane}`, 0])
        ))
        const all = Object.fromEntries(lanes.map((lanes, n): [string, Given] => [`e${n}`, {
          ...(lanes === "retry" ? {} : { first: 0 }),
          ...(lanes === "first" ? {} : { retry: 0 })
        }]))
        let held: ReadonlyArray<{ readonly id: string; readonly retry: boolean; readonly until: number }> = []
        let at = 0
        for (let step = 0, next = 0; step < 400; step++) {
          const { wants } = plan(all, {
            concurrency: slots,
            endpointConcurrency: limit,
            kept,
            rotation,
            held: held.length,
            heldRetries: held.filter(({ retry }) => retry).length,
            heldOf: (id) => held.filter((one) => one.id === id).length
          })
          rotation.ask(wants)
          const begun = wants.flatMap(({ endpoint: { id }, first, retry }) =>
            Array.from({ length: first + retry }, (_, n) => ({
              id,
              retry: n >= first,
              until: at + times[next++ % times.length]!
            }))
          )
          for (const { id, retry } of begun) {
            const lane = `${id} ${retry ? "retry" : "first"}`
            sent.set(lane, sent.get(lane)! + 1)
          }
          held = [...held, ...begun]
          at = Math.min(...held.map(({ until }) => until))
          held = held.filter(({ until }) => until > at)
        }
        const counts = [...sent.values()]
        expect(Math.min(...counts)).toBeGreaterThan(sum(counts) / counts.length / 10)
      }),
      { numRuns: 60, seed: 3 }
    )
  })

  it("leaves out who is disabled, paused, open or paced, and tells when to look again", () => {
    const open = Circuit.Circuit.Open({ generation: 1, until: now + 500, failedProbes: 0 })
    expect(plan({ a: { first: 0, endpoint: { enabled: false } } })).toMatchObject({ wants: [], wakeAt: Infinity })
    expect(plan({ a: { first: 0, row: { disabled: { at: 0, by: "operator", reason: "" } } } }))
      .toMatchObject({ wants: [], wakeAt: Infinity })
    expect(plan({ a: { first: 0, row: { pausedUntil: now + 700 } } })).toMatchObject({ wants: [], wakeAt: now + 700 })
    expect(plan({ a: { first: 0, row: { circuit: open } } })).toMatchObject({ wants: [], wakeAt: now + 500 })
    expect(plan({ a: { first: 0, row: { nextSlotAt: now + 900 }, endpoint: { rateLimit: 1 } } }))
      .toMatchObject({ wants: [], wakeAt: now + 400 })
    expect(plan({ a: { first: now + 50, retry: now + 20, leased: now + 90 } })).toMatchObject({
      wants: [],
      wakeAt: now + 20
    })
    expect(plan({})).toMatchObject({ wants: [], wakeAt: Infinity, short: false })
  })

  it("names endpoints with a lapsed lease, unless nothing may be sent to them", () => {
    expect(plan({ a: { leased: now }, b: { leased: now + 1 } }).suspects.map(({ id }) => id)).toEqual(["a"])
    expect(plan({ a: { leased: 0, row: { pausedUntil: now + 1 } } }).suspects).toEqual([])
  })

  it("and unless there is no slot for one", () => {
    const due = { a: { leased: now }, b: { leased: now } }
    expect(plan(due, { heldOf: (id) => id === "a" ? 10 : 0 })).toMatchObject({ suspects: [{ id: "b" }], short: true })
    expect(plan(due, { held: 64 })).toMatchObject({ suspects: [], short: true })
  })

  it("whoever is not closed, or paced, is asked again under the row's lock", () => {
    const halfOpen = Circuit.Circuit.HalfOpen({ generation: 1, since: now, inFlight: 0, succeeded: 0, failedProbes: 0 })
    const { wants } = plan({
      a: { first: 0 },
      b: { first: 0, endpoint: { rateLimit: 5 } },
      c: { first: 0, row: { circuit: halfOpen } },
      d: { first: 0, row: {} }
    })
    expect(wants.map(({ guarded }) => guarded)).toEqual([false, true, true, false])
  })

  it("never breaks a limit, and never leaves a slot empty that something could have", () => {
    const given = FastCheck.record({
      due: FastCheck.array(
        FastCheck.record({
          first: FastCheck.boolean(),
          retry: FastCheck.boolean(),
          limit: FastCheck.integer({ min: 1, max: 20 }),
          held: FastCheck.nat(8)
        }),
        { maxLength: 12 }
      ),
      concurrency: FastCheck.integer({ min: 1, max: 80 }),
      claim: FastCheck.integer({ min: 1, max: 100 }),
      before: FastCheck.array(FastCheck.record({ first: FastCheck.nat(1), retry: FastCheck.nat(1) }), { maxLength: 12 })
    })
    FastCheck.assert(FastCheck.property(given, ({ before, claim, concurrency, due }) => {
      const held = sum(due.map(({ held }) => held))
      const kept = Math.min(concurrency - 1, Math.floor(concurrency / 4))
      const all = Object.fromEntries(due.map(({ first, limit, retry }, n) => [
        `e${n}`,
        { ...(first ? { first: 0 } : {}), ...(retry ? { retry: 0 } : {}), endpoint: { maxConcurrency: limit } }
      ]))
      const rotation = after(Object.fromEntries(before.map(({ first, retry }, n) => [`e${n}`, [first, retry]])))
      const heldOf = (id: string) => due[Number(id.slice(1))]!.held
      const { wants } = plan(all, { claim, concurrency, rotation, held, heldRetries: held, heldOf, kept })
      const free = Math.max(0, Math.min(claim, concurrency - held))
      const firsts = sum(wants.map(({ first }) => first))
      const retries = sum(wants.map(({ retry }) => retry))
      expect(firsts + retries).toBeLessThanOrEqual(free)
      expect(retries).toBeLessThanOrEqual(Math.max(0, concurrency - kept - held))
      for (const { endpoint, first, retry } of wants) {
        expect(first + retry).toBeLessThanOrEqual(endpoint.maxConcurrency! - heldOf(endpoint.id))
        expect(first === 0 || due[Number(endpoint.id.slice(1))]!.first).toBe(true)
        expect(retry === 0 || due[Number(endpoint.id.slice(1))]!.retry).toBe(true)
      }
      const possible = due.filter(({ first, held, limit }) => first && held < limit).length
      if (possible > 0 && free > 0) expect(firsts + retries).toBeGreaterThan(0)
    }))
  })
})

describe("a grant", () => {
  const grant = (fields: Partial<EndpointRow>, wanted: number, endpoint: Partial<Endpoint.EndpointFields> = {}) =>
    Planning.grant({ ...blank("a", circuit), ...fields }, endpointOf("a", endpoint), wanted, now, circuit)
  const openSince = (until: number) => Circuit.Circuit.Open({ generation: 4, until, failedProbes: 0 })

  it("is all that is wanted of a closed circuit", () => {
    expect(grant({}, 3).times).toEqual([now, now, now])
  })

  it("is nothing of who is disabled, paused or open", () => {
    expect(grant({ disabled: { at: 0, by: "gone", reason: "" } }, 3).times).toEqual([])
    expect(grant({ pausedUntil: now + 1 }, 3).times).toEqual([])
    expect(grant({ circuit: openSince(now + 1) }, 3).times).toEqual([])
  })

  it("is one probe when a break is over, and none while it is under way; who takes none leaves the row as it is", () => {
    const probe = grant({ circuit: openSince(now) }, 3)
    expect(probe.times).toEqual([now])
    expect(probe.generation).toBe(5)
    expect(probe.after(0).circuit._tag).toBe("Open")
    const probing = probe.after(1)
    expect(probing.circuit._tag).toBe("HalfOpen")
    expect(grant(probing, 3).times).toEqual([])
  })

  it("spaces what a rate allows, and gives out half a second ahead", () => {
    const granted = grant({}, 10, { rateLimit: 5 })
    expect(granted.times).toEqual([now, now + 220, now + 440])
    expect(granted.after(2).nextSlotAt).toBe(now + 440)
    expect(granted.after(0).nextSlotAt).toBeUndefined()
    expect(grant({ nextSlotAt: now + 440 }, 10, { rateLimit: 5 }).times).toEqual([now + 440])
    expect(grant({ nextSlotAt: now + 501 }, 10, { rateLimit: 5 }).times).toEqual([])
    // What wasn't used in time is gone: no burst after a rest.
    expect(grant({ nextSlotAt: 0 }, 10, { rateLimit: 5 }).times).toEqual([now, now + 220, now + 440])
  })

  it("never lets more than a rate allows into any second, whoever asks and whenever", () => {
    FastCheck.assert(FastCheck.property(
      FastCheck.double({ min: 0.2, max: 300, noNaN: true }),
      FastCheck.array(FastCheck.tuple(FastCheck.nat(700), FastCheck.nat(40)), { maxLength: 40 }),
      (rateLimit, asks) => {
        let row = blank("a", circuit)
        let at = now
        const times: Array<number> = []
        for (const [wait, wanted] of asks) {
          at += wait
          const granted = Planning.grant(row, endpointOf("a", { rateLimit }), wanted, at, circuit)
          times.push(...granted.times)
          row = granted.after(granted.times.length)
        }
        for (const from of times) {
          expect(times.filter((at) => at >= from && at < from + 1000).length).toBeLessThanOrEqual(
            Math.ceil(rateLimit)
          )
        }
      }
    ))
  })
})
