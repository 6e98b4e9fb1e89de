/**
 * Twenty kills in two thousand events to three endpoints, each sent by the receiver while it holds a request of its victim: nothing is lost, and
 * nothing comes twice that was not in flight at a kill.
 */
import type { Running } from "../processes.js"
import { type Case, expect, numbered } from "../trial.js"
import { sleep } from "../waiting.js"

const events = 2000
const wanted = 20
const concurrency = 32

export const cases: ReadonlyArray<Case> = [{
  name: "kills",
  idle: true,
  on: ["sqlite", "postgres"],
  deaf: true,
  run: async (trial) => {
    trial.configure({ a: {}, b: {}, c: {} })
    await trial.migrate()
    const env = { WEBHOOKS_CONCURRENCY: String(concurrency) }
    const workers = (trial.dialect === "postgres" ? ["w1", "w2"] : ["w1"]).map((name) => trial.supervised(name, env))
    const fuses = new Map<string, number>()
    const deaths: Array<Promise<number>> = []
    trial.receiver.answer(async ({ worker }) => {
      // From the first request of a worker to its three hundredth, so that every stage of its life is hit.
      const fuse = (fuses.get(worker) ?? lengths[fuses.size % lengths.length]!) - 1
      fuses.set(worker, fuse)
      if (fuse <= 0 && deaths.length < wanted) {
        const victim = workers.map(({ current }) => current()).find((process) => process?.name === worker)
        if (victim?.alive() === true) deaths.push(kill(victim))
      }
      await sleep(10)
      return 204
    })
    const kill = (victim: Running): Promise<number> => trial.kill(victim)

    for (let batch = 0; batch < 4; batch++) await trial.enqueue(numbered(events / 4, 1 + batch * events / 4))
    await trial.settled(150)
    for (const worker of workers) await worker.stop()
    const inFlight = await Promise.all(deaths)
    expect(deaths.length === wanted, `${deaths.length} kills in place of ${wanted}`)
    // A slot is taken until the outcome is written.
    expect(Math.max(...inFlight) <= concurrency, `${Math.max(...inFlight)} attempts unsettled at one kill`)
    const { deliveries, duplicates } = trial.check()
    return {
      kills: deaths.length,
      deliveries,
      duplicates,
      "in flight at the kills": inFlight.reduce((sum, each) => sum + each, 0)
    }
  }
}]

// --- internal

const lengths = [150, 1, 60, 300, 5, 120, 200, 30]
