/**
 * Reads a JSON text (RFC 8259) strictly: what `JSON.parse` accepts, minus what it accepts silently. Duplicate keys, `__proto__`, a byte order
 * mark, broken Unicode and deep nesting are problems with a path. Iterative, so depth costs no stack; objects become lists of entries, so
 * no key can reach a prototype. Messages say line and column and never quote the text.
 */
import { createScanner } from "jsonc-parser"
import { type Path, type Problem, problem, type Refusal } from "./problems.js"

/** A JSON value. `Refused` stands where a problem has been reported already; `Opaque` is a value that JSON can't write. */
export type Node =
  | { readonly _tag: "Object"; readonly entries: ReadonlyArray<readonly [key: string, value: Node]> }
  | { readonly _tag: "Array"; readonly items: ReadonlyArray<Node> }
  | { readonly _tag: "Scalar"; readonly value: string | number | boolean | null }
  | { readonly _tag: "Opaque"; readonly value: unknown }
  | { readonly _tag: "Refused" }

/** A document as far as it could be read, `undefined` if it couldn't or is blank. */
export interface Reading {
  readonly root: Node | undefined
  readonly problems: ReadonlyArray<Problem>
}

/** Most bytes of a document, in UTF-8. */
export const maxBytes = 1_048_576

/** Most levels of arrays and objects within each other. */
export const maxDepth = 16

/** Reads a document; `source` names the root in problems. */
export const read = (source: string, text: string): Reading => {
  const failed = (refusal: Refusal): Reading => ({ root: undefined, problems: [problem(source, [], refusal)] })
  if (text.startsWith("\uFEFF")) {
    return failed({ code: "json_bom", message: "starts with a byte order mark; save it as UTF-8 without one" })
  }
  if (text.length > maxBytes || Buffer.byteLength(text) > maxBytes) return failed(tooLarge)
  if (text.trim() === "") return { root: undefined, problems: [] }
  const { stop, tree } = scan(source, text)
  const depth = tree.deep ? [problem(source, [], tooDeep)] : []
  const syntax = (message: string): Reading => ({
    root: undefined,
    problems: [problem(source, [], { code: "json_syntax", message }), ...depth]
  })
  if (stop !== undefined) return syntax(`is not valid JSON at ${place(text, stop)}`)
  try {
    JSON.parse(text)
  } catch {
    // JSON.parse has the last word on what is JSON; its message is dropped, since it quotes the text.
    return syntax("is not valid JSON")
  }
  return { root: tree.root, problems: [...tree.problems, ...depth] }
}

/** What is said of a document over `maxBytes`. */
export const tooLarge: Refusal = { code: "document_too_large", message: "is larger than 1 MiB (1,048,576 bytes)" }

/** What is said of text that holds U+FFFD or half a surrogate pair. */
export const broken: Refusal = {
  code: "replacement_character",
  message: "contains U+FFFD or half a character: bytes that were not UTF-8; only well-formed text is allowed"
}

/** Whether a text holds what `broken` says. */
export const isBroken = (text: string): boolean => /[\uFFFD\p{Cs}]/u.test(text)

/** The document that a value of the host program stands for: the same rules, as far as values can break them. */
export const fromValue = (source: string, value: unknown): Reading => {
  const problems: Array<Problem> = []
  const refuse = (path: Path, refusal: Refusal): Node => {
    problems.push(problem(source, path, refusal))
    return refused
  }
  const go = (current: unknown, path: Path): Node => {
    if (typeof current === "string" && isBroken(current)) return refuse(path, broken)
    if (
      current === null || typeof current === "string" || typeof current === "number" || typeof current === "boolean"
    ) {
      return { _tag: "Scalar", value: current }
    }
    if (!Array.isArray(current) && !isRecord(current)) return { _tag: "Opaque", value: current }
    // The limit ends cycles, too.
    if (path.length >= maxDepth) return refuse(path, tooDeep)
    if (Array.isArray(current)) {
      return {
        _tag: "Array",
        items: current.map((item, index) => go(item, [...path, index]))
      }
    }
    const entries: Array<readonly [string, Node]> = []
    for (const [key, item] of Object.entries(current)) {
      if (item === undefined) continue
      if (key === "__proto__") refuse([...path, key], forbidden)
      else {
        if (isBroken(key)) refuse([...path, key], broken)
        entries.push([key, go(item, [...path, key])])
      }
    }
    return { _tag: "Object", entries }
  }
  return { root: go(value, []), problems }
}

// --- internal

const refused: Node = { _tag: "Refused" }

const forbidden: Refusal = { code: "forbidden_key", message: "is not allowed as a name" }

const duplicate: Refusal = { code: "duplicate_key", message: "is given more than once; give each name once" }

const tooDeep: Refusal = { code: "json_depth", message: `is nested deeper than ${maxDepth} levels` }

