/**
 * A worker in a process: `worker.ts NAME SETUP`, NAME being `bare` or `effect-webhooks`. Works from its start until the channel closes, and tells what it has used
 * when it is asked.
 */
import { openBare, work } from "./bare.js"
import { type DurableSetup, outboxWithWorker } from "./durable.js"

/** What a worker has used since its start. */
export interface Used {
  /** CPU microseconds. */
  readonly cpu: number
  /** Resident bytes. */
  readonly rss: number
}

const start = async (name: string, setup: DurableSetup): Promise<() => Promise<void>> => {
  if (name === "bare") {
    void work(openBare(setup.database), Object.values(setup.endpoints)[0]!)
    return () => Promise.resolve()
  }
  const runtime = outboxWithWorker(setup)
  await runtime.runtime()
  return () => runtime.dispose()
}

const [, , name, setup] = process.argv
const stop = await start(name!, JSON.parse(setup!) as DurableSetup)
process.on("message", () => {
  const { system, user } = process.cpuUsage()
  const used: Used = { cpu: system + user, rss: process.memoryUsage.rss() }
  process.send!(used)
})
process.on("disconnect", () => {
  void stop().catch(() => undefined).finally(() => process.exit(0))
})
process.send!({ ready: true })
