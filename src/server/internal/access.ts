/**
 * Who may ask: whoever shows a token, or, where there is none, a program on this machine, which a page in a browser is not.
 */
import type * as Headers from "@effect/platform/Headers"
import * as Redacted from "effect/Redacted"
import { createHash, timingSafeEqual } from "node:crypto"
import { isIP, isIPv4 } from "node:net"
import { ApiError } from "../ApiError.js"

/** Looks at the headers of a request: `undefined` lets it in. */
export type Check = (headers: Headers.Headers) => ApiError | undefined

/** Lets in who shows one of the tokens (`Authorization: Bearer …`); which one, and how nearly, can't be told from the time that it takes. */
export const byToken = (tokens: ReadonlyArray<Redacted.Redacted>): Check => {
  const known = tokens.map((token) => digest(Redacted.value(token)))
  return (headers) => {
    const shown = /^Bearer +([!-~]+) *$/i.exec(headers["authorization"] ?? "")?.[1]
    if (shown === undefined) return unauthorized("missing_token", "")
    const hash = digest(shown)
    let found = false
    // All of them, whichever fits.
    for (const one of known) found = timingSafeEqual(one, hash) || found
    return found ? undefined : unauthorized("unknown_token", ", error=\"invalid_token\"")
  }
}

/**
 * Lets in who asks for this machine by one of its own names, and no page of another site. Any page that a browser shows may ask 127.0.0.1, and a
 * name that its owner lets point there (DNS rebinding) makes such a page look like one of ours.
 */
export const byLocality: Check = (headers) => {
  const host = headers["host"] ?? ""
  const origin = headers["origin"]
  if (!isLoopback(host.replace(/:[0-9]{1,5}$/, "").replace(/^\[(.*)\]$/, "$1"))) {
    return forbidden(
      "foreign_host",
      "without a token only this machine is served, by the names localhost, 127.0.0.1 and [::1]; set WEBHOOKS_API_TOKEN to serve others"
    )
  }
  return origin === undefined || origin.toLowerCase() === `http://${host}`.toLowerCase()
    ? undefined
    : forbidden(
      "foreign_origin",
      "without a token no page of another site is served; set WEBHOOKS_API_TOKEN and ask with it"
    )
}

/** Whether a name or an address, without brackets, is this machine only. */
export const isLoopback = (host: string): boolean => {
  if (isIPv4(host)) return host.startsWith("127.")
  if (isIP(host) === 6) return new URL(`http://[${host.replace(/%.*$/, "")}]`).hostname === "[::1]"
  return host.toLowerCase() === "localhost"
}

/** Whether a text can be sent as a token, and is none by accident. */
export const isToken = (token: Redacted.Redacted): boolean => /^[!-~]{16,512}$/.test(Redacted.value(token))

// --- internal

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

const unauthorized = (code: string, more: string): ApiError =>
  new ApiError({
    status: 401,
    code,
    message: "a token is needed: send Authorization: Bearer with one of WEBHOOKS_API_TOKEN",
    headers: { "www-authenticate": `Bearer realm="effect-webhooks"${more}` }
  })

const forbidden = (code: string, message: string): ApiError => new ApiError({ status: 403, code, message })
