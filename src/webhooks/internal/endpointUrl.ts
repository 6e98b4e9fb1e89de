/**
 * The rules for an endpoint's URL. `new URL` repairs much in silence (white space, missing slashes, backslashes, look-alike digits); what
 * would have to be repaired is refused, so that the URL that someone reads is the URL that is called.
 */
import * as Either from "effect/Either"
import * as EgressPolicy from "../../http/EgressPolicy.js"
import type { Refusal } from "./problems.js"

/** Most characters of a URL, as written and in its WHATWG form. */
export const maxLength = 2048

/** The URL that a text writes, if requests may go there as far as that can be said without resolving its name. */
export const parse = (text: string, policy: EgressPolicy.Policy): Either.Either<URL, Refusal> => {
  const written = checkText(text)
  if (written !== undefined) return Either.left(written)
  let url: URL
  try {
    url = new URL(text)
  } catch {
    return refuse("url_invalid", "is not a URL; write https://host/path, the port (if any) from 1 to 65535")
  }
  const parsed = checkParsed(text, url, policy)
  return parsed === undefined ? Either.right(url) : Either.left(parsed)
}

/** Whether a text holds a placeholder that nobody filled in: `${NAME}`, `$NAME`, `{{name}}`, `<%= name %>`, `<name>`, `%NAME%`. */
export const isTemplate = (text: string): boolean => templates.some((template) => template.test(text))

// --- internal

const templates: ReadonlyArray<RegExp> = [
  /\$\{[^}]*\}|\{\{|\}\}|<%|\$\([^)]*\)/,
  // Capitals only: `$filter` and the like are names of query parameters.
  /\$[A-Z_][A-Z0-9_]*(?![A-Za-z0-9_])/,
  /<[A-Za-z][A-Za-z0-9_ -]*>/,
  // Not what percent-encoding writes: a name that doesn't begin with two hex digits, or no two of them behind its end.
  /%(?![0-9A-Fa-f]{2})[A-Za-z_][A-Za-z0-9_]*%/,
  /%[A-Za-z_][A-Za-z0-9_]*%(?![0-9A-Fa-f]{2})/
]

const refuse = (code: string, message: string): Either.Either<never, Refusal> => Either.left({ code, message })

const checkText = (text: string): Refusal | undefined => {
  if (text.length > maxLength) {
    return { code: "url_too_long", message: `has ${text.length} characters; at most ${maxLength} are allowed` }
  }
  if (text.trim() === "") return { code: "url_invalid", message: "is blank; write https://host/path" }
  // Format characters (soft hyphen, zero-width and direction marks) are dropped or invisible just as control characters are.
  if (/[\p{Cc}\p{Cf}]/u.test(text)) {
    return {
      code: "url_control_char",
      message: "contains a control or invisible character; percent-encode it or remove it"
    }
  }
  if (/\s/.test(text)) {
    return { code: "url_whitespace", message: "contains white space; percent-encode it (%20) or remove it" }
  }
  if (text.includes("\\")) return { code: "url_backslash", message: "contains a backslash; URLs use /" }
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(text)?.[1]?.toLowerCase()
  if (scheme === undefined) return { code: "url_invalid", message: "is not an absolute URL; write https://host/path" }
  if (scheme !== "https" && scheme !== "http") {
    return { code: "url_scheme", message: "has a scheme other than https (http only for allow-listed hosts)" }
  }
  const authority = authorityOf(text)
  if (authority === "") {
    return { code: "url_invalid", message: "has no host right after the two slashes; write https://host/path" }
  }
  if (authority.includes("@")) {
    return {
      code: "url_credentials",
      message: "contains credentials before the host; send them in `headers` (Authorization)"
    }
  }
  if (text.includes("#")) {
    return { code: "url_fragment", message: "contains a fragment (#...), which is never sent; remove it" }
  }
  if (/[{}$<>%*(),;'"`|^!&=+]/.test(authority)) return badHost
  if (isTemplate(text)) return { code: "url_template", message: "contains a placeholder that was never filled in" }
  return /[{}<>"`]/.test(text)
    ? { code: "url_invalid", message: "contains one of { } < > \" `, which a URL can't; percent-encode it" }
    : undefined
}

const badHost: Refusal = {
  code: "url_host",
  message:
    "has a host name that DNS can't have; labels are 1 to 63 letters, digits and inner hyphens (an unfilled placeholder?)"
}

const checkParsed = (text: string, url: URL, policy: EgressPolicy.Policy): Refusal | undefined => {
  if (url.href.length > maxLength) {
    return {
      code: "url_too_long",
      message: `has ${url.href.length} characters when percent-encoded; at most ${maxLength} are allowed`
    }
  }
  if (url.port === "0") return { code: "url_port", message: "has port 0; 1 to 65535 are ports" }
  const decision = policy.decideUrl(url)
  if (decision._tag === "Blocked") return blocked(url.hostname, decision.rule)
  return repaired(authorityOf(text), url)
}

const blocked = (host: string, rule: string): Refusal => {
  switch (rule) {
    case "name":
      return badHost
    case "scheme":
      return {
        code: "url_scheme",
        message: `is http:, which is for allow-listed hosts only; use https or ${allowIt("the host")}`
      }
    case "port":
      return {
        code: "url_port",
        message: "has a port that is not allowed; without an entry for it these are: 443, 80, 8443, 8080 and 1024 up " +
          `(where an entry has a port, that one only); use an allowed one or ${allowIt("host:port")}`
      }
    case "localhost":
      return {
        code: "url_private_host",
        message: `names this machine (localhost); use a public host or ${allowIt("the host")}`
      }
    case "denied":
      return { code: "url_denied", message: "is denied by a rule of the egress policy" }
    default:
  }
  if (rule === "metadata") {
    return {
      code: EgressPolicy.isMetadataHost(host) ? "url_private_host" : "url_private_address",
      message: "is a cloud metadata service; nothing can allow that"
    }
  }
  return {
    code: "url_private_address",
    message: `is an address that is not public (${rule}); use a public one or ${allowIt("the address")}`
  }
}

const allowIt = (what: string): string => `add ${what} to WEBHOOKS_EGRESS_ALLOW`

const authorityOf = (text: string): string => /^[^:]+:\/\/([^/?#]+)/.exec(text)?.[1] ?? ""

/** What `new URL` read otherwise than it is written. IPv6 has many ways to write an address, none of which is taken for another. */
const repaired = (authority: string, url: URL): Refusal | undefined => {
  const { host = "", port } = /^(?<host>\[[^\]]*\]|[^:]*)(?::(?<port>.*))?$/.exec(authority)?.groups ?? {}
  if (port === "") return { code: "url_port", message: "has a colon behind the host but no port; remove it" }
  if (port?.startsWith("0") === true) return { code: "url_port", message: "has a port with a zero first; remove it" }
  if (/[^\x00-\x7f]/.test(host)) {
    return url.hostname.includes("xn--")
      ? undefined
      : { code: "url_host", message: "has a host in look-alike characters; write it in plain letters" }
  }
  return host.startsWith("[") || host.toLowerCase() === url.hostname
    ? undefined
    : { code: "url_host", message: "has an address in a short or unusual form; write it as four decimal numbers" }
}
