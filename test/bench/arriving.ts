/** Contenders of `contenders/arrivals.ts`, and how long after its arrival each event is at the receiver. */
import type { ChildProcess } from "node:child_process"
import { sentAt, type Setup } from "./contenders/arrivals.js"
import { ask, start } from "./contending.js"
import type { Receiver } from "./receiving.js"

export const startArrivals = (
  name: "bare" | "effect-webhooks",
  setup: Setup,
  nodeArgs: ReadonlyArray<string> = []
): Promise<ChildProcess> => start(new URL("./contenders/arrivals.ts", import.meta.url).href, name, setup, nodeArgs)

/**
 * Lets `count` events arrive and waits until `expected` of them (default: all) have been received: milliseconds from handing in to receiving, and how many came a
 * second.
 */
export const arrivals = async (
  contender: ChildProcess,
  receiver: Receiver,
  count: number,
  expected = count
): Promise<{ readonly latencies: ReadonlyArray<number>; readonly perSecond: number }> => {
  const latencies: Array<number> = []
  const started = performance.now()
  let told = (_: { readonly id: string; readonly at: number }): void => undefined
  const all = new Promise<void>((resolve, reject) => {
    const patience = setTimeout(
      () => reject(new Error(`${latencies.length} of ${expected} events have come within two minutes`)),
      120_000
    )
    told = ({ at, id }) => {
      latencies.push(at - sentAt(id))
      if (latencies.length < expected) return
      clearTimeout(patience)
      resolve()
    }
  })
  receiver.process.on("message", told)
  try {
    await Promise.all([all, ask(contender, count)])
  } finally {
    receiver.process.off("message", told)
  }
  return { latencies, perSecond: expected * 1000 / (performance.now() - started) }
}
