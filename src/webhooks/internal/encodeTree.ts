/**
 * From any value to a JSON tree that every format is encoded from. Walked by hand, since `JSON.stringify` silently
 * drops, empties or nulls what JSON can't hold: here that is a refusal with the path to it.
 */
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"

/** A value that JSON holds. An object with a key `__proto__` has no prototype, so that it is a key like any other. */
export type Json = null | boolean | number | string | ReadonlyArray<Json> | { readonly [key: string]: Json }

/** Why a value has no JSON tree. */
export type Refusal =
  | { readonly _tag: "Unserializable"; readonly path: string; readonly problem: string; readonly cause?: unknown }
  /** `bytes` is a lower bound: the walk ends as soon as the limit is passed. */
  | { readonly _tag: "TooLarge"; readonly bytes: number }

/** Arrays and objects within each other: what Python's `json` module takes by default, and far from any stack's end. */
export const maxDepth = 1000

/**
 * Copies `value`; `root` names it in paths. What several places share is written out at each, so the walk counts the
 * least number of bytes that any format needs and stops beyond `maxBytes`.
 */
export const copy = (value: unknown, root: string, maxBytes: number): Either.Either<Json, Refusal> => {
  const path: Array<string | number> = []
  const ancestors = new Map<object, number>()
  let bytes = 0
  let refusal: Refusal | undefined

  const refuse = (problem: string, cause?: unknown): undefined => {
    refusal = {
      _tag: "Unserializable",
      path: formatPath(root, path),
      problem,
      ...(cause === undefined ? {} : { cause })
    }
  }

  const grow = (by: number): void => {
    bytes += by
    if (bytes > maxBytes) refusal ??= { _tag: "TooLarge", bytes }
  }

  const visit = (input: unknown): Json | undefined => {
    const value = typeof input === "object" && input !== null ? unwrap(input) : input
    if (refusal !== undefined) return undefined
    switch (typeof value) {
      case "undefined":
        return undefined
      case "string":
        grow(value.length + 2)
        return value
      case "boolean":
        grow(4)
        return value
      case "number":
        grow(1)
        return Number.isFinite(value)
          ? value
          : refuse(`${value}; JSON has no such number, null is a way to say "unknown"`)
      case "bigint":
        return refuse("a bigint; make it a string, or a number if it is a safe integer")
      case "function":
        return refuse("a function; only data can be sent")
      case "symbol":
        return refuse("a symbol; make it a string")
      case "object":
        return value === null ? visitNull() : visitObject(value)
    }
  }

  const visitNull = (): null => {
    grow(4)
    return null
  }

  const unwrap = (value: object): unknown => {
    const prototype: unknown = Object.getPrototypeOf(value)
    // Mostly it is plain.
    if ((prototype === Object.prototype || prototype === Array.prototype) && !("toJSON" in value)) return value
    if (Redacted.isRedacted(value)) return refuse("a Redacted; unwrap it if it is meant to be sent, else leave it out")
    if (Predicate.isDate(value) && Number.isNaN(value.getTime())) return refuse("an invalid Date")
    const result: unknown = "toJSON" in value && typeof value.toJSON === "function"
      ? value.toJSON(String(path.at(-1) ?? ""))
      : value
    return result instanceof Number || result instanceof String || result instanceof Boolean || result instanceof BigInt
      ? result.valueOf()
      : result
  }

  const visitObject = (value: object): Json | undefined => {
    const seen = ancestors.get(value)
    if (seen !== undefined) return refuse(`a cycle back to ${formatPath(root, path.slice(0, seen))}`)
    if (ancestors.size >= maxDepth) return refuse(`nested deeper than ${maxDepth} levels`)
    grow(2)
    ancestors.set(value, path.length)
    const tree = Array.isArray(value) ? visitArray(value) : visitRecord(value)
    ancestors.delete(value)
    return tree
  }

  const visitArray = (value: ReadonlyArray<unknown>): Json | undefined => {
    const tree: Array<Json> = []
    for (let index = 0; index < value.length; index++) {
      path.push(index)
      const item = visit(value[index])
      if (item === undefined && refusal === undefined) {
        refuse(
          index in value ? "undefined within an array; use null, or leave it out" : "an empty array slot; use null"
        )
      }
      if (index > 0) grow(1)
      if (refusal !== undefined) return undefined
      path.pop()
      tree.push(item!)
    }
    return tree
  }

  const visitRecord = (value: object): Json | undefined => {
    const keys = Object.keys(value)
    const kind = Object.getPrototypeOf(value) === Object.prototype
      ? "Object"
      : Object.prototype.toString.call(value).slice(8, -1)
    if (lossy.has(kind) || ArrayBuffer.isView(value) || (kind !== "Object" && keys.length === 0)) {
      return refuse(
        `${/^[AEIO]/.test(kind) ? "an" : "a"} ${kind}; ${lossy.get(kind) ?? "make it an array, an object or a string"}`
      )
    }
    // One without a prototype takes twice as long.
    const tree: Record<string, Json> = keys.includes("__proto__") ? Object.create(null) : {}
    let members = 0
    for (const key of keys) {
      path.push(key)
      const member = visit((value as Record<string, unknown>)[key])
      if (member !== undefined) {
        grow(key.length + (members > 0 ? 4 : 3))
        members++
        tree[key] = member
      }
      if (refusal !== undefined) return undefined
      path.pop()
    }
    return tree
  }

  const tree = attempt(() => visit(value), (cause) => refuse("could not be read: a getter or toJSON threw", cause))
  if (tree === undefined && refusal === undefined) refuse("undefined; use null if there is nothing to send")
  return refusal === undefined ? Either.right(tree!) : Either.left(refusal)
}

/** `data.items[3]["odd key"]`; odd keys are escaped and cut at 64 characters, and of a long path the middle is left out. */
export const formatPath = (root: string, path: ReadonlyArray<PropertyKey>): string => {
  const text = path.reduce<string>((text, key) => text + formatSegment(key), root)
  return text.length > 200 ? `${text.slice(0, 120)}...${text.slice(-60)}` : text
}

/** A key in quotes, only printable ASCII, cut at 64 characters. */
export const quote = (text: string): string => {
  const cut = text.length > 64 ? `${text.slice(0, 64)}...` : text
  return JSON.stringify(cut).replace(/[^ -~]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`)
}

// --- internal

const formatSegment = (key: PropertyKey): string => {
  if (typeof key === "number") return `[${key}]`
  const text = String(key)
  return /^[A-Za-z_$][\w$]{0,63}$/.test(text) ? `.${text}` : `[${quote(text)}]`
}

// `JSON.stringify` makes `{}` of these, or an object of indices.
const lossy = new Map([
  ["Map", "make it an object, Object.fromEntries(map)"],
  ["Set", "make it an array, [...set]"],
  ["WeakMap", "it can't be sent"],
  ["WeakSet", "it can't be sent"],
  ["WeakRef", "it can't be sent"],
  ["Promise", "await it first"],
  ["RegExp", "make it a string"],
  ["Error", "send its name or message"],
  ["ArrayBuffer", "encode the bytes as text, base64 for one"],
  ["SharedArrayBuffer", "encode the bytes as text, base64 for one"],
  ["DataView", "encode the bytes as text, base64 for one"],
  ["Uint8Array", "encode the bytes as text, base64 for one"]
])

const attempt = <A, B>(body: () => A, onThrow: (cause: unknown) => B): A | B => {
  try {
    return body()
  } catch (cause) {
    return onThrow(cause)
  }
}
