/** Worker processes, and what it takes them to deliver what is there. */
import type { ChildProcess } from "node:child_process"
import { end, message, program } from "../support/programs.js"
import { fill, type Filling, pending } from "./databases.js"
import type { DurableSetup } from "./durable.js"
import type { Receiver } from "./receiving.js"
import type { Used } from "./worker.js"

export interface Workers {
  readonly setup: DurableSetup
  readonly processes: ReadonlyArray<ChildProcess>
  readonly close: () => Promise<unknown>
}

/** Starts workers of one kind over one database. */
export const startWorkers = async (
  name: "bare" | "effect-webhooks",
  setup: DurableSetup,
  count: number
): Promise<Workers> => {
  const processes = Array.from(
    { length: count },
    () => program(new URL("./worker.ts", import.meta.url), [name, JSON.stringify(setup)])
  )
  await Promise.all(processes.map((process) => message(process)))
  return { setup, processes, close: () => Promise.all(processes.map(end)) }
}

/** What the workers have used since they started; the resident bytes of the largest. */
export const used = async ({ processes }: Workers): Promise<Used> => {
  const all = await Promise.all(processes.map((process) => {
    const answer = message<Used>(process)
    process.send({})
    return answer
  }))
  return { cpu: all.reduce((sum, { cpu }) => sum + cpu, 0), rss: Math.max(...all.map(({ rss }) => rss)) }
}

/** Stores deliveries at one moment and waits until they are settled. The clock starts with the first request: a poll may come before it. */
export const drain = async (workers: Workers, receiver: Receiver, filling: Filling) => {
  const count = filling.messages * filling.deliveries
  const before = await used(workers)
  const arrived = async () => {
    const answer = message<{ readonly requests: number }>(receiver.process)
    receiver.process.send({})
    return (await answer).requests
  }
  const from = await arrived()
  await fill(workers.setup.database, filling)
  const until = async (requests: number) => {
    for (const end = performance.now() + patience; performance.now() < end; await pause(2)) {
      const now = await arrived()
      if (now >= from + requests) return now
    }
    throw new Error(`${requests} requests have not come within ${patience / 1000} seconds`)
  }
  const first = await until(1)
  const started = performance.now()
  await until(count)
  while (await pending(workers.setup.database) > 0) await pause(2)
  const seconds = (performance.now() - started) / 1000
  const after = await used(workers)
  return { cpu: (after.cpu - before.cpu) / count, perSecond: (count + from - first) / seconds, rss: after.rss }
}

// --- internal

/** Milliseconds. */
const patience = 120_000

const pause = (time: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, time))
