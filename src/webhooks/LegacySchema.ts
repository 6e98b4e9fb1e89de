/**
 * A bridge from `@effect/schema` (0.75, merged into `effect` at 3.10) to `effect/Schema`, for event classes that are
 * still written with the former. The two look alike and don't mix: a schema of one inside `Schema.Array` of the other
 * throws. Here the syntax tree is rebuilt, so that a bridged schema is one like any other.
 *
 * The types alone come from `@effect/schema`, an optional peer: nothing of it is loaded.
 */
import type * as Legacy from "@effect/schema/Schema"
import { globalValue } from "effect/GlobalValue"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { convert } from "./internal/legacyAst.js"

/**
 * The `effect/Schema` equal of a schema of `@effect/schema`: same types, same results when it decodes, encodes and
 * validates; class instances are instances of the same class. Structs, classes, tuples, records, unions, literals,
 * enums, template literals, refinements, brands, transformations, declarations (`Option`, `HashMap`, …) and recursive
 * schemas are all bridged, and one schema is bridged once.
 *
 * **Annotations are lost** but for names and texts (identifier, title, description, documentation) and for those that
 * steer parsing (parse options, concurrency, batching, decoding fallback): gone are messages, examples, defaults, JSON
 * Schema, arbitrary, pretty, equivalence, brands' names and your own. Class statics (`fields`, `make`, `extend`) stay
 * behind, on the class.
 *
 * Throws `UnsupportedLegacySchema` for what is no such schema; inside of a `suspend`, when it is first used.
 *
 * @example
 * import * as Old from "@effect/schema/Schema"
 * import * as Schema from "effect/Schema"
 *
 * class OrderCreated extends Old.TaggedClass<OrderCreated>()("OrderCreated", { placedAt: Old.Date }) {}
 *
 * const Orders = Schema.Array(fromLegacy(OrderCreated))
 */
export const fromLegacy = <A, I, R>(schema: Legacy.Schema<A, I, R>): Schema.Schema<A, I, R> => {
  const known = bridged.get(schema)
  if (known !== undefined) return known as Schema.Schema<A, I, R>
  if (!isLegacySchema(schema)) {
    return refuse(
      "schema",
      Schema.isSchema(schema)
        ? "is already a schema of effect/Schema; use it as it is"
        : "is not a schema of @effect/schema"
    )
  }
  const result = Schema.make<A, I, R>(convert(schema.ast, refuse))
  bridged.set(schema, result)
  return result
}

/** Whether a value is a schema (or a class) of `@effect/schema`. */
export const isLegacySchema = (value: unknown): value is Legacy.Schema.Any => Predicate.hasProperty(value, legacyTypeId)

/** What was to be bridged is no schema of `@effect/schema`, or holds a node that 0.75 doesn't have; `path` leads to it. */
export class UnsupportedLegacySchema
  extends Schema.TaggedError<UnsupportedLegacySchema>("effect-webhooks/UnsupportedLegacySchema")(
    "UnsupportedLegacySchema",
    { path: Schema.String, problem: Schema.String }
  )
{
  override get message(): string {
    return `${this.path}: ${this.problem}`
  }
}

// --- internal

const refuse = (path: string, problem: string): never => {
  throw new UnsupportedLegacySchema({ path, problem })
}

const legacyTypeId = Symbol.for("@effect/schema/Schema")

// A legacy class builds its tree anew at each look, so the class is the key.
const bridged = globalValue("effect-webhooks/LegacySchema/bridged", () => new WeakMap<object, Schema.Schema.All>())
