/**
 * `npm run test:faults`: kills, freezes, full disks, lost answers and jumping clocks, against the built command line and real databases.
 * Prints a line a run and exits with 1 when one fails. `--only NAME` runs those whose name has NAME in it, `--all` the long ones, too, `--list` prints the names.
 */
import { parseArgs } from "node:util"
import * as clocks from "./cases/clocks.js"
import * as commits from "./cases/commits.js"
import * as hanging from "./cases/hanging.js"
import * as kills from "./cases/kills.js"
import * as leases from "./cases/leases.js"
import * as million from "./cases/million.js"
import * as outages from "./cases/outages.js"
import * as poison from "./cases/poison.js"
import * as producers from "./cases/producers.js"
import * as recovery from "./cases/recovery.js"
import * as sharing from "./cases/sharing.js"
import * as stopping from "./cases/stopping.js"
import * as transactions from "./cases/transactions.js"
import { postgres, sharedServer, sqlite, stopSharedServer } from "./databases.js"
import { killAll } from "./processes.js"
import { attempt, type Case } from "./trial.js"

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true, default: [] },
    list: { type: "boolean", default: false },
    all: { type: "boolean", default: false }
  }
})

// The longest first, so that nothing waits for them at the end.
const cases: ReadonlyArray<Case> = [
  ...sharing.cases,
  ...commits.cases,
  ...kills.cases,
  ...leases.cases,
  ...transactions.cases,
  ...hanging.cases,
  ...outages.cases,
  ...recovery.cases,
  ...poison.cases,
  ...stopping.cases,
  ...clocks.cases,
  // A dozen processes at once: when the cases that count on their times are over.
  ...producers.cases,
  ...million.cases
]

interface Run {
  readonly name: string
  readonly idle: boolean
  readonly run: () => ReturnType<typeof attempt>
}

/** So long that nothing here would be done if only polling noticed it. */
const noPolling = "10m"

const runs = cases.filter(({ soak }) => soak !== true || values.all || values.only.length > 0).flatMap((
  each
): ReadonlyArray<Run> =>
  each.on.flatMap((dialect) => {
    const make = (folder: string) =>
      dialect === "sqlite" ? Promise.resolve(sqlite(folder)) : sharedServer().then(postgres)
    const run = (suffix: string, poll: string): Run => ({
      name: `${each.name} (${dialect}${suffix})`,
      idle: each.idle === true,
      run: () => attempt(each, make, poll)
    })
    const deaf = dialect === "postgres" && each.deaf !== undefined
    return [
      ...(deaf && each.deaf === "only" ? [] : [run("", "200ms")]),
      ...(deaf ? [run(", no polling", noPolling)] : [])
    ]
  })
).filter(({ name }) => values.only.length === 0 || values.only.some((part) => name.includes(part)))

if (values.list || runs.length === 0) {
  process.stdout.write(runs.map(({ name }) => `${name}\n`).join(""))
  if (runs.length === 0) process.stderr.write(`faults: no case has ${values.only.join(" or ")} in its name\n`)
  process.exit(runs.length === 0 ? 2 : 0)
}

const failed: Array<Run> = []

const perform = async (each: Run): Promise<void> => {
  const { name, run } = each
  const started = performance.now()
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(1).padStart(5)} s`
  try {
    const figures = Object.entries(await run()).map(([what, value]) => `${what} ${value}`).join(", ")
    process.stdout.write(`ok    ${name.padEnd(38)} ${seconds()}  ${figures}\n`)
  } catch (error) {
    failed.push(each)
    const { cause, message } = error instanceof Error ? error : new Error(String(error))
    const text = cause instanceof Error ? `${cause.stack ?? cause.message}\n${message}` : message
    process.stdout.write(`FAIL  ${name.padEnd(38)} ${seconds()}  ${text.replaceAll("\n", "\n      ")}\n`)
  }
}

/** Performs what is in the queues, one run after the other, those of the first queue first. */
const lane = async (...queues: ReadonlyArray<Array<Run>>): Promise<void> => {
  const take = () => queues.find((queue) => queue.length > 0)?.shift()
  for (let next = take(); next !== undefined; next = take()) await perform(next)
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    void killAll()
    process.exit(130)
  })
}

const started = performance.now()
try {
  const idle = runs.filter(({ idle }) => idle)
  const busy = runs.filter(({ idle }) => !idle)
  await Promise.all([lane(busy, idle), lane(idle), lane(idle), lane(idle)])
  // The cases count on their leases and timeouts, which a machine with more to do than it can may break: what failed beside others is run once more, alone.
  const again = failed.splice(0)
  if (again.length > 0) process.stdout.write(`once more, alone: ${again.map(({ name }) => name).join(", ")}\n`)
  await lane(again)
} finally {
  await stopSharedServer()
}
process.stdout.write(
  `${runs.length - failed.length} of ${runs.length} runs ok, ${((performance.now() - started) / 1000).toFixed(0)} s\n`
)
process.exitCode = failed.length === 0 ? 0 : 1
