/**
 * `npm run test:hostile`: deliveries by the thousand to receivers that misbehave in every way we know of, on real sockets. Prints a line a receiver and exits with 1 when
 * one fails. `--only NAME` runs those whose name has NAME in it, `--list` prints the names.
 */
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import type { HostilePeer } from "../support/hostile/peer.js"
import { table } from "../support/hostile/table.js"
import { trial, world } from "../support/hostile/trial.js"
import { heap, sockets } from "../support/measuring.js"

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true, default: [] },
    list: { type: "boolean", default: false },
    repetitions: { type: "string" }
  }
})

/** Milliseconds that a delivery may take beyond the attempt timeout, its tenth, and stalls of the process. */
const allowance = 100

/** MiB that the process may grow by while deliveries run, 50 at a time, receiver and what awaits collection included, … */
const peakGrowth = 160

/** … and that may be left of it afterwards. */
const heapGrowth = 4

const chosen = table.filter(({ name }) => values.only.length === 0 || values.only.some((part) => name.includes(part)))

if (values.list || chosen.length === 0) {
  process.stdout.write(chosen.map(({ name }) => `${name}\n`).join(""))
  if (chosen.length === 0) process.stderr.write(`hostile: no receiver has ${values.only.join(" or ")} in its name\n`)
  process.exit(chosen.length === 0 ? 2 : 0)
}

const perform = (served: Effect.Effect.Success<typeof world>, peer: HostilePeer) =>
  Effect.gen(function*() {
    // The first few load code and fill caches: what grows afterwards, leaks.
    yield* trial(served, peer, { repetitions: 5, allowance })
    const repetitions = Number(values.repetitions ?? peer.repetitions ?? 1000)
    const before = { heap: yield* heap, rss: process.memoryUsage.rss(), sockets: sockets() }
    let peak = before.rss
    const watch = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage.rss())
    }, 10)
    const started = performance.now()
    const { fibers, longest, open, problems, stall } = yield* trial(served, peer, { repetitions, allowance })
    const seconds = (performance.now() - started) / 1000
    clearInterval(watch)
    const grown = (yield* heap) - before.heap
    const left = sockets() - before.sockets
    const rss = peak / 0x100000
    const all = [
      ...problems,
      ...(left > 0 ? [`${left} sockets are left`] : []),
      ...(grown > heapGrowth ? [`the heap has grown by ${grown.toFixed(1)} MiB`] : []),
      ...(rss - before.rss / 0x100000 > peakGrowth
        ? [`the process grew by ${(rss - before.rss / 0x100000).toFixed(0)} MiB`]
        : [])
    ]
    process.stdout.write(
      `${all.length === 0 ? "ok  " : "FAIL"}  ${peer.name.padEnd(56)} ${String(repetitions).padStart(5)} x ${
        seconds.toFixed(1).padStart(5)
      } s  longest ${String(Math.round(longest)).padStart(4)} ms (stall ${Math.round(stall)})  peak RSS ${
        rss.toFixed(0).padStart(4)
      } MiB (+${(rss - before.rss / 0x100000).toFixed(0)})  heap ${grown >= 0 ? "+" : ""}${
        grown.toFixed(1)
      } MiB  sockets ${open}/${left}  fibers ${fibers}  ${
        all.length > 0
          ? `\n      ${all.join("\n      ")}`
          : typeof peer.expected === "function"
          ? "delivered or blocked"
          : [peer.expected.outcome, peer.expected.class, peer.expected.status].filter((part) => part !== undefined)
            .join(" ")
      }\n`
    )
    return all.length === 0
  })

const started = performance.now()
const results = await Effect.runPromise(
  Effect.scoped(Effect.flatMap(world, (served) => Effect.forEach(chosen, (peer) => perform(served, peer))))
)
const failed = results.filter((ok) => !ok).length
process.stdout.write(
  `${results.length - failed} of ${results.length} receivers ok, ${
    ((performance.now() - started) / 1000).toFixed(0)
  } s\n`
)
process.exitCode = failed === 0 ? 0 : 1
