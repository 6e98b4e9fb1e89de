/**
 * The decision itself: rules against host, port and addresses.
 */
import * as addresses from "./addresses.js"
import type { EgressRule } from "./egressRules.js"

/** Deny rules win over allow rules; no rule can allow a metadata address or name. */
export interface Rules {
  readonly allow: ReadonlyArray<EgressRule>
  readonly deny: ReadonlyArray<EgressRule>
}

/** As `EgressPolicy.Decision` says. */
export type Decision =
  | { readonly _tag: "Allowed"; readonly addresses: ReadonlyArray<string> }
  | { readonly _tag: "Blocked"; readonly rule: string }

/** As `EgressPolicy.Policy` says. */
export const decide = (
  policy: Rules,
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

/** As `EgressPolicy.Policy` says. */
export const decideUrl = (policy: Rules, url: URL): Decision => {
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

/** Whether an allow rule names the host, itself or by a suffix, for this port. */
export const isListed = (policy: Rules, host: string, port: number): boolean => {
  const name = normalizeHost(host)
  return policy.allow.some((rule) => allowsHost(rule, name, port))
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

/** Whether the port is one that public addresses may be asked at: what a rule for a port alone opens is that, and nothing private. */
const isOpenPort = (policy: Rules, port: number): boolean =>
  defaultPort(port) || policy.allow.some((rule) => rule._tag === "Port" && rule.port === port)

const decideTarget = (
  policy: Rules,
  name: string,
  literal: addresses.Address | undefined,
  port: number
): string | undefined => {
  if (literal !== undefined) return undefined
  if (!isAbsoluteName(name)) return "name"
  if (metadataHosts.has(name)) return "metadata"
  if (policy.deny.some((rule) => (rule._tag === "Port" || matchesHost(rule, name)) && deniesPort(rule, port))) {
    return "denied"
  }
  if (policy.allow.some((rule) => allowsHost(rule, name, port))) return undefined
  // What is listed with other ports is refused for its port: listing it again would not help.
  const listed = policy.allow.some((rule) => matchesHost(rule, name))
  if (isLocalHost(name)) return listed ? "port" : "localhost"
  // A range with this port may still allow each address that the name resolves to.
  const byRange = policy.allow.some((rule) => rule._tag === "Range" && rule.port === port)
  return isOpenPort(policy, port) || byRange ? undefined : "port"
}

const judge = (policy: Rules, address: addresses.Address, port: number, byName: boolean): string | undefined => {
  if (addresses.isMetadata(address)) return "metadata"
  const forms = [address, ...addresses.embedded(address)]
  const denied = policy.deny.some((rule) =>
    deniesPort(rule, port) &&
    (rule._tag === "Port" ||
      rule._tag === "Range" && forms.some((form) => addresses.contains(rule.range, form)))
  )
  if (denied) return "denied"
  if (byName || policy.allow.some((rule) => allowsAddress(rule, address, port))) return undefined
  const special = addresses.specialPurpose(address)
  if (special === undefined) return isOpenPort(policy, port) ? undefined : "port"
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