const isRecord = (value: unknown): value is Record<string, unknown> => {
  if (typeof value !== "object" || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

// jsonc-parser's SyntaxKind is a const enum, which isolated modules can't import.
const token = {
  openBrace: 1,
  closeBrace: 2,
  openBracket: 3,
  closeBracket: 4,
  comma: 5,
  colon: 6,
  null: 7,
  true: 8,
  false: 9,
  string: 10,
  number: 11,
  lineBreak: 14,
  trivia: 15,
  end: 17
} as const

interface Frame {
  readonly kind: "Object" | "Array"
  readonly entries: Array<readonly [string, Node]>
  readonly items: Array<Node>
  readonly seen: Set<string>
  key: string
}

type Expect = "value" | "value-or-close" | "key" | "key-or-close" | "colon" | "comma-or-close" | "end"

/** Takes tokens one by one and makes the tree; its stack is a list, never the call stack. */
class TreeBuilder {
  readonly problems: Array<Problem> = []
  root: Node | undefined
  deep = false
  private readonly stack: Array<Frame> = []
  private expect: Expect = "value"
  private beyond = 0
  private readonly source: string

  constructor(source: string) {
    this.source = source
  }

  get complete(): boolean {
    return this.expect === "end"
  }

  /** Whether the token may stand here. */
  accept(kind: number, text: string): boolean {
    if (this.beyond > 0) return this.skip(kind)
    switch (this.expect) {
      case "value":
        return this.value(kind, text)
      case "value-or-close":
        return kind === token.closeBracket ? this.leave() : this.value(kind, text)
      case "key":
        return this.name(kind, text)
      case "key-or-close":
        return kind === token.closeBrace ? this.leave() : this.name(kind, text)
      case "colon":
        this.expect = "value"
        return kind === token.colon
      case "comma-or-close":
        return this.next(kind)
      case "end":
        return false
    }
  }

  private skip(kind: number): boolean {
    // Beyond the limit only the brackets are followed; JSON.parse still checks the rest.
    if (kind === token.openBrace || kind === token.openBracket) this.beyond++
    else if (kind === token.closeBrace || kind === token.closeBracket) this.beyond--
    return this.beyond > 0 || this.place(refused)
  }

  private value(kind: number, text: string): boolean {
    switch (kind) {
      case token.openBrace:
      case token.openBracket:
        return this.enter(kind === token.openBrace ? "Object" : "Array")
      case token.string:
        return this.place(isBroken(text) ? this.report(broken) : { _tag: "Scalar", value: text })
      case token.number:
        return this.place({ _tag: "Scalar", value: Number(text) })
      case token.true:
      case token.false:
        return this.place({ _tag: "Scalar", value: kind === token.true })
      case token.null:
        return this.place({ _tag: "Scalar", value: null })
      default:
        return false
    }
  }

  private name(kind: number, text: string): boolean {
    const frame = this.stack.at(-1)
    if (kind !== token.string || frame === undefined) return false
    frame.key = text
    if (isBroken(text)) this.report(broken)
    if (text === "__proto__") this.report(forbidden)
    else if (frame.seen.has(text)) this.report(duplicate)
    frame.seen.add(text)
    this.expect = "colon"
    return true
  }

  private next(kind: number): boolean {
    const object = this.stack.at(-1)?.kind === "Object"
    if (kind === token.comma) {
      this.expect = object ? "key" : "value"
      return true
    }
    return kind === (object ? token.closeBrace : token.closeBracket) && this.leave()
  }

  private enter(kind: Frame["kind"]): boolean {
    if (this.stack.length >= maxDepth) {
      this.beyond = 1
      this.deep = true
    } else {
      this.stack.push({ kind, entries: [], items: [], seen: new Set(), key: "" })
      this.expect = kind === "Object" ? "key-or-close" : "value-or-close"
    }
    return true
  }

  private leave(): boolean {
    const frame = this.stack.pop()
    if (frame === undefined) return false
    return this.place(
      frame.kind === "Object" ? { _tag: "Object", entries: frame.entries } : { _tag: "Array", items: frame.items }
    )
  }

  private place(node: Node): boolean {
    const frame = this.stack.at(-1)
    if (frame === undefined) this.root = node
    else if (frame.kind === "Array") frame.items.push(node)
    else if (frame.key !== "__proto__") frame.entries.push([frame.key, node])
    this.expect = frame === undefined ? "end" : "comma-or-close"
    return true
  }

  private report(refusal: Refusal): Node {
    const path = this.stack.map((frame) => frame.kind === "Object" ? frame.key : frame.items.length)
    this.problems.push(problem(this.source, path, refusal))
    return refused
  }
}

/** Reads until the end, or to the offset at which the text stops being JSON. */
const scan = (source: string, text: string): { readonly tree: TreeBuilder; readonly stop: number | undefined } => {
  const scanner = createScanner(text, false)
  const tree = new TreeBuilder(source)
  for (let kind: number = scanner.scan(); kind !== token.end; kind = scanner.scan()) {
    if (kind === token.trivia || kind === token.lineBreak) continue
    if (scanner.getTokenError() !== 0 || !tree.accept(kind, scanner.getTokenValue())) {
      return { tree, stop: scanner.getTokenOffset() }
    }
  }
  return { tree, stop: tree.complete ? undefined : text.length }
}

const place = (text: string, offset: number): string => {
  const before = text.slice(0, offset).split(/\r\n|\r|\n/)
  return `line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`
}
