/** The syntax tree of `@effect/schema` 0.75, node by node, as one of `effect/Schema`. */
import type * as Old from "@effect/schema/AST"
import type * as OldResult from "@effect/schema/ParseResult"
import type * as Effect from "effect/Effect"
import { globalValue } from "effect/GlobalValue"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as RegExp_ from "effect/RegExp"
import * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"
import { formatPath } from "./encodeTree.js"
import * as Issue from "./legacyIssue.js"

/** Called with the place and the fault of a node that can't be converted; throws. */
export type Refuse = (path: string, problem: string) => never

/** Converts a tree. What a `suspend` hides is converted when it is first used, and refused then. */
export const convert = (ast: Old.AST, refuse: Refuse, path: ReadonlyArray<PropertyKey> = []): AST.AST => {
  const known = converted.get(ast)
  if (known !== undefined) return known
  const result = convertNode(ast, refuse, path)
  converted.set(ast, result)
  originals.set(result, ast)
  return result
}

// --- internal

// Both by identity: a recursive schema meets its own nodes again, and a declaration its own type parameters.
const converted = globalValue("effect-webhooks/legacyAst/converted", () => new WeakMap<Old.AST, AST.AST>())
const originals = globalValue("effect-webhooks/legacyAst/originals", () => new WeakMap<AST.AST, Old.AST>())

const convertNode = (ast: Old.AST, refuse: Refuse, path: ReadonlyArray<PropertyKey>): AST.AST => {
  const at = (...more: ReadonlyArray<PropertyKey>) => (inner: Old.AST): AST.AST =>
    convert(inner, refuse, path.concat(more))
  const same = at()
  const annotations = convertAnnotations(ast.annotations, same)
  const issues = Issue.converter(same)
  switch (ast._tag) {
    case "Literal":
      return new AST.Literal(ast.literal, annotations)
    case "UniqueSymbol":
      return new AST.UniqueSymbol(ast.symbol, annotations)
    case "UndefinedKeyword":
      return AST.annotations(AST.undefinedKeyword, annotations)
    case "VoidKeyword":
      return AST.annotations(AST.voidKeyword, annotations)
    case "NeverKeyword":
      return AST.annotations(AST.neverKeyword, annotations)
    case "UnknownKeyword":
      return AST.annotations(AST.unknownKeyword, annotations)
    case "AnyKeyword":
      return AST.annotations(AST.anyKeyword, annotations)
    case "StringKeyword":
      return AST.annotations(AST.stringKeyword, annotations)
    case "NumberKeyword":
      return AST.annotations(AST.numberKeyword, annotations)
    case "BooleanKeyword":
      return AST.annotations(AST.booleanKeyword, annotations)
    case "BigIntKeyword":
      return AST.annotations(AST.bigIntKeyword, annotations)
    case "SymbolKeyword":
      return AST.annotations(AST.symbolKeyword, annotations)
    case "ObjectKeyword":
      return AST.annotations(AST.objectKeyword, annotations)
    case "Enums":
      return new AST.Enums(ast.enums, annotations)
    case "TemplateLiteral":
      return convertTemplateLiteral(ast, annotations, same)
    case "TupleType":
      return new AST.TupleType(
        ast.elements.map((element, index) =>
          new AST.OptionalType(
            at(index)(element.type),
            element.isOptional,
            convertAnnotations(element.annotations, same)
          )
        ),
        ast.rest.map((rest, index) =>
          new AST.Type(at(ast.elements.length + index)(rest.type), convertAnnotations(rest.annotations, same))
        ),
        ast.isReadonly,
        annotations
      )
    case "TypeLiteral":
      return new AST.TypeLiteral(
        ast.propertySignatures.map((property) =>
          new AST.PropertySignature(
            property.name,
            at(property.name)(property.type),
            property.isOptional,
            property.isReadonly,
            convertAnnotations(property.annotations, same)
          )
        ),
        ast.indexSignatures.map((signature) =>
          new AST.IndexSignature(
            at("<key>")(signature.parameter) as AST.Parameter,
            at("<value>")(signature.type),
            signature.isReadonly
          )
        ),
        annotations
      )
    case "Union":
      return AST.Union.make(ast.types.map(same), annotations)
    case "Suspend":
      return new AST.Suspend(() => same(ast.f()), annotations)
    case "Refinement":
      return new AST.Refinement(
        same(ast.from),
        (input, options) => Option.map(ast.filter(input, options, ast), issues.toNew),
        annotations
      )
    case "Transformation":
      return new AST.Transformation(
        same(ast.from),
        same(ast.to),
        convertTransformation(ast, issues),
        annotations
      )
    case "Declaration":
      return convertDeclaration(ast, annotations, same, issues)
    default:
      return refuse(
        formatPath("schema", path),
        `has a node ${
          JSON.stringify((ast as { readonly _tag?: unknown })._tag)
        } that @effect/schema 0.75 doesn't know; install that version`
      )
  }
}

type Convert = (ast: Old.AST) => AST.AST

