/** The wall clock jumps under a running worker: no burst, no stall, no early Retry-After, no lease that lapses because of it. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { type Case, expect, numbered } from "../trial.js"
import { sleep, until } from "../waiting.js"

const hours = 3_600_000

export const cases: ReadonlyArray<Case> = [{
  name: "wall clock jumps",
  on: ["sqlite", "postgres"],
  idle: true,
  run: async (trial) => {
    trial.configure({ ok: { timeout: "30s" }, retry: {}, later: {}, paused: {} })
    await trial.migrate()
    const file = join(trial.folder, "clock")
    const firsts = new Map<string, number>()
    trial.receiver.answer(async ({ endpoint, n }) => {
      const times = (firsts.get(`${endpoint} ${n}`) ?? 0) + 1
      firsts.set(`${endpoint} ${n}`, times)
      // The first event of each round is the one whose schedule the clock jumps over.
      if (endpoint === "paused") return { status: 503, headers: { "retry-after": "3600" } }
      if (n % 100 !== 0) return 204
      if (endpoint === "ok") await sleep(4000)
      if (endpoint === "retry") return times === 1 ? 500 : 204
      return endpoint === "later" ? 500 : 204
    })
    // Hours of lease would hide a lease that is judged by the wall clock; the four seconds of these runs don't.
    const worker = trial.supervised("w1", { WEBHOOKS_SCHEDULE: "0s,3s,90m", CLOCK_FILE: file }, ["clock.mjs"])
    const waits: Array<number> = []
    for (const [round, jump] of [2 * hours, -2 * hours, 0].entries()) {
      const first = 100 * (round + 1)
      await trial.enqueue(numbered(1, first))
      await until("the first attempts", () => trial.receiver.arrivals.filter(({ n }) => n === first).length >= 3)
      writeFileSync(file, String(jump))
      const process = worker.current()!
      process.signal("SIGUSR2")
      await until("the jump", () => process.err().includes(`clock: ${jump} ms`), 5)
      // Fresh events go on, each at once.
      for (let n = first + 1; n <= first + 5; n++) {
        await trial.enqueue(numbered(1, n))
        await until(`event ${n}`, () => trial.receiver.to("ok").some((arrival) => arrival.n === n), 10)
      }
      const of = (endpoint: string) => trial.receiver.to(endpoint).filter(({ n }) => n === first)
      await until("the retry", () => of("retry").length === 2)
      await until("the second attempt of what then waits", () => of("later").length === 2)
      waits.push(of("retry")[1]!.at - of("retry")[0]!.at)
      await until("the long request", () => of("ok").every((arrival) => arrival.outcome() === 204))
      await sleep(1500)
      expect(
        of("ok").length === 1,
        `a request was sent again while it was under way, after a jump of ${jump / hours} h`
      )
      expect(of("later").length === 2, `a retry due in 90 minutes came at once, after a jump of ${jump / hours} h`)
      expect(trial.receiver.to("paused").length === 1, `Retry-After was not kept after a jump of ${jump / hours} h`)
    }
    expect(waits.every((wait) => wait >= 3000 && wait < 60_000), `waits for a retry due in 3 s: ${waits.join(", ")} ms`)
    await worker.stop()
    trial.check(["ok", "retry"], { clocksAgree: false })
    return {
      jumps: "+2 h, -2 h, 0",
      "retry due in 3 s came after": waits.map((wait) => `${(wait / 1000).toFixed(1)} s`).join(", "),
      "requests to the paused endpoint": trial.receiver.to("paused").length
    }
  }
}]
