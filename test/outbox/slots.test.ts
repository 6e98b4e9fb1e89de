import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import type { Claimed } from "../../src/outbox/internal/claiming.js"
import * as Slots from "../../src/outbox/internal/slots.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"

const endpointOf = (id: string, maxConcurrency?: number) =>
  new Endpoint.Endpoint({
    id,
    url: `https://hooks.example.com/${id}`,
    events: ["*"],
    enabled: true,
    secrets: [],
    headers: {},
    timeout: undefined,
    maxConcurrency,
    rateLimit: undefined,
    ordered: false,
    format: "event",
    tenant: undefined,
    description: undefined
  })

const claimed = (id: number, endpoint: Endpoint.Endpoint, retry = false): Claimed => ({
  id,
  messageId: `msg_${id}`,
  endpoint,
  eventType: "t",
  format: "event",
  orderKey: undefined,
  step: 0,
  attempts: retry ? 1 : 0,
  lapses: 0,
  once: false,
  fence: "f",
  generation: 0,
  notBefore: 0,
  retry,
  tenant: undefined,
  aggregateId: null,
  occurredAt: "2026-01-01T00:00:00Z",
  correlationId: "c",
  traceParent: undefined,
  body: undefined
})

const [a, b] = [endpointOf("a"), endpointOf("b")]

const settings = { claim: 20, concurrency: 4, endpointConcurrency: 3 }

/** All that wait, in the order in which they get slots that are given back at once. */
const drained = (slots: Slots.Slots, under: ReadonlyArray<Claimed>) => {
  const order: Array<number> = []
  const left = [...under]
  for (let one = left.shift(); one !== undefined; one = left.shift()) {
    slots.delivered(one)
    for (let next = slots.next(); next !== undefined; next = slots.next()) {
      order.push(next.id)
      left.push(next)
    }
  }
  return order
}

