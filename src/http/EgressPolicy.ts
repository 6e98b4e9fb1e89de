/**
 * Where requests may go. A pure decision over host, port and the addresses that a name resolved to: the public internet unless a rule
 * allows more, never a cloud's metadata service. Nothing is looked up and nothing is connected here.
 */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as addresses from "./internal/addresses.js"
import { type EgressRule, parseRule } from "./internal/egressRules.js"

export type { EgressRule } from "./internal/egressRules.js"

/**
 * What is allowed and what is denied beyond the defaults. Without rules: only public addresses (IPv4: outside every IANA special-purpose
 * row, 192.88.99.0/24, 224.0.0.0/4, 240.0.0.0/4 and 168.63.129.16; IPv6: 2000::/3 minus 2001::/23, 2001:db8::/32, 2002::/16,
 * 2620:4f:8000::/48 and 3fff::/20), ports 443, 80, 8443, 8080 and any from 1024, and `https:`.
 */
export interface EgressPolicy {
  readonly allow: ReadonlyArray<EgressRule>
  readonly deny: ReadonlyArray<EgressRule>
}

/**
 * `Allowed` carries the addresses that were judged, in the order given: connect to these and look nothing up again. `Blocked` carries the
 * rule that refused, a short stable word:
 *
 * - of the address: `loopback`, `private`, `link-local`, `metadata`, `multicast`, `documentation`, … (`not-global` for IPv6 outside 2000::/3);
 * - of the answer: `no-address` (nothing to connect to: a failed lookup), `too-many-addresses` (over 32), `unparseable`;
 * - of the target: `metadata`, `localhost`, `name` (DNS can't have it), `port`, `scheme`;
 * - `denied`: a deny rule of the policy.
 */
export type Decision =
  | { readonly _tag: "Allowed"; readonly addresses: ReadonlyArray<string> }
  | { readonly _tag: "Blocked"; readonly rule: string }

/** A policy of the defaults and these rules. Deny rules win over allow rules; no rule can allow a metadata address or name. */
export const make = (options?: {
  readonly allow?: ReadonlyArray<EgressRule> | undefined
  readonly deny?: ReadonlyArray<EgressRule> | undefined
}): EgressPolicy => ({ allow: options?.allow ?? [], deny: options?.deny ?? [] })

/** The policy without rules of its own. */
export const defaultPolicy: EgressPolicy = make()

/**
 * Reads a comma-separated list of rules, the form of `WEBHOOKS_EGRESS_ALLOW`; blank is the empty list. An entry is an address
 * (`10.1.2.3`, `::1`), a range (`10.0.0.0/8`, `fd00::/8`), a host name (`hooks.corp.example`) or its subdomains (`*.corp.example`), each
 * optionally with a port (`10.1.2.3:25`, `[::1]:3000`, `localhost:3000`). An entry without a port means the ports that the defaults
 * permit, one with a port means this port only. A host name stands for whatever addresses it resolves to. All bad entries are reported.
 */
export const parseRules = (text: string): Either.Either<ReadonlyArray<EgressRule>, InvalidEgressRules> => {
  if (text.trim() === "") return Either.right([])
  const rules: Array<EgressRule> = []
  const errors: Array<{ readonly position: number; readonly message: string }> = []
  text.split(",").forEach((entry, index) => {
    const rule = parseRule(entry.trim())
    if (Either.isRight(rule)) rules.push(rule.right)
    else errors.push({ position: index + 1, message: rule.left })
  })
  return errors.length === 0 ? Either.right(rules) : Either.left(new InvalidEgressRules({ errors }))
}

/**
 * Whether requests may go to a host and port. `answers` is what the host's name resolved to (ignored for an address literal, which is
 * its own answer). One address that isn't allowed blocks the whole: which of several is dialled is a matter of chance.
 */
export const decide = (
  policy: EgressPolicy,
  host: string,
  port: number,
  answers: ReadonlyArray<string>
): Decision => {
  const name = normalizeHost(host)
  const literal = addresses.parseAddress(name)
  const target = decideTarget(policy, name, literal, port)
  if (target !== undefined) return blocked(target)
  const texts = literal === undefined ? answers : [name]
  if (texts.length === 0) return blocked("no-address")
  if (texts.length > maxAddresses) return blocked("too-many-addresses")
  const byName = literal === undefined && policy.allow.some((rule) => allowsHost(rule, name, port))
  for (const text of texts) {
    const address = addresses.parseAddress(text)
    if (address === undefined) return blocked("unparseable")
    const rule = judge(policy, address, port, byName)
    if (rule !== undefined) return blocked(rule)
  }
  return { _tag: "Allowed", addresses: texts }
}

/**
 * What can be said of a URL before its name is resolved: scheme (`http:` only for a host or address that is allow-listed), port, host
 * name, and the address if the host is one. The answer for a name that may be resolved is `Allowed` without addresses.
 */
export const decideUrl = (policy: EgressPolicy, url: URL): Decision => {
  const port = url.port === "" ? (url.protocol === "http:" ? 80 : 443) : Number(url.port)
  const name = normalizeHost(url.hostname)
  const literal = addresses.parseAddress(name)
  if (url.protocol !== "https:" && url.protocol !== "http:") return blocked("scheme")
  const target = literal === undefined
    ? decideTarget(policy, name, literal, port)
    : decided(decide(policy, name, port, []))
  if (target !== undefined) return blocked(target)
  if (url.protocol === "http:") {
    const listed = policy.allow.some((rule) =>
      literal === undefined ? allowsHost(rule, name, port) : allowsAddress(rule, literal, port)
    )
    if (!listed) return blocked("scheme")
  }
  return { _tag: "Allowed", addresses: literal === undefined ? [] : [name] }
}

