/** What a fleet shares: one probe a break, one rate, one order. */
import { monitorEventLoopDelay } from "node:perf_hooks"
import type { Arrival } from "../receiver.js"
import { type Case, expect, numbered } from "../trial.js"
import { sleep, until } from "../waiting.js"

export const cases: ReadonlyArray<Case> = [{
  name: "probes",
  on: ["postgres"],
  deaf: "only",
  idle: true,
  run: async (trial) => {
    trial.configure({ down: {}, ok: {} })
    await trial.migrate()
    let up = false
    trial.receiver.answer(({ endpoint }) => {
      if (endpoint === "ok") return 204
      return up ? 204 : 500
    })
    const schedule = Array.from({ length: 40 }, (_, index) => index === 0 ? "0s" : "1s").join(",")
    const workers = ["w1", "w2"].map((name) =>
      // It is not about leases, which a machine with other things to do may let lapse.
      trial.supervised(name, { WEBHOOKS_SCHEDULE: schedule, WEBHOOKS_LEASE: "30s" })
    )
    await trial.enqueue(numbered(100))
    const down = () => trial.receiver.to("down")
    const last = () => down().at(-1)?.at ?? 0
    await until("failures, then silence", async () => {
      const before = down().length
      await sleep(3000)
      return before > 0 && down().length === before
    })
    // More work for it must change nothing.
    await trial.enqueue(numbered(100, 101))
    const opening = down().length
    const opened = last()
    await until("the first probe", () => down().length > opening)
    const firstProbe = last() - opened
    // Until shortly before the second is due: nothing.
    await sleep(50_000)
    expect(down().length === opening + 1, `${down().length - opening} requests in the first break and the second`)
    up = true
    await until("the second probe", () => down().length > opening + 1)
    const secondProbe = down()[opening + 1]!.at - down()[opening]!.at
    await trial.settled(60)
    for (const worker of workers) await worker.stop()
    // The last of those that were under way comes a little after the break has begun.
    expect(opening <= 30, `${opening} requests before it opened`)
    expect(firstProbe >= 28_000 && secondProbe >= 59_000, `probes after ${firstProbe} and ${secondProbe} ms`)
    const { deliveries, duplicates } = trial.check()
    return {
      "requests until it opened": opening,
      "probes after": `${(firstProbe / 1000).toFixed(1)} s, ${(secondProbe / 1000).toFixed(1)} s`,
      deliveries,
      duplicates
    }
  }
}, {
  name: "rate limit",
  on: ["sqlite", "postgres"],
  idle: true,
  run: async (trial) => {
    trial.configure({ limited: { rateLimit: 5 }, free: {} })
    await trial.migrate()
    const workers = (trial.dialect === "postgres" ? ["w1", "w2", "w3", "w4"] : ["w1"])
      .map((name) => trial.supervised(name, { WEBHOOKS_LEASE: "30s" }))
    await trial.enqueue(numbered(60))
    const late = monitorEventLoopDelay({ resolution: 10 })
    late.enable()
    await until("the endpoint without a limit", () => trial.receiver.to("free").length === 60)
    const before = trial.receiver.to("limited").length
    await trial.settled()
    late.disable()
    for (const worker of workers) await worker.stop()
    // As the receiver saw them. What it may see too close: what the network adds to one and not to the next, and what it was itself late to look.
    const times = trial.receiver.to("limited").map(({ at }) => at)
    const shortest = six(times)
    const rows = await trial.database.query(
      `SELECT a.started_at FROM webhook_attempts a JOIN webhook_deliveries d ON d.id = a.delivery_id WHERE d.endpoint_id = 'limited'`
    )
    // As the workers began them: of several, each by its own measure of the database's clock.
    const begun = six(rows.map(({ started_at }) => Number(started_at)).sort((left, right) => left - right))
    const whole = times.at(-1)! - times[0]!
    const allowed = network + late.max / 1e6
    const isLate = late.max / 1e6 > mostLate
    expect(times.length === 60, `${times.length} requests of 60`)
    // A receiver that is as late as that can't tell: then it is the workers' times that count.
    expect(
      isLate || shortest >= 1000 - allowed,
      `six requests within ${shortest.toFixed(0)} ms, with ${allowed.toFixed(0)} ms allowed`
    )
    expect(begun >= (workers.length === 1 ? 1000 : 900), `six requests begun within ${begun} ms`)
    expect(whole < 5 * 59 * 200, `60 requests took ${whole} ms: the limit allows 11 800`)
    const { deliveries, duplicates } = trial.check()
    return {
      requests: times.length,
      "shortest time for six": `${shortest.toFixed(0)} ms`,
      "and as they began": `${begun} ms`,
      "receiver late by": `${(late.max / 1e6).toFixed(0)} ms`,
      "in all": `${(whole / 1000).toFixed(1)} s`,
      "sent when the unlimited one was done": before,
      deliveries,
      duplicates
    }
  }
}, {
  name: "order",
  on: ["sqlite", "postgres"],
  deaf: true,
  idle: true,
  run: async (trial) => {
    const aggregates = 5
    const each = 20
    const aggregateOf = (n: number): number => n % aggregates
    trial.configure({ ordered: { ordered: true, timeout: "5m" } })
    await trial.migrate()
    const workers = (trial.dialect === "postgres" ? ["w1", "w2"] : ["w1"])
      .map((name) => trial.supervised(name, { WEBHOOKS_SCHEDULE: "0s,1s,1s,1s" }))
    const deaths: Array<Promise<number>> = []
    const overlaps: Array<string> = []
    const kill = ({ worker }: Arrival) => {
      const victim = workers.map(({ current }) => current()).find((process) => process?.name === worker)
      if (victim !== undefined) deaths.push(trial.kill(victim))
    }
    const others = () => new Set(trial.receiver.arrivals.filter(({ n }) => aggregateOf(n) > 1).map(({ n }) => n)).size
    // The first of aggregate 0 fails twice, and the second time not before the others are done; the eleventh of aggregate 1 kills its worker.
    trial.receiver.answer(async (arrival) => {
      const open = trial.receiver.open().filter((other) =>
        other !== arrival && aggregateOf(other.n) === aggregateOf(arrival.n)
      )
      if (open.length > 0) overlaps.push(`${open.map(({ n }) => n).join()} and ${arrival.n}`)
      const before = trial.receiver.arrivals.filter(({ n }) => n === arrival.n).length
      if (arrival.n === aggregates) {
        if (before > 1) await until("the events of other aggregates", () => others() === 3 * each)
        return before <= 2 ? 500 : 204
      }
      if (arrival.n === 1 + 10 * aggregates && deaths.length === 0) kill(arrival)
      await sleep(5)
      return 204
    })
    await trial.enqueue(numbered(aggregates * each, 1, (n) => ({ aggregateId: `o${aggregateOf(n)}` })))
    await until("the events of other aggregates", () => others() === 3 * each)
    const waited = trial.receiver.arrivals.filter(({ n }) => aggregateOf(n) === 0)
    const flowed = others()
    await trial.settled()
    for (const worker of workers) await worker.stop()
    await Promise.all(deaths)
    expect(deaths.length === 1, `${deaths.length} kills`)
    expect(
      waited.every(({ n }) => n === aggregates),
      `an event overtook the one before it: ${waited.map(({ n }) => n)}`
    )
    expect(overlaps.length === 0, `two at once of one aggregate: ${overlaps.slice(0, 3).join("; ")}`)
    for (let aggregate = 0; aggregate < aggregates; aggregate++) {
      const order = trial.receiver.arrivals.map(({ n }) => n).filter((n) => aggregateOf(n) === aggregate)
      expect(
        order.every((n, index) => index === 0 || n >= order[index - 1]!),
        `order of aggregate ${aggregate}: ${order}`
      )
    }
    const { deliveries, duplicates, requests } = trial.check()
    return { aggregates, deliveries, requests, duplicates, kills: deaths.length, "flowed past the blocked one": flowed }
  }
}]

// --- internal

/** Milliseconds. */
const mostLate = 300

/** The shortest time in which six of them fell. */
const six = (times: ReadonlyArray<number>): number => Math.min(...times.slice(5).map((at, index) => at - times[index]!))

/** Milliseconds; half of what the rate is kept below what was asked for. */
const network = 50
