/**
 * Loaded before a program: its wall clock can be set from outside. At SIGUSR2 it jumps by the milliseconds that the file `CLOCK_FILE` says. What measures
 * durations (`performance.now`, `process.hrtime`, timers) goes on, as it does when a machine's clock is set.
 */
import { readFileSync } from "node:fs"

const real = Date.now.bind(Date)
let offset = 0
Date.now = () => real() + offset
globalThis.Date = new Proxy(Date, {
  apply: () => new Date().toString(),
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [target.now()] : args, newTarget)
})
process.on("SIGUSR2", () => {
  offset = Number(readFileSync(process.env.CLOCK_FILE, "utf8"))
  process.stderr.write(`clock: ${offset} ms\n`)
})
