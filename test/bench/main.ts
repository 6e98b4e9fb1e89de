/**
 * `npm run bench`: measures what the library costs, each figure as a ratio to a bare reference of the same run. `--only NAME` runs one benchmark, `--json` prints a line a
 * figure, `--list` the names. What each gives is stored in `results`, too. Refuses to run where what is measured is not what is committed, unless `--dirty` says that this is known.
 */
import { execFileSync } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { loadavg } from "node:os"
import { parseArgs } from "node:util"
import { backlog } from "./backlog.js"
import { breaker } from "./breaker.js"
import { direct } from "./direct.js"
import { type Benchmark, type Figure, meets, row } from "./figures.js"
import { growth } from "./growth.js"
import { isolation } from "./isolation.js"
import { latency } from "./latency.js"
import { memory } from "./memory.js"
import { outboxPostgres, outboxSqlite } from "./outbox.js"
import { folder } from "./plots.js"
import { startup } from "./startup.js"
import { targets } from "./targets.js"
import { timeouts } from "./timeouts.js"

const benchmarks: ReadonlyArray<Benchmark> = [
  direct,
  breaker,
  outboxSqlite,
  outboxPostgres,
  latency,
  isolation,
  backlog,
  timeouts,
  startup,
  memory,
  growth
]

const stop = (code: number, text: string): never => {
  process.stderr.write(`bench: ${text}\n`)
  process.exit(code)
}

const { values } = (() => {
  try {
    return parseArgs({
      options: {
        dirty: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        list: { type: "boolean", default: false },
        only: { type: "string", multiple: true, default: [] }
      }
    })
  } catch (error) {
    return stop(2, `${error instanceof Error ? error.message : String(error)} (--only NAME, --json, --list, --dirty)`)
  }
})()

// Whoever reads a pipe may have read enough.
process.stdout.on("error", () => process.exit(0))

const names = benchmarks.map(({ name }) => name)
const unknown = values.only.find((name) => !names.includes(name))
if (unknown !== undefined) stop(2, `no benchmark "${unknown}"; there are: ${names.join(", ")}`)
if (values.list) {
  process.stdout.write(names.map((name) => `${name}\n`).join(""))
  process.exit(0)
}

/** The commit that is measured. */
const commit = (() => {
  const git = (...args: ReadonlyArray<string>) => execFileSync("git", args, { encoding: "utf8" }).trim()
  try {
    return {
      id: git("rev-parse", "--short", "HEAD"),
      changed: git("status", "--porcelain", "--", ":/", ":(exclude,top)test/bench/results")
    }
  } catch {
    return undefined
  }
})()
if (commit !== undefined && commit.changed !== "" && !values.dirty) {
  stop(1, "there are changes that are not committed: figures would belong to no commit. Commit, or say --dirty")
}

const say = (text: string): void => {
  if (!values.json) process.stdout.write(`${text}\n`)
}

say(
  `effect-webhooks ${
    commit === undefined ? "" : `at ${commit.id}${commit.changed === "" ? "" : " with changes"}, `
  }Node.js ${process.versions.node}`
)
const missed: Array<string> = []
for (const { about, layers, name, run } of benchmarks) {
  if (values.only.length > 0 && !values.only.includes(name)) continue
  say(`\n${name}: ${about}`)
  say(`  active: ${layers.join(", ")}`)
  const figures: Array<Figure> = []
  for await (const figure of run((text) => say(`  ${text}`))) {
    figures.push(figure)
    const target = targets[figure.name]
    if (meets(figure, target) === false) missed.push(figure.name)
    process.stdout.write(values.json ? `${JSON.stringify(figure)}\n` : `${row(figure, target)}\n`)
  }
  mkdirSync(folder, { recursive: true })
  const circumstances = {
    commit: commit?.id,
    changed: commit?.changed !== "",
    node: process.versions.node,
    load: loadavg()
  }
  writeFileSync(`${folder}${name}.json`, `${JSON.stringify({ ...circumstances, figures }, null, 2)}\n`)
}
say(missed.length === 0 ? "\nall targets met" : `\ntargets missed: ${missed.join(", ")}`)
