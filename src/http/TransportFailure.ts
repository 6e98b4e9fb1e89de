/**
 * What went wrong below HTTP, in our own closed words. The texts of undici, Node.js and OpenSSL stay out of errors and
 * logs: they quote what they were given.
 */

/**
 * - `dns`: the name could not be resolved.
 * - `connect`: no connection came about, or a proxy made none.
 * - `tls`: the handshake failed or a certificate was not accepted.
 * - `connection`: an established connection broke.
 * - `protocol`: the peer did not speak HTTP as it must.
 */
export type Kind = "connect" | "connection" | "dns" | "protocol" | "tls"

/** A failed exchange. */
export interface TransportFailure {
  readonly kind: Kind
  /** The error code of the system or of undici (`ECONNREFUSED`), when it has one that is known to be only a code; `PROXY_407`: what a proxy answered. */
  readonly code: string | undefined
  /** No byte of the request can have reached the peer: even what is not idempotent may be sent again. */
  readonly neverLeft: boolean
  /** A connection kept from an earlier request had been closed meanwhile: no fault of the peer's, and what may be repeated may be so at once. */
  readonly stale?: true | undefined
}

/** Tells the kind of a failure from what a client threw; an unknown thing counts as a broken connection. */
export const fromCause = (cause: unknown): TransportFailure => {
  for (let error = cause, depth = 0; typeof error === "object" && error !== null && depth < 5; depth++) {
    const written = textOf(error, "code")
    const code = written !== undefined && codePattern.test(written) ? written : undefined
    // A resolver's codes are also those of sockets: `ECONNREFUSED` is a name server that isn't there.
    if (textOf(error, "_tag") === "NameNotResolved") return { ...dns, code }
    // What broke was the connection to the proxy.
    if (textOf(error, "_tag") === "NoTunnel") return { ...connect, code }
    if (textOf(error, "_tag") === "StaleConnection") {
      return { ...fromCause(Reflect.get(error, "cause")), stale: true }
    }
    // An interim answer that nobody asked for; undici gives it the code of a broken connection.
    if (code === "UND_ERR_SOCKET" && unasked.has(textOf(error, "message") ?? "")) return { ...protocol, code }
    if (code !== undefined) {
      // A broken connection and a failed connect share these codes. The system call tells them apart; several errors at once are those
      // of the addresses that were tried.
      if (ambiguous.has(code)) {
        const connecting = textOf(error, "syscall") === "connect" || "errors" in error
        return { kind: connecting ? "connect" : "connection", code, neverLeft: connecting }
      }
      const known = exact.get(code) ?? families.find(([prefix]) => code.startsWith(prefix))?.[1]
      if (known !== undefined) return { ...known, code }
    }
    // undici's parser gives no code for an answer that does not even begin as HTTP.
    if (textOf(error, "name") === "HTTPParserError") return { ...protocol, code: undefined }
    error = "cause" in error ? error.cause : undefined
  }
  return { kind: "connection", code: undefined, neverLeft: false }
}

/** The failure in words, for an error message. */
export const describe = (failure: TransportFailure): string =>
  failure.code === undefined ? words[failure.kind] : `${words[failure.kind]} (${failure.code})`

// --- internal

const words: Record<Kind, string> = {
  connect: "could not connect",
  connection: "the connection broke",
  dns: "the host name could not be resolved",
  protocol: "the peer did not answer in valid HTTP",
  tls: "TLS failed"
}

const codePattern = /^[A-Z][A-Z0-9_]{1,63}$/

const dns = { kind: "dns", neverLeft: true } as const
const connect = { kind: "connect", neverLeft: true } as const
const connection = { kind: "connection", neverLeft: false } as const
const protocol = { kind: "protocol", neverLeft: false } as const
/** The request is written only after a handshake that succeeded. */
const handshake = { kind: "tls", neverLeft: true } as const
const tls = { kind: "tls", neverLeft: false } as const

const exact: ReadonlyMap<string, Omit<TransportFailure, "code">> = new Map<string, Omit<TransportFailure, "code">>([
  ["ENOTFOUND", dns],
  ["ENODATA", dns],
  ["ESERVFAIL", dns],
  ["EREFUSED", dns],
  ["ETIMEOUT", dns],
  ["ECONNREFUSED", connect],
  ["UND_ERR_CONNECT_TIMEOUT", connect],
  ["ECONNRESET", connection],
  ["ECONNABORTED", connection],
  ["EPIPE", connection],
  ["UND_ERR_SOCKET", connection],
  ["UND_ERR_HEADERS_TIMEOUT", connection],
  ["UND_ERR_BODY_TIMEOUT", connection],
  ["UND_ERR_CLOSED", connection],
  ["UND_ERR_DESTROYED", connection],
  ["UND_ERR_ABORTED", connection],
  ["UND_ERR_HEADERS_OVERFLOW", protocol],
  ["UND_ERR_RES_CONTENT_LENGTH_MISMATCH", protocol],
  ["UND_ERR_RESPONSE", protocol],
  ["ERR_ASSERTION", protocol],
  ["EPROTO", tls],
  ["DEPTH_ZERO_SELF_SIGNED_CERT", handshake],
  ["SELF_SIGNED_CERT_IN_CHAIN", handshake],
  ["ERR_TLS_CERT_ALTNAME_INVALID", handshake],
  ["ERR_TLS_HANDSHAKE_TIMEOUT", handshake]
])

const unasked: ReadonlySet<string> = new Set(["bad response", "bad upgrade"])

const ambiguous: ReadonlySet<string> = new Set([
  "EADDRNOTAVAIL",
  "EHOSTDOWN",
  "EHOSTUNREACH",
  "ENETDOWN",
  "ENETUNREACH",
  "ETIMEDOUT"
])

const families: ReadonlyArray<readonly [string, Omit<TransportFailure, "code">]> = [
  ["EAI_", dns],
  ["HPE_", protocol],
  ["CERT_", handshake],
  ["UNABLE_TO_", handshake],
  ["ERR_TLS_", tls],
  ["ERR_SSL_", tls]
]

const textOf = (value: object, name: string): string | undefined => {
  const found: unknown = Reflect.get(value, name)
  return typeof found === "string" ? found : undefined
}
