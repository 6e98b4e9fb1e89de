/** What a domain event says of itself, read through its schema where it has one. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as ParseResult from "effect/ParseResult"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"
import * as LegacySchema from "../LegacySchema.js"
import { formatPath } from "./encodeTree.js"

/** The parts of a webhook event that a domain event holds. */
export interface DomainFields {
  readonly type: string
  readonly aggregateId: string | null
  readonly occurredAt: string | Date | DateTime.DateTime
  readonly data: unknown
}

/** Why there are none. */
export type Refusal =
  | { readonly _tag: "Invalid"; readonly path: string; readonly problem: string }
  | { readonly _tag: "Unserializable"; readonly path: string; readonly problem: string; readonly cause?: unknown }

/** Reads a domain event with the given schema, its class's own, or as it is. */
export const read = (
  event: object,
  options: { readonly type?: string | undefined; readonly schema?: Schema.Schema.AnyNoContext | undefined }
): Effect.Effect<DomainFields, Refusal> =>
  Effect.gen(function*() {
    if (!Predicate.isRecord(event)) return yield* invalid("event", "must be an object; an instance of a class is one")
    const seen = yield* guarded("event", () => ({
      constructor: (Object.getPrototypeOf(event) as { readonly constructor?: unknown } | null)?.constructor,
      tag: event["_tag"],
      aggregateId: event["aggregateId"],
      occurredAt: event["occurredAt"]
    }))
    const type = options.type ?? (typeof seen.tag === "string" ? seen.tag : className(seen.constructor))
    if (type === undefined) {
      return yield* invalid(
        "_tag",
        "is missing; give the event a _tag, make it an instance of a named class, or give a type"
      )
    }
    const own = options.schema ?? (yield* guarded("event", () => schemaOf(seen.constructor)))
    const encoded = yield* own === undefined ? plain(event) : encode(own, event)
    const keyOf = (name: string): string => own === undefined ? name : encodedKey(own.ast, name)
    const aggregateId = yield* readAggregateId(seen.aggregateId, member(encoded, keyOf("aggregateId")))
    const occurredAt = isTime(seen.occurredAt) ? seen.occurredAt : member(encoded, keyOf("occurredAt"))
    if (!isTime(occurredAt)) {
      return yield* invalid("occurredAt", "must be when it happened: RFC 3339 text, a Date or a DateTime")
    }
    const leaving = ["_tag", keyOf("aggregateId"), keyOf("occurredAt")]
    const data = yield* guarded("event", () => without(encoded, leaving))
    return { type, aggregateId, occurredAt, data }
  })

// --- internal

const invalid = (path: string, problem: string): Effect.Effect<never, Refusal> =>
  Effect.fail({ _tag: "Invalid", path, problem })

const guarded = <A>(path: string, body: () => A): Effect.Effect<A, Refusal> =>
  Effect.try({
    try: body,
    catch: (cause) => ({
      _tag: "Unserializable",
      path,
      problem: "could not be read: a getter, its toJSON or its schema threw",
      cause
    })
  })

const className = (constructor: unknown): string | undefined =>
  typeof constructor === "function" && constructor !== Object && constructor.name !== "" ? constructor.name : undefined

const schemaOf = (constructor: unknown): Schema.Schema.AnyNoContext | undefined => {
  if (typeof constructor !== "function") return undefined
  const schema: Schema.Schema.Any | undefined = Schema.isSchema(constructor)
    ? constructor
    : LegacySchema.isLegacySchema(constructor)
    ? LegacySchema.fromLegacy(constructor)
    : undefined
  // One that needs services dies when it encodes, which `encode` reports.
  return schema as Schema.Schema.AnyNoContext | undefined
}

const plain = (event: Record<PropertyKey, unknown>): Effect.Effect<unknown, Refusal> =>
  guarded(
    "event",
    () => typeof event["toJSON"] === "function" ? (event["toJSON"] as (key: string) => unknown)("") : event
  )

