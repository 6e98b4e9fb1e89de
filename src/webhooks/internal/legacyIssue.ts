/** The parse issues of `@effect/schema` 0.75 as those of `effect/ParseResult`, and back. */
import type * as Old from "@effect/schema/AST"
import type * as OldResult from "@effect/schema/ParseResult"
import * as ParseResult from "effect/ParseResult"
import * as AST from "effect/SchemaAST"

/** Converts issues one way and the other. */
export interface Converter {
  readonly toNew: (issue: OldResult.ParseIssue) => ParseResult.ParseIssue
  readonly toOld: (issue: ParseResult.ParseIssue) => OldResult.ParseIssue
}

/** A converter, given that of the nodes which issues point at. */
export const converter = (convert: (ast: Old.AST) => AST.AST): Converter => {
  const toNew = (issue: OldResult.ParseIssue): ParseResult.ParseIssue => {
    const carried = passengers.get(issue)
    if (carried !== undefined) return carried
    switch (issue._tag) {
      case "Type":
        return new ParseResult.Type(convert(issue.ast), issue.actual, issue.message)
      case "Forbidden":
        return new ParseResult.Forbidden(convert(issue.ast), issue.actual, issue.message)
      case "Unexpected":
        return new ParseResult.Unexpected(issue.actual, issue.message)
      case "Missing":
        return new ParseResult.Missing(new AST.Type(convert(issue.ast.type)), issue.message)
      case "Pointer":
        return new ParseResult.Pointer(issue.path, issue.actual, toNew(issue.issue))
      case "Refinement":
        return new ParseResult.Refinement(
          convert(issue.ast) as AST.Refinement,
          issue.actual,
          issue.kind,
          toNew(issue.issue)
        )
      case "Transformation":
        return new ParseResult.Transformation(
          convert(issue.ast) as AST.Transformation,
          issue.actual,
          issue.kind,
          toNew(issue.issue)
        )
      case "Composite": {
        const [first, ...rest] = "_tag" in issue.issues ? [issue.issues] : issue.issues
        return new ParseResult.Composite(
          convert(issue.ast),
          issue.actual,
          first === undefined ? [] as never : [toNew(first), ...rest.map(toNew)],
          issue.output
        )
      }
    }
  }
  return { toNew, toOld: (issue) => carry(unknownNode, issue) }
}

/** An issue of `effect` in the shape of an old one, which `toNew` gives back unchanged. */
export const carry = (ast: Old.AST, issue: ParseResult.ParseIssue): OldResult.ParseIssue => {
  const carrier: OldResult.Type = {
    _tag: "Type",
    ast,
    actual: issue.actual,
    message: ParseResult.TreeFormatter.formatIssueSync(issue)
  }
  passengers.set(carrier, issue)
  return carrier
}

// --- internal

const passengers = new WeakMap<OldResult.ParseIssue, ParseResult.ParseIssue>()

const unknownNode: Old.UnknownKeyword = {
  _tag: "UnknownKeyword",
  annotations: {},
  toString: () => "unknown",
  toJSON: () => ({ _tag: "UnknownKeyword" })
}
