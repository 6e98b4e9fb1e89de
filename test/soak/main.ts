/**
 * `npm run soak`: the library at work for a while, on real sockets and an SQLite file, with 6 of its 20 endpoints in the hands of hostile receivers of all kinds. Nothing may be
 * lost and nothing invented, and what the process holds must not grow: see `flat.ts`. Prints a line a sample and a verdict; exits with 1 when something was wrong.
 * `--minutes N`: for how long, default 10.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Supervisor from "effect/Supervisor"
import { parseArgs } from "node:util"
import { sockets } from "../support/measuring.js"
import { hostile, steady } from "./agreed.js"
import * as Complaints from "./complaints.js"
import * as Soak from "./soak.js"

const { values } = parseArgs({ options: { minutes: { type: "string", default: "10" } } })
const seconds = Number(values.minutes) * 60
if (!(seconds > 0 && seconds < 1e6)) {
  process.stderr.write("soak: --minutes takes a number above 0\n")
  process.exit(2)
}

const say = (text: string): void => {
  process.stdout.write(`${text}\n`)
}
const complaints = Complaints.make()
const fibers = await Effect.runPromise(Supervisor.track)

say(`${steady.length + hostile.length} endpoints, ${hostile.length} of them hostile, for ${seconds} s`)
const running = Effect.runFork(Effect.provide(
  Soak.run({ seconds, fibers, say, complain: complaints.add }),
  Supervisor.addSupervisor(fibers)
))
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    say("stopped")
    running.unsafeInterruptAsFork(running.id())
  })
}
const exit = await Effect.runPromise(Fiber.await(running))
if (Exit.isFailure(exit)) {
  if (Cause.isInterruptedOnly(exit.cause)) process.exit(130)
  complaints.add(Cause.pretty(exit.cause))
}
const left = await Effect.runPromise(fibers.value)
if (left.length > 0) complaints.add(`${left.length} fibers run on after the end`)
if (sockets() > 0) complaints.add(`${sockets()} sockets are open after the end`)

const problems = complaints.list()
for (const problem of problems) say(`FAIL  ${problem}`)
say(problems.length === 0 ? "ok    nothing lost, nothing invented, nothing grown" : `${problems.length} problems`)
// Fibers that run on would keep the process alive.
process.exit(problems.length === 0 ? 0 : 1)
