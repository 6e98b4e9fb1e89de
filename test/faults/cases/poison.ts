/** A delivery that kills the process each time: it ends by itself, and takes no other with it. */
import { type Case, expect, numbered } from "../trial.js"
import { sleep, until } from "../waiting.js"

const poison = 100

export const cases: ReadonlyArray<Case> = [{
  name: "poison",
  on: ["sqlite", "postgres"],
  deaf: true,
  idle: true,
  run: async (trial) => {
    trial.configure({ a: {} })
    await trial.migrate()
    const deaths: Array<Promise<number>> = []
    const workers = (trial.dialect === "postgres" ? ["w1", "w2"] : ["w1"]).map((name) => trial.supervised(name))
    trial.receiver.answer(async ({ n, worker }) => {
      if (n === poison) {
        const victim = workers.map(({ current }) => current()).find((process) => process?.name === worker)
        if (victim !== undefined) deaths.push(trial.kill(victim))
      }
      await sleep(20)
      return 204
    })
    await trial.enqueue(numbered(200, 1, (n) => ({ id: `e${n}` })))
    await trial.settled()
    // It is still at work.
    await trial.enqueue(numbered(10, 201, (n) => ({ id: `e${n}` })))
    await until("later events", () => trial.receiver.arrivals.filter(({ n }) => n > 200).length === 10)
    await trial.settled()
    for (const worker of workers) await worker.stop()
    const inFlight = await Promise.all(deaths)
    const ended = await trial.database.query(
      "SELECT message_id, state, reason, lapses FROM webhook_deliveries WHERE state <> 'delivered'"
    )
    const texts = ended.map((row) => `${String(row.message_id)} ${String(row.state)} ${String(row.reason)}`)
    expect(texts.join() === `e${poison} exhausted crashed`, `other than delivered: ${texts.join(", ") || "none"}`)
    expect(deaths.length === 5, `${deaths.length} kills in place of 5`)
    // It is alone at first, for longer each time: half a second may be too short for a machine that is busy, and four are not.
    expect(
      inFlight.slice(3).every((each) => each === 1),
      `it was not attempted alone: ${inFlight.join(", ")} in flight at the kills`
    )
    trial.ledger.acknowledged.delete(`e${poison}`)
    const { deliveries, duplicates } = trial.check()
    return {
      kills: deaths.length,
      "in flight at each": inFlight.join("+"),
      delivered: deliveries - 1,
      duplicates,
      poison: `"${texts[0]}"`
    }
  }
}]