/** Whether a host is a name under which a cloud serves its metadata. No rule allows these. */
export const isMetadataHost = (host: string): boolean => metadataHosts.has(normalizeHost(host))

/** Whether a host is a name of the machine itself: `localhost`, `*.localhost` (RFC 6761) and what hosts files call it. */
export const isLocalHost = (host: string): boolean => {
  const name = normalizeHost(host)
  return localHosts.has(name) || name.endsWith(".localhost")
}

/**
 * Whether DNS can have a name: labels of 1 to 63 letters, digits, hyphens and underscores, no hyphen first or last, at most 253
 * characters (RFC 1035, section 2.3.4; RFC 1123, section 2.1; underscores as they occur). One dot at the end is fine.
 */
export const isDnsName = (host: string): boolean => isAbsoluteName(normalizeHost(host))

/** A list of rules with entries that can't be read. Positions count from 1; the entries themselves are not repeated. */
export class InvalidEgressRules extends Schema.TaggedError<InvalidEgressRules>()("InvalidEgressRules", {
  errors: Schema.Array(Schema.Struct({ position: Schema.Number, message: Schema.String }))
}) {
  override get message(): string {
    return this.errors.map((error) => `entry ${error.position}: ${error.message}`).join("\n")
  }
}

// --- internal

const maxAddresses = 32

const label = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/i

const isAbsoluteName = (name: string): boolean =>
  name.length <= 253 && name.split(".").every((part) => label.test(part))

const blocked = (rule: string): Decision => ({ _tag: "Blocked", rule })

const decided = (decision: Decision): string | undefined => decision._tag === "Blocked" ? decision.rule : undefined

const normalizeHost = (host: string): string => {
  const name = host.toLowerCase().replace(/^\[(.*)\]$/, "$1")
  return name.endsWith(".") ? name.slice(0, -1) : name
}

const defaultPort = (port: number): boolean =>
  port === 443 || port === 80 || port === 8443 || port === 8080 || (port >= 1024 && port <= 65_535)

const ofPort = (rule: EgressRule, port: number): boolean =>
  rule.port === undefined ? defaultPort(port) : rule.port === port

const matchesHost = (rule: EgressRule, name: string): boolean =>
  rule._tag === "Host" ? rule.name === name : rule._tag === "Suffix" && name.endsWith(`.${rule.suffix}`)

const allowsHost = (rule: EgressRule, name: string, port: number): boolean =>
  matchesHost(rule, name) && ofPort(rule, port)

const allowsAddress = (rule: EgressRule, address: addresses.Address, port: number): boolean =>
  rule._tag === "Range" && addresses.contains(rule.range, address) && ofPort(rule, port)

const deniesPort = (rule: EgressRule, port: number): boolean => rule.port === undefined || rule.port === port

const decideTarget = (
  policy: EgressPolicy,
  name: string,
  literal: addresses.Address | undefined,
  port: number
): string | undefined => {
  if (literal !== undefined) return undefined
  if (!isAbsoluteName(name)) return "name"
  if (metadataHosts.has(name)) return "metadata"
  if (policy.deny.some((rule) => matchesHost(rule, name) && deniesPort(rule, port))) return "denied"
  if (policy.allow.some((rule) => allowsHost(rule, name, port))) return undefined
  // What is listed with other ports is refused for its port: listing it again would not help.
  const listed = policy.allow.some((rule) => matchesHost(rule, name))
  if (isLocalHost(name)) return listed ? "port" : "localhost"
  // A range with this port may still allow each address that the name resolves to.
  const byRange = policy.allow.some((rule) => rule._tag === "Range" && rule.port === port)
  return defaultPort(port) || byRange ? undefined : "port"
}

const judge = (policy: EgressPolicy, address: addresses.Address, port: number, byName: boolean): string | undefined => {
  if (addresses.isMetadata(address)) return "metadata"
  const forms = [address, ...addresses.embedded(address)]
  const denied = policy.deny.some((rule) =>
    rule._tag === "Range" && deniesPort(rule, port) && forms.some((form) => addresses.contains(rule.range, form))
  )
  if (denied) return "denied"
  if (byName || policy.allow.some((rule) => allowsAddress(rule, address, port))) return undefined
  const special = addresses.specialPurpose(address)
  if (special === undefined) return defaultPort(port) ? undefined : "port"
  return policy.allow.some((rule) => rule._tag === "Range" && addresses.contains(rule.range, address))
    ? "port"
    : special
}

const metadataHosts: ReadonlySet<string> = new Set([
  "metadata",
  "metadata.google.internal",
  "metadata.goog",
  "metadata.google",
  "metadata.amazonaws.com",
  "metadata.aws.internal",
  "instance-data",
  "instance-data.ec2.internal",
  "metadata.azure.internal",
  "metadata.azure.com",
  "metadata.oraclecloud.com",
  "metadata.tencentyun.com",
  "metadata.platformequinix.com",
  "metadata.packet.net",
  "metadata.digitalocean.internal",
  "api.metadata.cloud.ibm.com",
  "rancher-metadata",
  "rancher-metadata.rancher.internal"
])

const localHosts: ReadonlySet<string> = new Set([
  "localhost",
  "localhost.localdomain",
  "localhost4",
  "localhost4.localdomain4",
  "localhost6",
  "localhost6.localdomain6",
  "ip6-localhost",
  "ip6-loopback"
])
