/**
 * Who may ask: whoever asks by a name of this server, and shows a token or, where there is none, is a program on this machine, which a page in a browser
 * is not.
 */
import type * as Headers from "@effect/platform/Headers"
import * as Redacted from "effect/Redacted"
import { createHash, timingSafeEqual } from "node:crypto"
import { isIP } from "node:net"
import { ApiError } from "../ApiError.js"
import * as HostName from "../HostName.js"

/** A request, as far as it is looked at. */
export interface Asked {
  readonly headers: Headers.Headers
  /** The host, and the port, that it asks for; empty: it says none, or more than one. */
  readonly host: string
}

/** Looks at a request: `undefined` lets it in. */
export type Check = (asked: Asked) => ApiError | undefined

/** One check after another; the first that refuses decides. */
export const all = (...checks: ReadonlyArray<Check>): Check => (asked) => {
  for (const check of checks) {
    const refusal = check(asked)
    if (refusal !== undefined) return refusal
  }
  return undefined
}

/**
 * Lets in who asks by a name of this server: a page whose name its owner lets point here (DNS rebinding) is one of ours to a browser, but its requests say
 * that name. The names are those of loopback, the one that is bound to and `names`; bound to all addresses, any address, too, since what is asked for by
 * address can't be rebound, and load balancers probe so.
 */
export const byHost = (bound: string, names: ReadonlyArray<string>): Check => {
  const isOpen = HostName.isUnspecified(bound)
  const known = new Set([bound, ...names].filter((name) => name !== "").map(HostName.canonical))
  return ({ host }) => {
    const asked = HostName.nameOf(host)
    return HostName.isLoopback(asked) || known.has(asked) || isOpen && isIP(asked) !== 0 ? undefined : foreignHost
  }
}

/** Lets in who shows one of the tokens (`Authorization: Bearer …`); which one, and how nearly, can't be told from the time that it takes. */
export const byToken = (tokens: ReadonlyArray<Redacted.Redacted>): Check => {
  const known = tokens.map((token) => digest(Redacted.value(token)))
  return ({ headers }) => {
    const shown = /^Bearer +([!-~]+) *$/i.exec(headers["authorization"] ?? "")?.[1]
    if (shown === undefined) return missingToken
    const hash = digest(shown)
    let found = false
    // All of them, whichever fits.
    for (const one of known) found = timingSafeEqual(one, hash) || found
    return found ? undefined : unknownToken
  }
}

/**
 * Lets in no page of another site: any page that a browser shows may ask 127.0.0.1, and a form needs nobody's leave to post. Browsers say where a request
 * comes from, in one of two headers or both; other programs say nothing.
 */
export const byPage: Check = ({ headers, host }) => {
  const origin = headers["origin"]?.toLowerCase()
  const site = headers["sec-fetch-site"]
  const own = `http://${host}`.toLowerCase()
  // A name of the operator's may be that of a proxy that takes TLS off.
  const secure = HostName.isLoopback(HostName.nameOf(host)) ? undefined : own.replace("http:", "https:")
  return (origin === undefined || origin === own || origin === secure) &&
      (site === undefined || site === "same-origin" || site === "none")
    ? undefined
    : foreignPage
}

/** Whether a text can be sent as a token, and is none by accident. */
export const isToken = (token: Redacted.Redacted): boolean => /^[!-~]{16,512}$/.test(Redacted.value(token))

// --- internal

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

const unauthorized = (code: string, message: string, more = ""): ApiError =>
  new ApiError({
    status: 401,
    code,
    message,
    headers: { "www-authenticate": `Bearer realm="effect-webhooks"${more}` }
  })

const missingToken = unauthorized(
  "missing_token",
  "a token is needed: send Authorization: Bearer with one of WEBHOOKS_API_TOKEN"
)

const unknownToken = unauthorized(
  "unknown_token",
  "the token that was sent is none of this server's: send one of WEBHOOKS_API_TOKEN",
  ", error=\"invalid_token\""
)

const foreignHost = new ApiError({
  status: 403,
  code: "foreign_host",
  message:
    "this server has another name; an operator lists those that it is asked by, beside localhost, in WEBHOOKS_API_HOSTS"
})

const foreignPage = new ApiError({
  status: 403,
  code: "foreign_origin",
  message: "without a token no page of another site is served; set WEBHOOKS_API_TOKEN and ask with it"
})
