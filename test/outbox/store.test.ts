/** Rows on their way into statements. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import { backends } from "../support/backends.js"

/** What a database can hold, with much of what has a meaning where an array, or JSON, is written. */
const text = FastCheck.oneof(
  FastCheck.constantFrom(
    "",
    "NULL",
    "null",
    "{}",
    "\"",
    "\\",
    "\\\"",
    "a,b",
    " ",
    "\n\t\u0001",
    "é\u{1f600}",
    "$1",
    "'"
  ),
  FastCheck.string({ unit: "grapheme" }).filter((text) => !text.includes("\0")),
  FastCheck.string({ unit: FastCheck.constantFrom("\"", "\\", ",", "{", "}", "N", " ", "'") })
)

const row = FastCheck.record({
  id: text,
  other: FastCheck.option(text),
  small: FastCheck.option(FastCheck.integer()),
  large: FastCheck.maxSafeInteger(),
  real: FastCheck.double({ noDefaultInfinity: true, noNaN: true, min: -1e100, max: 1e100 }).map((value) => value + 0)
}, { requiredKeys: ["id", "large"] })

describe.each(backends)("rows on $name", ({ layer }) => {
  it.effect("come into a statement as they are", () =>
    Effect.gen(function*() {
      const { execute, rows } = yield* OutboxSchema.OutboxSchema
      const lists = FastCheck.sample(FastCheck.array(row, { maxLength: 30 }), { numRuns: 60, seed: 1 })
      for (const list of [[], ...lists]) {
        const items = list.map((one, n) => ({ n, ...one }))
        const found = yield* execute<Record<string, unknown>>`SELECT * FROM ${
          rows(items, {
            n: "integer",
            id: "text",
            other: "text",
            small: "integer",
            large: "bigint",
            real: "double precision"
          })
        } ORDER BY v.n`
        // PostgreSQL's driver has a bigint as text.
        expect(found.map((one) => ({ ...one, large: Number(one["large"]) }))).toEqual(
          items.map(({ id, large, n, other = null, real = null, small = null }) => ({
            n,
            id,
            other,
            small,
            large,
            real
          }))
        )
      }
    }).pipe(Effect.provide(Layer.orDie(Layer.provideMerge(OutboxSchema.layerMigrated(), layer)))))
})
