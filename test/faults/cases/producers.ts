/** Many producers and many workers at once, and no faults: each delivery exactly once. */
import { type Case, expect, numbered } from "../trial.js"

const producers = 8

const exactlyOnce: Case = {
  name: "producers",
  on: ["postgres"],
  run: async (trial) => {
    const { each, workers } = trial.dialect === "postgres" ? { each: 2500, workers: 4 } : { each: 1000, workers: 1 }
    // So many processes at once may be slower than an attempt's ten seconds, and one that runs out of time is sent again.
    trial.configure({ a: { timeout: "60s" } })
    await trial.migrate()
    const env = { WEBHOOKS_LEASE: "30s", WEBHOOKS_CONCURRENCY: "100", WEBHOOKS_ENDPOINT_CONCURRENCY: "100" }
    const fleet = Array.from({ length: workers }, (_, index) => trial.supervised(`w${index + 1}`, env))
    const started = performance.now()
    await Promise.all(
      Array.from({ length: producers }, (_, index) => trial.enqueueByCommand(numbered(each, 1 + index * each)))
    )
    await trial.settled(120)
    const seconds = (performance.now() - started) / 1000
    for (const worker of fleet) await worker.stop()
    const { deliveries, duplicates, requests } = trial.check()
    expect(deliveries === producers * each, `${deliveries} deliveries of ${producers * each}`)
    expect(requests === deliveries, `${requests} requests for ${deliveries} deliveries`)
    const senders = new Set(trial.receiver.arrivals.map(({ worker }) => worker)).size
    expect(senders === workers, `only ${senders} of ${workers} workers took part`)
    return {
      messages: deliveries,
      producers,
      workers: senders,
      duplicates,
      "deliveries/s": (deliveries / seconds).toFixed(0)
    }
  }
}

// On SQLite there is one worker, and what it has to show is shown on PostgreSQL.
export const cases: ReadonlyArray<Case> = [exactlyOnce, { ...exactlyOnce, on: ["sqlite"], soak: true }]
