/** An event leaves if, and only if, the transaction that it was enqueued in has committed: whatever becomes of the process. */
import { type Case, expect, numbered } from "../trial.js"
import { gate, until } from "../waiting.js"

export const cases: ReadonlyArray<Case> = [{
  name: "transactions",
  idle: true,
  on: ["sqlite", "postgres"],
  deaf: true,
  run: async (trial) => {
    trial.configure({ a: {} })
    await trial.migrate()
    trial.handOver(numbered(60))
    // Odd numbers roll back; the program kills itself right after its last COMMIT, with no worker anywhere.
    const committed = await trial.start(["committed"], { program: "transactions.ts" }).ended
    expect(committed.signal === "SIGKILL", `the program was not killed: ${committed.code} ${committed.err}`)
    // And this one between the enqueue and the COMMIT.
    const open = await trial.start(["open"], { program: "transactions.ts" }).ended
    expect(open.signal === "SIGKILL", `the program was not killed: ${open.code} ${open.err}`)
    for (let n = 2; n <= 40; n += 2) trial.acknowledge(`e${n}`)

    const orders = await trial.database.count("SELECT count(*) AS n FROM orders")
    const messages = await trial.database.count("SELECT count(*) AS n FROM webhook_messages")
    expect(orders === 20 && messages === 20, `${orders} orders and ${messages} messages of 20`)
    const worker = trial.supervised("w1")
    await trial.settled()
    // A later event has been delivered, so the worker has seen all that is there.
    await trial.enqueue(numbered(1, 60, () => ({ id: "e60" })))
    await until("the last event", () => trial.receiver.arrivals.some(({ n }) => n === 60))
    await worker.stop()
    const phantoms = trial.receiver.arrivals.filter(({ n }) => n % 2 === 1 || n > 40 && n < 60)
    expect(phantoms.length === 0, `sent although rolled back: ${phantoms.map(({ n }) => n).join(", ")}`)
    const { deliveries, duplicates } = trial.check()
    expect(deliveries === 21, `${deliveries} deliveries of 21`)
    return { committed: 20, "rolled back": 20, "killed before COMMIT": 10, deliveries, duplicates }
  }
}, {
  name: "killed after 202",
  idle: true,
  on: ["sqlite", "postgres"],
  deaf: true,
  run: async (trial) => {
    trial.configure({ a: {} })
    await trial.migrate()
    // The first process never gets an answer from the receiver: all that it accepts is undelivered when it dies.
    const never = gate<number>()
    trial.receiver.answer(({ worker }) => worker === "s1" ? never.opened : 204)
    const first = await trial.serve("s1")
    trial.handOver(numbered(50))
    for (let n = 1; n <= 50; n++) {
      const [id] = await first.post([{ n }])
      trial.acknowledge(id!)
    }
    await until("a request is held", () => trial.receiver.open("s1").length > 0)
    const inFlight = await trial.kill(first.process)
    const second = trial.supervised("w2")
    await trial.settled(30)
    await second.stop()
    const { deliveries, duplicates } = trial.check()
    return { acknowledged: 50, "in flight at the kill": inFlight, deliveries, duplicates }
  }
}]
