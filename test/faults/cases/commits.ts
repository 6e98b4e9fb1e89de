/** A COMMIT that got lost, or whose answer did: what the program believes afterwards is what the database holds. */
import { startProxy } from "../proxy.js"
import { type Case, expect, lines, numbered, parse, type Trial } from "../trial.js"

export const cases: ReadonlyArray<Case> = [{
  name: "lost commit of an enqueue",
  idle: true,
  on: ["postgres"],
  run: async (trial) => {
    trial.configure({ a: {}, b: {} })
    await trial.migrate()
    const proxy = await startProxy(trial.database.url)
    trial.onEnd(proxy.close)
    const events = numbered(1000, 1, (n) => ({ id: `e${n}` }))
    trial.handOver(events)
    // Every other commit is lost, by turns on its way there and on its way back, until six are.
    proxy.decide((commit) =>
      commit % 2 === 0 || commit > 12 ? "pass" : commit % 4 === 1 ? "lose the answer" : "lose the request"
    )
    const chunks = Array.from({ length: 10 }, (_, index) => events.slice(index * 100, (index + 1) * 100))
    let refused = 0
    let duplicates = 0
    for (const chunk of chunks) {
      for (let attempt = 1;; attempt++) {
        const env = { WEBHOOKS_DATABASE_URL: proxy.url }
        const { code, err, out } = await trial.start(["enqueue", "--json"], { env, input: lines(chunk) }).ended
        for (const { duplicate, messageId } of parse(out)) {
          if (typeof messageId !== "string") continue
          trial.acknowledge(messageId)
          if (duplicate === true) duplicates++
        }
        if (code === 0) break
        expect(code === 1 && /database/.test(err), `enqueue ended with ${code}: ${err}`)
        refused++
        expect(attempt < 5, `enqueue was refused five times: ${err}`)
      }
    }
    expect(
      proxy.lost["lose the answer"] === 3 && proxy.lost["lose the request"] === 3,
      `only ${JSON.stringify(proxy.lost)} of ${proxy.commits()} commits`
    )
    expect(trial.ledger.acknowledged.size === 1000, `${trial.ledger.acknowledged.size} acknowledged of 1000`)
    const rows = await counted(trial)
    expect(rows === "1000 messages, 2000 deliveries", rows)
    const worker = trial.supervised("w1")
    await trial.settled()
    await worker.stop()
    const verdict = trial.check()
    expect(verdict.requests === 2000, `${verdict.requests} requests for 2000 deliveries`)
    return { ...losses(proxy.lost), refused, "found as duplicates": duplicates, rows: `"${rows}"` }
  }
}, {
  name: "lost commit of a worker",
  idle: true,
  on: ["postgres"],
  deaf: true,
  run: async (trial) => {
    const events = 400
    trial.configure({ a: {}, b: {} })
    await trial.migrate()
    const proxy = await startProxy(trial.database.url)
    trial.onEnd(proxy.close)
    await trial.enqueue(numbered(events))
    proxy.decide((commit) =>
      commit % 3 !== 0 || commit > 18 ? "pass" : commit % 2 === 0 ? "lose the answer" : "lose the request"
    )
    const worker = trial.supervised("w1", {
      WEBHOOKS_DATABASE_URL: proxy.url,
      WEBHOOKS_LEASE: "4s",
      // So many have to wait for their leases when the answer to a claim got lost, and are then tried one by one.
      WEBHOOKS_CONCURRENCY: "16"
    })
    await trial.settled(90)
    await worker.stop()
    expect(
      proxy.lost["lose the answer"] === 3 && proxy.lost["lose the request"] === 3,
      `only ${JSON.stringify(proxy.lost)} of ${proxy.commits()} commits`
    )
    const rows = await counted(trial)
    expect(rows === `${events} messages, ${2 * events} deliveries`, rows)
    const attempts = await trial.database.count("SELECT count(*) AS n FROM webhook_attempts")
    expect(attempts === 2 * events, `${attempts} attempts recorded for ${2 * events} deliveries`)
    // Its leases never lapsed unsettled, and it wasn't killed: what the database took it must not send again.
    const { duplicates } = trial.check()
    return { ...losses(proxy.lost), commits: proxy.commits(), duplicates, attempts, rows: `"${rows}"` }
  }
}]

// --- internal

const losses = (lost: Readonly<Record<string, number>>) => ({
  "answers lost": lost["lose the answer"] ?? 0,
  "requests lost": lost["lose the request"] ?? 0
})

const counted = async ({ database }: Trial): Promise<string> => {
  const messages = await database.count("SELECT count(*) AS n FROM webhook_messages")
  const deliveries = await database.count("SELECT count(*) AS n FROM webhook_deliveries")
  return `${messages} messages, ${deliveries} deliveries`
}
