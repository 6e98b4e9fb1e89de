/**
 * Names of request headers: which are names at all, and which nobody but the library and the transport may set.
 */

/** Whether a text may name a header: a token (RFC 9110, section 5.6.2) of 1 to 128 characters. */
export const isToken = (name: string): boolean => /^[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,128}$/.test(name)

/** Whether the library or the transport sets a header, in any letter case; the correlation header, whose name is configured, apart. */
export const isReserved = (name: string): boolean => {
  const lower = name.toLowerCase()
  return reserved.has(lower) || /^(?:x-)?webhook-|^content-|^x-b3-/.test(lower)
}

/** What is wrong with the name of a correlation header, in words that don't repeat it; `undefined` if nothing is. */
export const correlationProblem = (name: string): string | undefined => {
  if (!isToken(name)) return "must be a header name: 1 to 128 letters, digits and !#$%&'*+-.^_`|~"
  return isReserved(name) || meaningful.has(name.toLowerCase())
    ? "names a header with a meaning of its own; choose another, such as X-Correlation-ID or X-Request-ID"
    : undefined
}

// --- internal

const reserved: ReadonlySet<string> = new Set([
  "host",
  "user-agent",
  "accept-encoding",
  "connection",
  "proxy-connection",
  "keep-alive",
  "transfer-encoding",
  "te",
  "trailer",
  "upgrade",
  "expect",
  "http2-settings",
  "proxy-authorization",
  "proxy-authenticate",
  "traceparent",
  "tracestate",
  "b3",
  "idempotency-key"
])

// An endpoint may set these; an id in their place would be read as something else.
const meaningful: ReadonlySet<string> = new Set([
  "accept",
  "accept-charset",
  "accept-language",
  "age",
  "authorization",
  "baggage",
  "cache-control",
  "cookie",
  "date",
  "etag",
  "forwarded",
  "from",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-range",
  "if-unmodified-since",
  "location",
  "max-forwards",
  "origin",
  "pragma",
  "range",
  "referer",
  "retry-after",
  "server",
  "set-cookie",
  "signature",
  "signature-input",
  "vary",
  "via",
  "warning",
  "www-authenticate",
  "x-api-key",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
  "x-real-ip"
])
