/**
 * What is wrong with a configuration: where, which rule, and words. Nothing that was configured is ever repeated, except names of settings
 * and event types, escaped and cut.
 */
import { withoutCredential } from "./credentials.js"
import { nearest } from "./nearest.js"

/** One thing that is wrong. */
export interface Problem {
  readonly path: string
  readonly code: string
  readonly message: string
}

/** What a rule says of a value that it refuses. */
export interface Refusal {
  readonly code: string
  readonly message: string
}

/** The way from the root of the document to a value. */
export type Path = ReadonlyArray<string | number>

/** A path as `OrderCreated[0].url`; keys that aren't plain words are quoted, escaped and cut (`"Order\u0000Created"`). */
export const renderPath = (path: Path): string =>
  path.reduce<string>(
    (text, part) =>
      typeof part === "number" ? `${text}[${part}]` : `${text === "" ? "" : `${text}.`}${renderKey(part)}`,
    ""
  )

/** A problem at a path; the root is named after where the document came from. */
export const problem = (source: string, path: Path, refusal: Refusal): Problem => ({
  path: path.length === 0 ? source : renderPath(path),
  code: refusal.code,
  message: refusal.message
})

/** A line for people: variable, path, what is wrong. */
export const renderProblem = (source: string, item: Problem): string =>
  item.path === source || variables.has(item.path)
    ? `${item.path}: ${item.message}`
    : `${source}.${item.path}: ${item.message}`

/** What to say of a name that nothing knows. */
export const unknownKey = (name: string, known: ReadonlyArray<string>): Refusal => {
  const guess = nearest(name, known)
  return {
    code: "unknown_key",
    message: `is not a known setting${guess === undefined ? "" : `; did you mean "${guess}"?`} (known: ${
      known.join(", ")
    })`
  }
}

// --- internal

const variables: ReadonlySet<string> = new Set([
  "WEBHOOKS_CONFIG",
  "WEBHOOKS_CONFIG_FILE",
  "WEBHOOKS_EGRESS_ALLOW",
  "WEBHOOKS_EGRESS_DENY",
  "WEBHOOKS_CORRELATION_HEADER"
])

const plainKey = /^[A-Za-z0-9_.*-]{1,128}$/

const keyLength = 60

const renderKey = (key: string): string => {
  // Someone who puts the wrong thing before the colon must not find it in a log.
  const shown = withoutCredential(key)
  if (plainKey.test(shown) && shown === key) return shown
  const cut = shown.length > keyLength ? `${shown.slice(0, keyLength - 3)}...` : shown
  return `"${cut.replace(/[^ !#-[\]-~]/g, escape)}"`
}

const escape = (unit: string): string =>
  unit === "\"" || unit === "\\" ? `\\${unit}` : `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`
