/** URLs, parsed once: to do it anew for each of the places that a delivery shows its URL at took 10 µs of it. */
import { globalValue } from "effect/GlobalValue"
import { defaults } from "../../Defaults.js"
import { BoundedKeys } from "./BoundedKeys.js"

export interface Parsed {
  /** Scheme, host and port. */
  readonly origin: string
  /** Path and query, as a request line has them. */
  readonly path: string
  /** Scheme, host, port and path: what may be shown. */
  readonly safe: string
}

/** The parts of a URL; `undefined`: it is none. */
export const parse = (url: string): Parsed | undefined =>
  url.length > longest ? read(url) : (known.get(url) ?? { parsed: read(url) }).parsed

// --- internal

/** Of a longer one nothing is kept. */
const longest = 2048

const read = (url: string): Parsed | undefined => {
  if (!URL.canParse(url)) return undefined
  const { origin, pathname, protocol, search } = new URL(url)
  return {
    origin,
    path: pathname + search,
    safe: `${origin === "null" ? `${protocol}//` : origin}${pathname}`
  }
}

const known = globalValue(
  "effect-webhooks/urls",
  () => new BoundedKeys(defaults.maxKeys, (url) => ({ parsed: read(url) }))
)
