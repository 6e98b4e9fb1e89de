/** URLs, parsed once: a delivery shows its URL in several places. */
import { globalValue } from "effect/GlobalValue"
import { defaults } from "../../Defaults.js"
import { BoundedKeys } from "./BoundedKeys.js"

export interface Parsed {
  /** Scheme, host and port. */
  readonly origin: string
  /** Path and query, as a request line has them. */
  readonly path: string
  /** What may be shown: scheme, host, port and path, or the scheme alone where it isn't `http:` or `https:` (others put what they like behind it). */
  readonly safe: string
  /** The same without the path. */
  readonly safeOrigin: string
}

/** The parts of a URL; `undefined`: it is none. */
export const parse = (url: string): Parsed | undefined =>
  url.length > longest ? read(url) : (known.get(url) ?? { parsed: read(url) }).parsed

// --- internal

/** Of a longer one nothing is kept. */
const longest = 2048

const read = (url: string): Parsed | undefined => {
  if (!URL.canParse(url)) return undefined
  const { host, pathname, protocol, search } = new URL(url)
  const origin = `${protocol}//${host}`
  const path = pathname + search
  if (protocol === "http:" || protocol === "https:") {
    return { origin, path, safe: origin + pathname, safeOrigin: origin }
  }
  // Without slashes it may be no scheme either: `user:password@host` parses, too.
  const scheme = url.trimStart().toLowerCase().startsWith(`${protocol}//`) ? protocol : "(not an http URL)"
  return { origin, path, safe: scheme, safeOrigin: scheme }
}

const known = globalValue(
  "effect-webhooks/urls",
  () => new BoundedKeys(defaults.maxKeys, (url) => ({ parsed: read(url) }))
)
