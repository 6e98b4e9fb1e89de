/**
 * `breaker`: what a circuit breaker adds to a call that does nothing: let through, refused with its error, and failing while the window is full. CPU time, less that of the
 * same call without a breaker.
 */
import { compare } from "./contending.js"
import { type Benchmark, figure } from "./figures.js"

/** What is measured, less what, compared with what. */
const measured = [
  { name: "effect-webhooks/call", of: "call", bare: "bare-effect", reference: "cockatiel/call" },
  { name: "cockatiel/call", of: "cockatiel-call", bare: "bare-promise", reference: "cockatiel/call" },
  { name: "opossum/call", of: "opossum-call", bare: "bare-promise", reference: "cockatiel/call" },
  { name: "effect-webhooks/rejection", of: "rejection", bare: "bare-effect", reference: "cockatiel/rejection" },
  { name: "cockatiel/rejection", of: "cockatiel-rejection", bare: "bare-promise", reference: "cockatiel/rejection" },
  { name: "opossum/rejection", of: "opossum-rejection", bare: "bare-promise", reference: "cockatiel/rejection" },
  {
    name: "effect-webhooks/failure",
    of: "failure-of-many",
    bare: "bare-effect-failure",
    reference: "effect-webhooks/failure of 10"
  },
  {
    name: "effect-webhooks/failure of 10",
    of: "failure-of-10",
    bare: "bare-effect-failure",
    reference: "effect-webhooks/failure of 10"
  },
  {
    name: "cockatiel/failure",
    of: "cockatiel-failure",
    bare: "bare-promise-failure",
    reference: "effect-webhooks/failure of 10"
  },
  {
    name: "opossum/failure",
    of: "opossum-failure",
    bare: "bare-promise-failure",
    reference: "effect-webhooks/failure of 10"
  }
]

const bare = ["bare-effect", "bare-promise"]

export const breaker: Benchmark = {
  name: "breaker",
  about:
    "a call that does nothing through a circuit breaker, less the call alone; failures with 100 000 results in the window",
  layers: ["circuit breaker"],
  async *run() {
    const contenders = [...new Set([...bare, ...measured.flatMap((one) => [one.bare, one.of])])]
    const samples = await compare({
      module: new URL("./contenders/breaker.ts", import.meta.url).href,
      names: contenders,
      setup: { full: 100_000 },
      rounds: 5,
      count: 200_000,
      // Opossum sorts its window anew for each failure.
      counts: { "opossum-failure": 20, "opossum-rejection": 20_000, "cockatiel-rejection": 20_000 }
    })
    const cpu = (row: typeof samples[number], name: string) => row[contenders.indexOf(name)]!.cpu
    for (const name of bare) {
      yield figure(
        `breaker/${name}`,
        "µs a call",
        "breaker/bare-effect",
        samples.map((row) => ({ value: cpu(row, name), reference: cpu(row, "bare-effect") }))
      )
    }
    const added = new Map(
      measured.map((one) => [one.name, samples.map((row) => cpu(row, one.of) - cpu(row, one.bare))])
    )
    for (const { name, reference } of measured) {
      const references = added.get(reference)!
      yield figure(
        `breaker/${name}`,
        "µs over bare",
        `breaker/${reference}`,
        added.get(name)!.map((value, round) => ({ value, reference: references[round]! }))
      )
    }
  }
}
