/** Events that arrive at random, by themselves: stored, sent and settled by the hand of `bare.ts`, and handed to the library with its worker in the same process. */
import { Outbox, WebhookEvent } from "effect-webhooks"
import * as Effect from "effect/Effect"
import { encode, openBare, sending } from "../bare.js"
import type { Contender, Contenders } from "../contending.js"
import { type DurableSetup, outboxWithWorker } from "../durable.js"

export interface Setup extends DurableSetup {
  readonly data: unknown
  /** Events a second, to each of the endpoints by turns. Without it: as fast as they can be stored, 32 at a time. */
  readonly rate?: number
  /** Events before those that are asked for, as fast as they can be stored. */
  readonly warmUp?: number
}

/** Tells in a message's id when it was handed in: milliseconds since the epoch, thousandths included. */
export const sentAt = (id: string): number => Number(id.split("-")[1]) / 1000

const idOf = (n: number): string => `t-${Math.round((performance.timeOrigin + performance.now()) * 1000)}-${n}`

/** Runs `one` at each arrival, whatever has become of the ones before; ends when all have ended. */
const arriving = async (count: number, rate: number | undefined, one: (n: number) => Promise<unknown>) => {
  const running: Array<Promise<unknown>> = []
  if (rate === undefined) {
    let next = 0
    await Promise.all(Array.from({ length: 32 }, async () => {
      while (next < count) await one(next++)
    }))
    return
  }
  let at = performance.now()
  for (let n = 0; n < count; n++) {
    at -= Math.log(1 - Math.random()) * 1000 / rate
    const wait = at - performance.now()
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait))
    running.push(one(n))
  }
  await Promise.all(running)
}

export const contenders: Contenders<Setup> = {
  bare: async ({ data, database, endpoints, rate, warmUp = 0 }): Promise<Contender> => {
    const bare = openBare(database)
    const ids = Object.keys(endpoints)
    const sends = ids.map((id) => sending(endpoints[id]!))
    const one = async (n: number) => {
      const at = n % ids.length
      const event = encode(ids[at]!, data, idOf(n))
      const [id] = await bare.insert([event])
      await sends[at]!(event)
      await bare.settle([{ id: id!, message: event.id, body: event.body }])
    }
    await arriving(warmUp, undefined, one)
    return { run: (count) => arriving(count, rate, one), close: bare.close }
  },
  "effect-webhooks": async (setup): Promise<Contender> => {
    const { data, endpoints, rate, warmUp = 0 } = setup
    const runtime = outboxWithWorker(setup)
    await runtime.runtime()
    const ids = Object.keys(endpoints)
    const one = (n: number) =>
      runtime.runPromise(Effect.flatMap(
        WebhookEvent.make({ type: ids[n % ids.length]!, data, id: idOf(n) }),
        (event) => Effect.flatMap(Outbox.Outbox, (outbox) => outbox.enqueue(event))
      ))
    await arriving(warmUp, undefined, one)
    return { run: (count) => arriving(count, rate, one), close: () => runtime.dispose() }
  }
}
