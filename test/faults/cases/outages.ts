/** The database goes away, and comes back; its disk is full, and is emptied. What was acknowledged meanwhile is delivered, once. */
import { join } from "node:path"
import { startPostgres } from "../../support/postgres.js"
import { postgres, sqlite } from "../databases.js"
import { stop } from "../processes.js"
import { mountSmallDisk } from "../tmpfs.js"
import { type Case, expect, lines, numbered, type Service, type Trial } from "../trial.js"
import { gate, sleep, until } from "../waiting.js"

export const cases: ReadonlyArray<Case> = [{
  name: "database restarts",
  idle: true,
  on: ["postgres"],
  deaf: true,
  run: async (trial) => {
    // A server of its own: the others' must not go down with it.
    const server = await startPostgres()
    trial.onEnd(server.stop)
    trial.database = await postgres(server)
    trial.configure({ a: {}, b: {} })
    await trial.migrate()
    // Long enough that no lease lapses while the database is away: then nothing may come twice.
    const env = { WEBHOOKS_LEASE: "15s" }
    const service = await trial.serve("s1", env)
    const worker = trial.worker("w1", env)
    const producer = produce(trial, service)
    const name = new URL(trial.database.url).pathname.slice(1)
    const red: Array<number> = []
    const recovered: Array<string> = []
    const green = async (what: string) => {
      const since = performance.now()
      await until(`ready again after ${what}`, async () => await service.ready() === 200, 30)
      const accepted = producer.accepted()
      await until(`events accepted after ${what}`, () => producer.accepted() > accepted + 20, 30)
      recovered.push(`${what} ${((performance.now() - since) / 1000).toFixed(1)} s`)
    }
    const down = async () => {
      await until("not ready", async () => {
        const status = await service.ready()
        if (status !== 200) red.push(status)
        return status !== 200
      }, 15)
    }
    await until("events flow", () => producer.accepted() > 100)
    for (let round = 1; round <= 2; round++) {
      await server.terminateBackends(name)
      await green("terminated backends")
    }
    await server.restart({ mode: "fast", whileDown: down })
    await green("restart")
    await server.restart({ mode: "crash", whileDown: down })
    await green("crash")
    await server.terminateBackends(name)
    await green("terminated backends")
    await producer.stop()
    await trial.settled(90)

    // Each listener on its own: the other process is frozen, and an event comes from a third.
    const heard: Array<string> = []
    for (const [frozen, listening] of [[service.process, worker], [worker, service.process]] as const) {
      frozen.signal("SIGSTOP")
      const since = performance.now()
      const n = 1_000_000 + heard.length
      await trial.enqueue(numbered(1, n))
      await until(
        `${listening.name} hears of an event from another process`,
        () => trial.receiver.arrivals.some((arrival) => arrival.n === n && arrival.worker === listening.name),
        15
      )
      heard.push(`${((performance.now() - since) / 1000).toFixed(1)} s`)
      frozen.signal("SIGCONT")
      await trial.settled()
    }
    for (const process of [service.process, worker]) await stop(process)
    expect(
      red.length >= 2 && red.every((status) => status === 503),
      `ready answered ${red.join(", ")} while it was down`
    )
    const { deliveries, duplicates } = trial.check()
    return {
      accepted: producer.accepted(),
      "refused or unanswered": producer.refused(),
      deliveries,
      duplicates,
      "recovered from": recovered.join(", "),
      "listeners heard after": heard.join(", ")
    }
  }
}, {
  name: "full disk",
  on: ["sqlite"],
  run: async (trial) => {
    const disk = mountSmallDisk(join(trial.folder, "disk"), 8)
    trial.onEnd(() => Promise.resolve(disk.unmount()))
    trial.database = sqlite(disk.folder)
    trial.configure({ a: { timeout: "60s" } })
    await trial.migrate()
    const release = gate()
    trial.receiver.answer(async ({ n }) => {
      if (n <= 5) await release.opened
      return 204
    })
    const service = await trial.serve("s1", { WEBHOOKS_LEASE: "60s" })
    trial.handOver(numbered(5))
    for (const id of await service.post(numbered(5))) trial.acknowledge(id)
    await until("attempts in flight", () => trial.receiver.open().length === 5)

    disk.fill()
    // The log of SQLite may have room that it has used before; big events soon find its end.
    let refusal: { readonly status: number; readonly body: unknown } | undefined
    let accepted = 0
    for (let n = 10; n < 200 && refusal === undefined; n++) {
      const event = { n, id: `e${n}`, padding: 100_000 }
      trial.handOver([event])
      const { body, status } = await service.offer([event])
      if (status === 202) {
        accepted++
        trial.acknowledge(event.id)
      } else refusal = { status, body }
    }
    const text = JSON.stringify(refusal?.body)
    expect(
      refusal?.status === 503 && /"code":"[a-z_-]+"/.test(text),
      `a full disk was answered with ${refusal?.status} ${text}`
    )
    trial.handOver([{ n: 300 }])
    const refused = await trial.start(["enqueue", "--json"], {
      input: lines([{ n: 300, id: "e300", padding: 100_000 }])
    }).ended
    expect(
      refused.code === 1 && /no space|full|space left/i.test(refused.err),
      `enqueue: ${refused.code} ${refused.err}`
    )
    expect(
      !/SQLITE|at .*\.js:/.test(refused.err.replace(/\(SQLITE_FULL\)/, "")),
      `enqueue forwards the driver's text: ${refused.err}`
    )
    // Now the attempts in flight end, and have nowhere to be written.
    const requests = trial.receiver.arrivals.length
    release.open()
    await sleep(3000)
    expect(service.process.alive(), `it ended: ${service.process.err().slice(-500)}`)
    expect(trial.receiver.arrivals.length <= requests + accepted, "it sends what it can't settle, again and again")

    disk.free()
    await until("an event is accepted again", async () => {
      const { status } = await service.offer([{ n: 400, id: "e400" }])
      return status === 202
    }, 30)
    trial.handOver([{ n: 400 }])
    trial.acknowledge("e400")
    await trial.settled(60)
    await stop(service.process)
    const [integrity] = await trial.database.query("PRAGMA integrity_check")
    expect(integrity?.integrity_check === "ok", `integrity_check: ${JSON.stringify(integrity)}`)
    const { deliveries, duplicates } = trial.check()
    return { refused: `${refusal?.status}`, deliveries, duplicates, integrity: "ok" }
  }
}]

// --- internal

/** Posts event after event, each until it is accepted. */
const produce = (trial: Trial, service: Service) => {
  const state = { stopping: false }
  let accepted = 0
  let refused = 0
  const loop = async () => {
    for (let n = 1; !state.stopping; n++) {
      const event = { n, id: `e${n}` }
      trial.handOver([event])
      for (;;) {
        const { status } = await service.offer([event])
        if (status === 202) break
        if (status !== 503 && status !== 0) throw new Error(`POST /v1/events answered ${status}`)
        refused++
        await sleep(50)
      }
      trial.acknowledge(event.id)
      accepted++
      await sleep(5)
    }
  }
  const ended = loop()
  return {
    accepted: () => accepted,
    refused: () => refused,
    stop: async () => {
      state.stopping = true
      await ended
    }
  }
}
