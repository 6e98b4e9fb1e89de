/** The request of one attempt: a message's bytes, signed for an endpoint at a time. */
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import type { Endpoint } from "../Endpoint.js"
import type { Message } from "../Message.js"
import { version } from "../Version.js"
import * as WebhookSignature from "../WebhookSignature.js"
import { isExpired } from "./endpointFields.js"

/** The request, or why there can be none. `now`: milliseconds since the epoch. */
export const attemptRequest = (
  message: Message,
  endpoint: Endpoint,
  now: number
): Either.Either<HttpClientRequest.HttpClientRequest, string> => {
  const encoded = message.encoded.get(endpoint.format)
  if (encoded === undefined) return Either.left(`the message was not encoded in the format "${endpoint.format}"`)
  const keys: Array<WebhookSignature.SigningKey> = []
  const expired = isExpired(now)
  for (const secret of endpoint.secrets) {
    if (expired(secret)) continue
    const key = WebhookSignature.parseSecret(secret.value)
    if (Either.isLeft(key)) return Either.left(key.left.message)
    keys.push(key.right)
  }
  // All secrets expired: sending unsigned would be a surprise that a receiver can't tell from a forgery.
  if (keys.length === 0 && endpoint.secrets.length > 0) return Either.left("all its secrets have expired")
  const timestamp = Math.floor(now / 1000)
  const signed = WebhookSignature.sign({ id: message.id, timestamp, body: encoded.bytes, keys })
  if (Either.isLeft(signed)) return Either.left(signed.left.message)
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(endpoint.headers)) headers[name.toLowerCase()] = Redacted.value(value)
  return Either.right(HttpClientRequest.post(endpoint.url, {
    headers: { ...headers, ...signed.right, "user-agent": userAgent, "accept-encoding": "identity" },
    body: HttpBody.uint8Array(encoded.bytes, encoded.contentType)
  }))
}

/** Adds the signatures that a request carries, as their headers' values. */
export const addSignatures = (signatures: Array<string>, { headers }: HttpClientRequest.HttpClientRequest): void => {
  const standard = headers["webhook-signature"]
  const plain = headers["x-webhook-signature"]
  if (standard !== undefined) signatures.push(standard)
  if (plain !== undefined) signatures.push(plain)
}

// --- internal

const userAgent = `effect-webhooks/${version}`
