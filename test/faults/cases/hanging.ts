/** Among fifty endpoints one never answers and the names of four never resolve: the others get all that is theirs, meanwhile. */
import { start as startNameServer } from "../../support/dns.js"
import { type Case, expect, numbered } from "../trial.js"
import { until } from "../waiting.js"

const events = 40

export const cases: ReadonlyArray<Case> = [{
  name: "hanging endpoints",
  on: ["sqlite", "postgres"],
  run: async (trial) => {
    const deaf = Object.fromEntries(
      ["d1", "d2", "d3", "d4"].map((id) => [id, { url: `https://${id}.example/hooks`, timeout: "10m" }])
    )
    const healthy = Array.from({ length: 45 }, (_, index) => `e${index + 1}`)
    trial.configure({ hang: { timeout: "10m" }, ...deaf, ...Object.fromEntries(healthy.map((id) => [id, {}])) })
    await trial.migrate()
    const names = await startNameServer(() => "silent")
    trial.onEnd(names.stop)
    trial.receiver.answer(({ endpoint }) => endpoint === "hang" ? "hold" : 204)
    const worker = trial.worker("w1", { TEST_NAME_SERVER: names.address, WEBHOOKS_LEASE: "30s" }, [
      "../../support/egress/resolver.mjs"
    ])
    await trial.enqueue(numbered(events))
    const arrived = () => healthy.reduce((sum, id) => sum + trial.receiver.to(id).length, 0)
    await until(
      () => `all events at the ${healthy.length} others (${arrived()} of ${healthy.length * events})`,
      () => arrived() >= healthy.length * events,
      60
    )
    const lookups = new Set(names.questions().map((question) => question.split(" ")[1])).size
    const held = trial.receiver.open().length
    expect(held > 0 && trial.receiver.to("hang").length === held, `${held} requests are held by the one that hangs`)
    expect(lookups === 4, `${lookups} of four names were looked up`)
    await until(
      "the others settled",
      async () =>
        await trial.database.count("SELECT count(*) AS n FROM webhook_deliveries WHERE state = 'delivered'") ===
          healthy.length * events
    )
    // A fresh event still gets through at once.
    await trial.enqueue(numbered(1, 1000))
    await until("a fresh event", () => arrived() === healthy.length * (events + 1), 10)
    const { deliveries, duplicates } = trial.check(healthy)
    worker.signal("SIGKILL")
    await worker.ended
    return {
      healthy: healthy.length,
      deliveries,
      duplicates,
      "held by the one that hangs": held,
      "names looked up": lookups
    }
  }
}]
