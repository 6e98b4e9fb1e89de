/**
 * A schema whose refusals speak for themselves: each says which rule it is (`code`) and what is allowed, in our words, since the texts of
 * Schema's own errors print the value, which may be a secret.
 */
import * as Either from "effect/Either"
import type * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import type { Refusal } from "./problems.js"

/** A schema, and what it asks for in words. */
export interface Rule<A> {
  readonly expected: string
  readonly decode: (value: unknown) => Either.Either<A, ParseResult.ParseError>
}

/** A rule of a schema; `expected` completes "must be …" for a value of another type. */
export const make = <A, I>(expected: string, schema: Schema.Schema<A, I>): Rule<A> => ({
  expected,
  decode: Schema.decodeUnknownEither(schema)
})

/** Narrows a schema to the values that `accepts` takes; others are refused with this code and message. */
export const refusing =
  <A>(accepts: (value: A) => boolean, code: string, message: string) =>
  <I>(schema: Schema.Schema<A, I>): Schema.Schema<A, I> =>
    schema.pipe(Schema.filter(accepts, annotation(code, message)))

/** As `refusing`, by a type guard. */
export const refusingUnless =
  <A, B extends A>(accepts: (value: A) => value is B, code: string, message: string) =>
  <I>(schema: Schema.Schema<A, I>): Schema.Schema<B, I> =>
    schema.pipe(Schema.filter(accepts, annotation(code, message)))

/** The value as the rule's type, or why not. A value of another type is refused with the code `type`. */
export const check = <A>(rule: Rule<A>, value: unknown): Either.Either<A, Refusal> =>
  Either.mapLeft(rule.decode(value), (error) => refusalOf(error.issue) ?? wrongType(rule.expected, value))

/** What is said of a value that isn't of the type asked for. */
export const wrongType = (expected: string, value: unknown): Refusal => ({
  code: "type",
  message: `must be ${expected}, not ${typeName(value)}`
})

// --- internal

const refusalId = Symbol.for("effect-webhooks/Refusal")

const annotation = (code: string, message: string) => ({ [refusalId]: { code, message } satisfies Refusal })

const refusalOf = (issue: ParseResult.ParseIssue): Refusal | undefined => {
  if (issue._tag === "Transformation") return refusalOf(issue.issue)
  if (issue._tag !== "Refinement") return undefined
  return issue.kind === "From" ? refusalOf(issue.issue) : issue.ast.annotations[refusalId] as Refusal | undefined
}

const typeName = (value: unknown): string => {
  if (value === null) return "null"
  if (Array.isArray(value)) return "an array"
  switch (typeof value) {
    case "string":
      return "a string"
    case "number":
      return "a number"
    case "boolean":
      return "true or false"
    default:
      return "an object"
  }
}
