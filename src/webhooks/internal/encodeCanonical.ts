/**
 * JSON text exactly as Python's `json.dumps(value, sort_keys=True)` writes it, so that a receiver of the source system
 * may verify over its own re-serialisation. Numbers that JavaScript prints as integers stay integers there.
 */
import type { Json } from "./encodeTree.js"

/** Encodes a tree; it is as deep as `encodeTree` allows, hence plain recursion. */
export const encodeCanonical = (tree: Json): string => {
  if (tree === null) return "null"
  switch (typeof tree) {
    case "string":
      return encodeString(tree)
    case "number":
      return encodeNumber(tree)
    case "boolean":
      return tree ? "true" : "false"
  }
  let text = ""
  if (isArray(tree)) {
    for (const item of tree) text += text === "" ? encodeCanonical(item) : `, ${encodeCanonical(item)}`
    return `[${text}]`
  }
  for (const key of Object.keys(tree).sort(byCodePoint)) {
    text += `${text === "" ? "" : ", "}${encodeString(key)}: ${encodeCanonical(tree[key]!)}`
  }
  return `{${text}}`
}

// --- internal

const isArray = (tree: Json): tree is ReadonlyArray<Json> => Array.isArray(tree)

const encodeString = (text: string): string => plain.test(text) ? `"${text}"` : `"${text.replace(escaped, escape)}"`

const plain = /^[ !#-[\]-~]*$/
const escaped = /["\\]|[^ -~]/g

const escape = (char: string): string => short[char] ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`

const short: Readonly<Record<string, string>> = {
  "\"": "\\\"",
  "\\": "\\\\",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t"
}

// Python turns to exponents below 1e-4 (JavaScript below 1e-6) and writes at least two digits of them.
const encodeNumber = (value: number): string =>
  value !== 0 && Math.abs(value) < 1e-4 ? value.toExponential().replace(/e-(\d)$/, "e-0$1") : String(value)

// By code point as Python sorts; JavaScript's own order by UTF-16 unit puts U+1F389 before U+FFFF.
const byCodePoint = (a: string, b: string): number => {
  const length = Math.min(a.length, b.length)
  for (let index = 0; index < length; index++) {
    if (a.charCodeAt(index) === b.charCodeAt(index)) continue
    // After a common high surrogate the difference is in the pair, whose start is one unit back.
    const at = index > 0 && isHigh(a, index - 1) && (isLow(a, index) || isLow(b, index)) ? index - 1 : index
    return a.codePointAt(at)! - b.codePointAt(at)!
  }
  return a.length - b.length
}

const isHigh = (text: string, index: number): boolean => (text.charCodeAt(index) & 0xfc00) === 0xd800
const isLow = (text: string, index: number): boolean => (text.charCodeAt(index) & 0xfc00) === 0xdc00