const convertTemplateLiteral = (ast: Old.TemplateLiteral, annotations: AST.Annotations, convert: Convert): AST.AST => {
  const [first, ...rest] = ast.spans.map((span) => new AST.TemplateLiteralSpan(convert(span.type), span.literal))
  // 0.75 lets no line break into a `string` span, `effect` does: the older pattern stays a condition.
  const pattern = new RegExp(
    `^${RegExp_.escape(ast.head)}${
      ast.spans.map((span) =>
        `${span.type._tag === "StringKeyword" ? ".*" : numberPattern}${RegExp_.escape(span.literal)}`
      ).join("")
    }$`
  )
  const template = new AST.TemplateLiteral(ast.head, [first!, ...rest], annotations)
  return new AST.Refinement(
    template,
    (input, _, self) => pattern.test(input) ? Option.none() : Option.some(new ParseResult.Type(self, input)),
    { [AST.TitleAnnotationId]: String(template) }
  )
}

const numberPattern = "[+-]?\\d*\\.?\\d+(?:[Ee][+-]?\\d+)?"

// Services stand in the schema's own type, the tree knows nothing of them.
type Parsed = Effect.Effect<unknown, OldResult.ParseIssue>
type Transform = (input: unknown, options: Old.ParseOptions, ast: Old.Transformation, whole: unknown) => Parsed
type Parse = (input: unknown, options: Old.ParseOptions, ast: Old.Declaration) => Parsed

const convertTransformation = (ast: Old.Transformation, issues: Issue.Converter): AST.TransformationKind => {
  const kind = ast.transformation
  switch (kind._tag) {
    case "ComposeTransformation":
      return AST.composeTransformation
    case "FinalTransformation": {
      const decode = kind.decode as Transform
      const encode = kind.encode as Transform
      return new AST.FinalTransformation(
        (fromA, options, _, fromI) => ParseResult.mapError(decode(fromA, options, ast, fromI), issues.toNew),
        (toI, options, _, toA) => ParseResult.mapError(encode(toI, options, ast, toA), issues.toNew)
      )
    }
    case "TypeLiteralTransformation":
      return new AST.TypeLiteralTransformation(
        kind.propertySignatureTransformations.map((property) =>
          new AST.PropertySignatureTransformation(property.from, property.to, property.decode, property.encode)
        )
      )
  }
}

const convertDeclaration = (
  ast: Old.Declaration,
  annotations: AST.Annotations,
  convert: Convert,
  issues: Issue.Converter
): AST.Declaration => {
  const parser = (parse: Old.Declaration["decodeUnknown"]) => (...typeParameters: ReadonlyArray<AST.AST>) => {
    const run = parse(...typeParameters.map((parameter) => originals.get(parameter) ?? wrap(parameter))) as Parse
    return (input: unknown, options: AST.ParseOptions) => ParseResult.mapError(run(input, options, ast), issues.toNew)
  }
  return new AST.Declaration(
    ast.typeParameters.map(convert),
    parser(ast.decodeUnknown),
    parser(ast.encodeUnknown),
    annotations
  )
}

/**
 * A node of `effect/Schema` for the eyes of `@effect/schema`. One that is not the result of a conversion is the type side or the
 * encoded side of such a result, which holds no transformation: a declaration says all of it.
 */
const wrap = (ast: AST.AST): Old.Declaration => {
  const schema = Schema.make<unknown, unknown>(ast)
  const self: Old.Declaration = {
    _tag: "Declaration",
    typeParameters: [],
    annotations: {},
    decodeUnknown: () => (input, options) =>
      ParseResult.mapError(ParseResult.decodeUnknown(schema)(input, options), (issue) => Issue.carry(self, issue)),
    encodeUnknown: () => (input, options) =>
      ParseResult.mapError(ParseResult.encodeUnknown(schema)(input, options), (issue) => Issue.carry(self, issue)),
    toString: () => String(ast),
    toJSON: () => ({ _tag: "Declaration" })
  }
  return self
}

const convertAnnotations = (annotations: Old.Annotations, convert: Convert): AST.Annotations => {
  const out: Record<symbol, unknown> = {}
  for (const name of kept) {
    const value = annotations[Symbol.for(`@effect/schema/annotation/${name}`)]
    if (value !== undefined) out[Symbol.for(`effect/annotation/${name}`)] = value
  }
  const surrogate = annotations[Symbol.for("@effect/schema/annotation/Surrogate")] as Old.AST | undefined
  if (surrogate !== undefined) out[AST.SurrogateAnnotationId] = convert(surrogate)
  const fallback = annotations[Symbol.for("@effect/schema/annotation/DecodingFallback")] as
    | Old.DecodingFallbackAnnotation<unknown>
    | undefined
  if (fallback !== undefined) {
    const issues = Issue.converter(convert)
    out[AST.DecodingFallbackAnnotationId] = (issue: ParseResult.ParseIssue) =>
      ParseResult.mapError(fallback(issues.toOld(issue)), issues.toNew)
  }
  return out
}

const kept = [
  "Identifier",
  "Title",
  "Description",
  "Documentation",
  "ParseOptions",
  "Concurrency",
  "Batching",
  "StableFilter"
]