describe("the slots of a worker", () => {
  it("are as many as it has, and of each endpoint as many as that may have; who gets none waits", () => {
    const slots = Slots.make(settings)
    const entered = [a, a, a, a, b, b].map((endpoint, id) => slots.enter(claimed(id, endpoint), 0))
    expect(entered).toEqual([true, true, true, false, true, false])
    expect([slots.taken(), slots.takenOf("a"), slots.takenOf("b"), slots.waiting()]).toEqual([4, 3, 1, 2])
    expect(slots.next()).toBe(undefined)
    // The process has a slot for `b`, and `a` for nobody.
    slots.delivered(claimed(0, a))
    expect([slots.next()?.id, slots.next()]).toEqual([3, undefined])
    slots.delivered(claimed(4, b))
    expect(slots.next()?.id).toBe(5)
    const own = Slots.make(settings)
    expect([0, 1].map((id) => own.enter(claimed(id, endpointOf("c", 1)), 0))).toEqual([true, false])
  })

  it("go to the endpoints by turns, and to each one's deliveries in their order", () => {
    const slots = Slots.make({ ...settings, concurrency: 1 })
    const under = claimed(0, a)
    slots.enter(under, 0)
    for (const [id, endpoint] of [[1, a], [2, a], [3, a], [4, b], [5, b]] as const) {
      slots.enter(claimed(id, endpoint), 0)
    }
    expect(drained(slots, [under])).toEqual([1, 4, 2, 5, 3])
  })

  it("are claimed ahead of for endpoints that have delivered: twice as many, less those that wait, up to a claim", () => {
    const slots = Slots.make(settings)
    for (const [id, endpoint] of [[0, a], [1, a], [2, a], [3, b], [4, a]] as const) {
      slots.enter(claimed(id, endpoint), 0)
    }
    expect([slots.ahead(), slots.aheadOf("a")]).toEqual([0, 0])
    slots.delivered(claimed(0, a))
    slots.delivered(claimed(1, a))
    expect([slots.ahead(), slots.aheadOf("a"), slots.aheadOf("b")]).toEqual([3, 3, 0])
    slots.next()
    expect([slots.ahead(), slots.aheadOf("a")]).toEqual([4, 4])
    slots.delivered(claimed(3, b))
    expect([slots.ahead(), slots.aheadOf("b")]).toEqual([6, 2])
    // What failed says nothing good of what would wait behind it.
    slots.leave(claimed(2, a))
    expect([slots.ahead(), slots.aheadOf("a"), slots.aheadOf("b")]).toEqual([2, 0, 2])
    slots.forget()
    expect([slots.ahead(), slots.aheadOf("b")]).toEqual([0, 0])
    // A delivery counts once.
    slots.delivered(claimed(3, b))
    expect(slots.ahead()).toBe(0)
  })

  it("are given ahead to no more than a claim is of", () => {
    const slots = Slots.make({ claim: 6, concurrency: 4, endpointConcurrency: 4 })
    for (const id of [0, 1, 2, 3]) slots.enter(claimed(id, a), 0)
    for (const id of [0, 1, 2, 3]) slots.delivered(claimed(id, a))
    expect([slots.ahead(), slots.aheadOf("a")]).toEqual([2, 8])
    expect(Slots.make({ claim: 1, concurrency: 4, endpointConcurrency: 4 }).ahead()).toBe(0)
  })

  it("can be waited for no more: those of an endpoint, or those that have for long", () => {
    const slots = Slots.make({ ...settings, concurrency: 1 })
    for (const [id, endpoint, since] of [[0, a, 0], [1, a, 1], [2, a, 2], [3, b, 3], [4, b, 4]] as const) {
      slots.enter(claimed(id, endpoint, id === 2), since)
    }
    expect(slots.retries()).toBe(1)
    expect(slots.withdraw({ since: 3 }).map(({ id }) => id)).toEqual([1, 2])
    expect([slots.retries(), slots.waiting()]).toEqual([0, 2])
    expect(slots.withdraw({ endpointId: "a" })).toEqual([])
    expect(slots.withdraw({ endpointId: "b" }).map(({ id }) => id)).toEqual([3, 4])
    expect([slots.waiting(), slots.taken()]).toEqual([0, 1])
  })

  it("are kept only where there is one", () => {
    const slots = Slots.make(settings)
    expect([a, a, a, a, b, b].map(slots.keep)).toEqual([true, true, true, false, true, false])
    expect([slots.isFree(a), slots.isFree(b)]).toEqual([false, false])
    slots.giveBack(a)
    expect([slots.isFree(a), slots.isFree(b), slots.enter(claimed(1, b), 0)]).toEqual([true, true, true])
  })

  it("are never too many, and none is free that somebody waits for", () => {
    const step = FastCheck.tuple(FastCheck.constantFrom("enter", "deliver", "fail", "withdraw"), FastCheck.nat(3))
    FastCheck.assert(FastCheck.property(FastCheck.array(step, { maxLength: 80 }), (steps) => {
      const slots = Slots.make(settings)
      const endpoints = [a, b, endpointOf("c", 1), endpointOf("d")]
      let under: Array<Claimed> = []
      let waiting = 0
      for (const [id, [what, n]] of steps.entries()) {
        const endpoint = endpoints[n]!
        if (what === "enter") {
          const one = claimed(id, endpoint, id % 2 === 0)
          if (slots.enter(one, 0)) under.push(one)
          else waiting++
        } else if (what === "withdraw") waiting -= slots.withdraw({ endpointId: endpoint.id }).length
        else {
          const one = under.find((one) => one.endpoint === endpoint)
          if (one === undefined) continue
          under = under.filter((other) => other !== one)
          if (what === "deliver") slots.delivered(one)
          else slots.leave(one)
          for (let next = slots.next(); next !== undefined; next = slots.next()) {
            under.push(next)
            waiting--
          }
        }
        expect([slots.taken(), slots.waiting()]).toEqual([under.length, waiting])
        expect(under.length).toBeLessThanOrEqual(settings.concurrency)
        for (const { id, maxConcurrency } of endpoints) {
          const own = under.filter((one) => one.endpoint.id === id).length
          expect(slots.takenOf(id)).toBe(own)
          expect(own).toBeLessThanOrEqual(maxConcurrency ?? settings.endpointConcurrency)
        }
        expect(slots.next()).toBe(undefined)
      }
      for (const one of under) slots.leave(one)
      for (const { id } of endpoints) slots.withdraw({ endpointId: id })
      expect([slots.taken(), slots.waiting(), slots.retries()]).toEqual([0, 0, 0])
    }))
  })
})
