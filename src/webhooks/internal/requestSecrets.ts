/**
 * Every form in which a receiver might repeat what is secret about a request, for masking it in an excerpt of its answer.
 */
import * as Redacted from "effect/Redacted"
import type { EndpointFields } from "./endpointFields.js"

/**
 * The secrets of requests to an endpoint (expired ones too) and the signatures that were sent, header values, the URL's query and userinfo; each as it is,
 * without its prefix, decoded, as hex and base64 (wherever that begins), and as JSON and URLs would escape it. Only those that can show in a text of
 * `length` characters: to a short answer the short ones.
 */
export const requestSecrets = (
  endpoint: Pick<EndpointFields, "headers" | "secrets" | "url">,
  signatures: ReadonlyArray<string>,
  length: number
): ReadonlyArray<string> => {
  if (length < telling) {
    return endpoint.secrets.map(({ value }) => Redacted.value(value)).filter((secret) => secret.length <= length)
  }
  const found = new Set<string>()
  // `v1,…` several times with spaces between, or hex alone.
  for (const list of signatures) for (const signature of list.split(" ")) addSignature(found, signature)
  return [...ofEndpoint(endpoint), ...found]
}

// --- internal

/** Fewest characters of a header's or a query's value that are masked as a whole: `true`, `json` or `prod` tell nothing. */
const telling = 6

const base64 = /^[\w+/-]{8,}={0,2}$/

/** By endpoint: what is the same for all its requests. */
const written = new WeakMap<object, ReadonlyArray<string>>()

const ofEndpoint = (endpoint: Pick<EndpointFields, "headers" | "secrets" | "url">): ReadonlyArray<string> => {
  const known = written.get(endpoint)
  if (known !== undefined) return known
  const found = new Set<string>()
  for (const { value } of endpoint.secrets) addKey(found, Redacted.value(value))
  for (const value of Object.values(endpoint.headers)) addHeader(found, Redacted.value(value))
  addUrl(found, endpoint.url)
  written.set(endpoint, [...found])
  return [...found]
}

const addKey = (found: Set<string>, key: string): void => {
  addForms(found, key)
  const bare = key.replace(/^wh(?:sec|sk)_/i, "")
  if (bare !== key) addForms(found, bare)
}

const addSignature = (found: Set<string>, signature: string): void => {
  const bare = signature.replace(/^v1a?,/, "")
  addEscaped(found, bare)
  if (bare !== signature) found.add(Buffer.from(bare, "base64").toString("hex"))
}

const addForms = (found: Set<string>, value: string): void => {
  addEscaped(found, value)
  addBytes(found, Buffer.from(value))
  if (!base64.test(value)) return
  const decoded = Buffer.from(value, "base64")
  addBytes(found, decoded)
  // What is not text in it becomes U+FFFD here as in the answer.
  found.add(decoded.toString())
}

const addBytes = (found: Set<string>, bytes: Buffer): void => {
  // Shorter ones turn up in any text.
  if (bytes.length < 4) return
  found.add(bytes.toString("hex"))
  addEscaped(found, bytes.toString("base64"))
  // Behind one or two bytes of something else: without the first and last characters, which also hold bits of what stands beside it.
  for (const shift of [1, 2]) {
    const shifted = Buffer.concat([Buffer.alloc(shift), bytes]).toString("base64").replace(/=+$/, "").slice(
      shift + 1,
      -1
    )
    if (shifted.length < 8) continue
    found.add(shifted)
    found.add(shifted.replaceAll("+", "-").replaceAll("/", "_"))
  }
}

const addEscaped = (found: Set<string>, text: string): void => {
  found.add(text)
  if (/^\w*$/.test(text)) return
  const json = JSON.stringify(text).slice(1, -1)
  found.add(json)
  // PHP's `json_encode` escapes the slash.
  found.add(json.replaceAll("/", "\\/"))
  found.add(text.replaceAll("+", "-").replaceAll("/", "_"))
  if (!/\p{Cs}/u.test(text)) found.add(encodeURIComponent(text))
}

const addValue = (found: Set<string>, value: string): void => {
  if (value.length >= telling) addForms(found, value)
}

const addHeader = (found: Set<string>, value: string): void => {
  addValue(found, value)
  const scheme = /^[A-Za-z]+ +/.exec(value)?.[0]
  if (scheme === undefined) return
  const credential = value.slice(scheme.length)
  addValue(found, credential)
  // `user:password`
  if (!/^basic /i.test(scheme)) return
  const [user = "", ...password] = Buffer.from(credential, "base64").toString().split(":")
  addValue(found, user)
  addValue(found, password.join(":"))
}

const addUrl = (found: Set<string>, text: string): void => {
  if (!/[?@]/.test(text) || !URL.canParse(text)) return
  const url = new URL(text)
  const query = url.search.slice(1)
  addValue(found, query)
  for (const part of query.split("&")) addValue(found, part.slice(part.indexOf("=") + 1))
  for (const [, value] of url.searchParams) addValue(found, value)
  for (const part of [url.username, url.password]) {
    addValue(found, part)
    addValue(found, unescaped(part))
  }
}

// Unlike `decodeURIComponent` this takes anything.
const unescaped = (text: string): string => new URLSearchParams(`v=${text.replaceAll("+", "%2B")}`).get("v") ?? text
