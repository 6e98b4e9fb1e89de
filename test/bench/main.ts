/**
 * `npm run bench`: `--json` prints a line for each figure, `--only NAME` runs one benchmark, `--rounds N` and `--count N` set its length.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { contenders } from "./direct.js"
import { type Figure, measure } from "./measure.js"

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    only: { type: "string" },
    rounds: { type: "string", default: "5" },
    count: { type: "string", default: "5000" }
  }
})

const benchmarks: Record<string, (url: string) => Promise<ReadonlyArray<Figure>>> = {
  direct: (url) => measure("direct", contenders(url), { rounds: Number(values.rounds), count: Number(values.count) })
}

const names = Object.keys(benchmarks)
if (values.only !== undefined && !names.includes(values.only)) {
  process.stderr.write(`bench: no benchmark "${values.only}"; there are: ${names.join(", ")}\n`)
  process.exit(2)
}

// The benchmark itself may run through a loader, and so must the receiver.
const receiver = spawn(process.execPath, [
  ...process.execArgv,
  fileURLToPath(new URL("./receiver.ts", import.meta.url))
], {
  stdio: ["ignore", "pipe", "inherit", "ipc"]
})
const [port] = (await once(createInterface(receiver.stdout!), "line")) as [string]
const url = `http://127.0.0.1:${port}/`

if (!values.json) {
  process.stdout.write(
    "layers active: correlation id, deadline, retry, budget, breaker, slots, attempt timeout, signatures (both forms), metrics\n"
  )
}
for (const name of names.filter((name) => values.only === undefined || values.only === name)) {
  for (const figure of await benchmarks[name]!(url)) {
    process.stdout.write(
      values.json
        ? `${JSON.stringify(figure)}\n`
        : `${figure.name.padEnd(26)} ${figure.value.toFixed(1).padStart(10)} ${figure.unit.padEnd(16)} ${
          figure.ratio.toFixed(2).padStart(6)
        } × ${figure.reference} (${figure.spread.map((ratio) => ratio.toFixed(2)).join(" to ")})\n`
    )
  }
}
receiver.disconnect()