const encode = (schema: Schema.Schema.AnyNoContext, event: unknown): Effect.Effect<unknown, Refusal> =>
  Schema.encodeUnknown(schema as Schema.Schema<unknown, unknown>)(event).pipe(
    Effect.mapError(({ issue }) => fromIssue(issue)),
    Effect.catchAllDefect((cause) =>
      Effect.fail<Refusal>({
        _tag: "Unserializable",
        path: "event",
        problem: "its schema could not encode it: a transformation threw, needs a service, or the event nests too deep",
        cause
      })
    )
  )

// Paths and expectations only: the issue's own text repeats values.
const fromIssue = (issue: ParseResult.ParseIssue, path: ReadonlyArray<PropertyKey> = []): Refusal => {
  switch (issue._tag) {
    case "Pointer":
      return fromIssue(issue.issue, path.concat(issue.path))
    case "Composite":
      return issue.ast._tag === "Union"
        ? mismatch(issue.ast, path)
        : fromIssue("_tag" in issue.issues ? issue.issues : issue.issues[0], path)
    case "Refinement":
      return issue.kind === "Predicate" && issue.issue._tag === "Type"
        ? mismatch(issue.ast, path)
        : fromIssue(issue.issue, path)
    case "Transformation":
      return fromIssue(issue.issue, path)
    case "Missing":
      return mismatch(issue.ast.type, path)
    case "Unexpected":
      return { _tag: "Unserializable", path: pathText(path), problem: "is not a member of its schema" }
    case "Type":
    case "Forbidden":
      return mismatch(issue.ast, path)
  }
}

const mismatch = (ast: AST.AST, path: ReadonlyArray<PropertyKey>): Refusal => {
  // Without the description a refinement shows its title alone, "positive" for "a positive number".
  const expected = Option.getOrElse(AST.getDescriptionAnnotation(ast), () => String(ast))
  return {
    _tag: "Unserializable",
    path: pathText(path),
    problem: `does not fit its schema, which expects ${
      expected.length > 200 ? `${expected.slice(0, 200)}...` : expected
    }`
  }
}

const pathText = (path: ReadonlyArray<PropertyKey>): string =>
  path.length === 0
    ? "event"
    : path[0] === "aggregateId" || path[0] === "occurredAt"
    ? formatPath(path[0], path.slice(1))
    : formatPath("data", path)

const isTime = (value: unknown): value is string | Date | DateTime.DateTime =>
  typeof value === "string" || Predicate.isDate(value) || DateTime.isDateTime(value)

const readAggregateId = (value: unknown, encoded: unknown): Effect.Effect<string | null, Refusal> => {
  for (const id of [value, encoded]) {
    if (typeof id === "string") return Effect.succeed(id)
    if (typeof id === "bigint" || (typeof id === "number" && Number.isFinite(id))) return Effect.succeed(String(id))
  }
  return Predicate.isNullable(value) || encoded === null || (Option.isOption(value) && encoded === undefined)
    ? Effect.succeed(null)
    : invalid("aggregateId", "must be text, a number or a bigint, or absent")
}

const member = (value: unknown, key: string): unknown =>
  typeof value === "object" && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined

// Copies by definition of each property: an assignment to `__proto__` would set the prototype instead.
const without = (value: unknown, keys: ReadonlyArray<string>): unknown => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).filter(([key]) => !keys.includes(key)))
}

// A schema may rename a field on its encoded side (`Schema.fromKey`).
const encodedKey = (ast: AST.AST, name: string): string => {
  if (ast._tag === "Refinement") return encodedKey(ast.from, name)
  if (ast._tag !== "Transformation") return name
  const renamed = ast.transformation._tag === "TypeLiteralTransformation"
    ? ast.transformation.propertySignatureTransformations.find((change) => change.to === name)?.from
    : undefined
  return encodedKey(ast.from, typeof renamed === "string" ? renamed : name)
}
