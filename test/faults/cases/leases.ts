/** A request longer than the lease stays one request; a worker that was frozen past its lease has no say any more. */
import { stop } from "../processes.js"
import type { Arrival } from "../receiver.js"
import { type Case, expect, numbered } from "../trial.js"
import { gate, sleep, until } from "../waiting.js"

export const cases: ReadonlyArray<Case> = [{
  name: "long request",
  on: ["sqlite", "postgres"],
  deaf: true,
  idle: true,
  run: async (trial) => {
    trial.configure({ slow: { timeout: "30s" }, quick: {} })
    await trial.migrate()
    trial.receiver.answer(async ({ endpoint }) => {
      if (endpoint === "slow") await sleep(7000)
      return 204
    })
    const workers = (trial.dialect === "postgres" ? ["w1", "w2"] : ["w1"]).map((name) =>
      trial.supervised(name, { WEBHOOKS_LEASE: "3s" })
    )
    await trial.enqueue(numbered(5))
    // The others come while the first are held, so both workers look for work all the time.
    for (let round = 1; round <= 3; round++) await trial.enqueue(numbered(1, 10 * round))
    await trial.settled()
    for (const worker of workers) await worker.stop()
    const { deliveries, requests } = trial.check()
    expect(requests === deliveries && deliveries === 16, `${requests} requests for ${deliveries} of 16 deliveries`)
    const held = trial.receiver.to("slow").map((arrival) => arrival.endedAt()! - arrival.at)
    return { deliveries, requests, lease: "3 s", "shortest request held": `${(Math.min(...held) / 1000).toFixed(1)} s` }
  }
}, {
  name: "frozen worker",
  on: ["postgres"],
  deaf: true,
  idle: true,
  run: async (trial) => {
    trial.configure({ a: { timeout: "60s" } })
    await trial.migrate()
    const late = gate<number>()
    const second = gate<number>()
    trial.receiver.answer((arrival) =>
      arrival.n !== 1
        ? 204
        : trial.receiver.to("a").filter(({ n }) => n === 1)[0] === arrival
        ? late.opened
        : second.opened
    )
    const first = trial.worker("w1")
    await trial.enqueue(numbered(1))
    await until("the first request", () => trial.receiver.arrivals.length === 1)
    first.signal("SIGSTOP")
    const other = trial.worker("w2")
    const attempts = (): ReadonlyArray<Arrival> => trial.receiver.to("a").filter(({ n }) => n === 1)
    await until("the other worker sends it when the lease has lapsed", () => attempts().length === 2, 20)
    expect(attempts()[1]!.worker === "w2", "the second request is not the other worker's")
    trial.ledger.inFlight.set("a/" + attempts()[0]!.id, 1)

    // The frozen one now learns that all went well, while the one that has the delivery still waits for its own answer.
    late.open(204)
    first.signal("SIGCONT")
    await until("the late answer has arrived", () => attempts()[0]!.outcome() === 204)
    // It is awake and at work: a later event of its own shows that what it had to settle has been settled, or refused.
    await until("the worker that was frozen works again", async () => {
      const n = 100 + trial.receiver.arrivals.length
      await trial.enqueue(numbered(1, n))
      await until("a fresh event", () => trial.receiver.arrivals.some((arrival) => arrival.n === n), 20)
      return trial.receiver.arrivals.some((arrival) => arrival.n >= 100 && arrival.worker === "w1")
    })
    await sleep(1000)
    const row = async () => {
      const [found] = await trial.database.query(
        `SELECT d.state, d.lane, d.attempts, (SELECT count(*) FROM webhook_attempts a WHERE a.delivery_id = d.id) AS recorded
         FROM webhook_deliveries d WHERE d.message_id = '${attempts()[0]!.id}'`
      )
      return `${String(found?.state)} ${String(found?.lane)}, ${String(found?.attempts)} attempts, ${
        String(found?.recorded)
      } recorded`
    }
    const refused = await row()
    expect(
      refused.startsWith("pending leased") && refused.endsWith("0 recorded"),
      `the late settle changed it: ${refused}`
    )
    // And the answer that counts is the second's.
    second.open(500)
    await until("the second answer is settled", async () => (await row()).endsWith("1 recorded"))
    const after = await row()
    expect(after.startsWith("pending retry"), `the outcome of the second attempt is not the one that stands: ${after}`)
    for (const worker of [first, other]) await stop(worker)
    return { requests: attempts().length, "after the late settle": `"${refused}"`, "at the end": `"${after}"` }
  }
}]
