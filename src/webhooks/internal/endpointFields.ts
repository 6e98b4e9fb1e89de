/** What an endpoint consists of; `Endpoint` is the public name of these. */
import type * as Duration from "effect/Duration"
import type * as Redacted from "effect/Redacted"

/** How a message is encoded for an endpoint; see `WebhookEvent` for the exact bytes. */
export type Format = "event" | "standard" | "cloudevents"

/** A secret that signs until it expires. */
export interface EndpointSecret {
  /** `whsec_…`, `whsk_…` or any other text; see `WebhookSignature`. */
  readonly value: Redacted.Redacted<string>
  /** Milliseconds since the epoch after which the secret no longer signs. */
  readonly expiresAt: number | undefined
}

/** Whether a secret no longer signs at a time, in milliseconds since the epoch. */
export const isExpired = (now: number) => ({ expiresAt }: EndpointSecret): boolean =>
  expiresAt !== undefined && expiresAt <= now

export interface EndpointFields {
  /** Names the endpoint in reports, logs and rows: 1 to 64 characters of `[A-Za-z0-9_-]`. */
  readonly id: string
  /** Where the requests go: an absolute `https:` (or allow-listed `http:`) URL, its WHATWG form. */
  readonly url: string
  /** Event types and patterns (`invoice.*`, `*`) that it wants. */
  readonly events: ReadonlyArray<string>
  /** A disabled endpoint gets nothing. */
  readonly enabled: boolean
  /** Newest first. All that have not expired sign; none: unsigned. */
  readonly secrets: ReadonlyArray<EndpointSecret>
  /** Extra request headers. */
  readonly headers: Readonly<Record<string, Redacted.Redacted<string>>>
  /** Attempt timeout of this endpoint in place of the client's. */
  readonly timeout: Duration.Duration | undefined
  /** Requests in flight to this endpoint in place of the client's. */
  readonly maxConcurrency: number | undefined
  /** Durable path: most attempts to begin in a second, fleet-wide; a fraction is one attempt in so many seconds. Absent: no limit. */
  readonly rateLimit: number | undefined
  /** Durable path: of one aggregate id the next event goes only when the one before is delivered or has ended. */
  readonly ordered: boolean
  readonly format: Format
  /** When set, only this tenant's events. */
  readonly tenant: string | undefined
  readonly description: string | undefined
}

/** A secret or header value: itself, or where it is to be found when the configuration is read. */
export type ValueDocument =
  | string
  | Redacted.Redacted<string>
  /** The name of an environment variable (whatever the `ConfigProvider` has under that name). */
  | { readonly env: string }
  /** The path of a file, from the working directory if relative; one line break at its end doesn't count. */
  | { readonly file: string }

/** A secret of a list: a value, or a value with an end (RFC 3339). */
export type SecretDocument = ValueDocument | { readonly value: ValueDocument; readonly expiresAt?: string | undefined }

/** An endpoint as it is written in a configuration. */
export interface EndpointDocument {
  /** Absolute, `https:` unless the host is allow-listed, at most 2 048 characters; without credentials and fragment. */
  readonly url: string
  /** 1 to 64 characters of `[A-Za-z0-9_-]`. Default: `ep_` and the first 16 hex digits of the SHA-256 of the URL's WHATWG form. */
  readonly id?: string | undefined
  /** The one secret; absent or empty: unsigned. */
  readonly secret?: ValueDocument | undefined
  /** Several secrets in place of `secret`, newest first; all that have not expired sign. At least one must not have. */
  readonly secrets?: ReadonlyArray<SecretDocument> | undefined
  /** Default: true. A disabled endpoint is validated like any other. */
  readonly enabled?: boolean | undefined
  /** Extra request headers; not those that the library or the transport sets. */
  readonly headers?: Readonly<Record<string, ValueDocument>> | undefined
  /** Attempt timeout, such as `10s` or `10 seconds`; more than zero, at most an hour. Default: the client's. */
  readonly timeout?: string | undefined
  /** Requests in flight, 1 to 1 000. Default: the client's. */
  readonly maxConcurrency?: number | undefined
  /** Durable path: most attempts a second, fleet-wide; 0.00001 (about one a day) to 1 000, fractions allowed. Default: no limit. */
  readonly rateLimit?: number | undefined
  /** Durable path: events of one aggregate id go one after the other, in the order in which they were enqueued. Default: false. */
  readonly ordered?: boolean | undefined
  /** Default: `event`. */
  readonly format?: Format | undefined
  /** 1 to 128 characters. When set, only this tenant's events. */
  readonly tenant?: string | undefined
  /** For people; at most 1 024 characters. */
  readonly description?: string | undefined
}
