/** SIGTERM in mid flight: what is under way ends and is settled, what is not is handed back at once, and nothing is sent twice. */
import { type Case, expect, numbered } from "../trial.js"
import { gate, sleep, until } from "../waiting.js"

export const cases: ReadonlyArray<Case> = [{
  name: "sigterm",
  on: ["sqlite", "postgres"],
  deaf: true,
  run: async (trial) => {
    trial.configure({ a: {}, b: {} })
    await trial.migrate()
    const release = gate()
    trial.receiver.answer(async ({ worker }) => {
      if (worker === "w1") await release.opened
      return 204
    })
    // A lease that would outlast this run: what comes in time was handed back.
    const env = { WEBHOOKS_LEASE: "10m", WEBHOOKS_CONCURRENCY: "8" }
    const first = trial.worker("w1", env)
    await trial.enqueue(numbered(200))
    await until("attempts in flight", () => trial.receiver.open("w1").length === 8)
    const leased = await trial.database.count(
      "SELECT count(*) AS n FROM webhook_deliveries WHERE lane = 'leased' AND state = 'pending'"
    )
    const started = performance.now()
    first.signal("SIGTERM")
    await sleep(500)
    expect(first.alive(), "it didn't wait for the attempts in flight")
    expect(trial.receiver.arrivals.length === 8, "it began an attempt after SIGTERM")
    release.open()
    const { code, signal } = await first.ended
    const stopping = performance.now() - started
    expect(code === 0, `it ended with ${code ?? signal}`)
    expect(stopping < 60_000, `it took ${stopping.toFixed(0)} ms to stop`)
    const held = await trial.database.count(
      "SELECT count(*) AS n FROM webhook_deliveries WHERE lane = 'leased' AND state = 'pending'"
    )
    expect(held === 0, `${held} deliveries are still leased after a graceful stop`)
    const delivered = await trial.database.count(
      "SELECT count(*) AS n FROM webhook_deliveries WHERE state = 'delivered'"
    )
    expect(delivered === 8, `${delivered} of the 8 in flight were settled`)
    const second = trial.supervised("w2", env)
    await trial.settled(20)
    await second.stop()
    const { deliveries, duplicates } = trial.check()
    return {
      "in flight": 8,
      "leased at SIGTERM": leased,
      "stopped in": `${stopping.toFixed(0)} ms`,
      deliveries,
      duplicates
    }
  }
}, {
  name: "sigterm past the grace time",
  on: ["sqlite", "postgres"],
  deaf: true,
  idle: true,
  run: async (trial) => {
    trial.configure({ a: { timeout: "60s" } })
    await trial.migrate()
    trial.receiver.answer(async ({ worker }) => {
      if (worker === "w1") await new Promise(() => undefined)
      return 204
    })
    const env = { WEBHOOKS_LEASE: "10m", WEBHOOKS_CONCURRENCY: "4", WEBHOOKS_GRACE: "2s" }
    const first = trial.worker("w1", env)
    await trial.enqueue(numbered(20))
    await until("attempts in flight", () => trial.receiver.open("w1").length === 4)
    const started = performance.now()
    first.signal("SIGTERM")
    const { code, signal } = await first.ended
    const stopping = performance.now() - started
    expect(code === 0, `it ended with ${code ?? signal}`)
    expect(stopping > 1500 && stopping < 30_000, `it took ${stopping.toFixed(0)} ms to stop; the grace time is 2 s`)
    // What was cut off in mid request may have arrived: it is sent again.
    for (const { endpoint, id } of trial.receiver.arrivals) trial.ledger.inFlight.set(`${endpoint}/${id}`, 1)
    const second = trial.supervised("w2", env)
    await trial.settled(20)
    await second.stop()
    const { deliveries, duplicates } = trial.check()
    return { "in flight": 4, "stopped in": `${stopping.toFixed(0)} ms`, deliveries, duplicates }
  }
}]
