/**
 * Where requests may go: the public internet unless a rule allows more, never a cloud's metadata service. A pure decision over host, port and the addresses
 * that a name resolved to: nothing is looked up and nothing is connected here. `EgressDispatcher` enforces it, `WebhookConfig` and `Endpoint` hold URLs against it.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Deciding from "./internal/egressDecision.js"
import { type EgressRule, parseRule } from "./internal/egressRules.js"

export { isDnsName, isLocalHost, isMetadataHost } from "./internal/egressDecision.js"
export type { EgressRule } from "./internal/egressRules.js"

/** The policy of a program, as a service: a host may put its own in place of it. */
export class EgressPolicy extends Context.Tag("effect-webhooks/EgressPolicy")<EgressPolicy, Policy>() {}

/** What is asked before a name is resolved, and what is asked of its addresses. Pure. */
export interface Policy {
  /**
   * Whether requests may go to a host and port. `answers` is what the host's name resolved to (ignored for an address literal, which is
   * its own answer). One address that isn't allowed blocks the whole: which of several is dialled is a matter of chance.
   */
  readonly decide: (host: string, port: number, answers: ReadonlyArray<string>) => Decision
  /**
   * What can be said of a URL before its name is resolved: scheme (`http:` only for a host or address that is allow-listed), port, host
   * name, and the address if the host is one. The answer for a name that may be resolved is `Allowed` without addresses.
   */
  readonly decideUrl: (url: URL) => Decision
  /**
   * Whether the host's name itself is allow-listed, so that its addresses are as trusted as the machine's own settings: it is then resolved as the system does
   * (hosts files, search domains), any other by asking DNS.
   */
  readonly isListed: (host: string, port: number) => boolean
}

/** What is allowed and what is denied beyond the defaults; each defaults to nothing. */
export interface Options {
  readonly allow?: ReadonlyArray<EgressRule> | undefined
  /** Wins over `allow`. */
  readonly deny?: ReadonlyArray<EgressRule> | undefined
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
export type Decision = Deciding.Decision

/**
 * A policy of the defaults and these rules. Without rules: only public addresses (IPv4: outside every IANA special-purpose
 * row, 192.88.99.0/24, 224.0.0.0/4, 240.0.0.0/4 and 168.63.129.16; IPv6: 2000::/3 minus 2001::/23, 2001:db8::/32, 2002::/16,
 * 2620:4f:8000::/48 and 3fff::/20), ports 443, 80, 8443, 8080 and any from 1024, and `https:`. No rule can allow a metadata address or name.
 */
export const make = (options?: Options): Policy => {
  const rules: Deciding.Rules = { allow: options?.allow ?? [], deny: options?.deny ?? [] }
  return {
    decide: (host, port, answers) => Deciding.decide(rules, host, port, answers),
    decideUrl: (url) => Deciding.decideUrl(rules, url),
    isListed: (host, port) => Deciding.isListed(rules, host, port)
  }
}

/** The policy without rules of its own: the public internet over `https:`. */
export const defaultPolicy: Policy = make()

/** `make` as a layer. */
export const layer = (options?: Options): Layer.Layer<EgressPolicy> => Layer.succeed(EgressPolicy, make(options))

/** The policy of `WEBHOOKS_EGRESS_ALLOW` and `WEBHOOKS_EGRESS_DENY`, both in the form of `parseRules`; unset is empty. */
export const layerFromEnv: Layer.Layer<EgressPolicy, InvalidEgressRules> = Layer.effect(
  EgressPolicy,
  Effect.suspend(() => fromEnv)
)

/**
 * Reads a comma-separated list of rules, the form of `WEBHOOKS_EGRESS_ALLOW`; blank is the empty list. An entry is an address
 * (`10.1.2.3`, `::1`), a range (`10.0.0.0/8`, `fd00::/8`), a host name (`hooks.corp.example`) or its subdomains (`*.corp.example`), each
 * optionally with a port (`10.1.2.3:25`, `[::1]:3000`, `localhost:3000`). An entry without a port means the ports that the defaults
 * permit, one with a port means this port only. `*:6379` is this port of any host: to deny it, or to allow it of what is public, never of private
 * addresses. A host name stands for whatever addresses it resolves to. All bad entries are reported.
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

/** A list of rules with entries that can't be read. Positions count from 1; the entries themselves are not repeated. */
export class InvalidEgressRules extends Schema.TaggedError<InvalidEgressRules>()("InvalidEgressRules", {
  errors: Schema.Array(Schema.Struct({ position: Schema.Number, message: Schema.String }))
}) {
  override get message(): string {
    return this.errors.map((error) => `entry ${error.position}: ${error.message}`).join("\n")
  }
}

// --- internal

const rulesOf = (variable: string): Effect.Effect<ReadonlyArray<EgressRule>, InvalidEgressRules> =>
  Effect.flatMap(
    Effect.orElseSucceed(Config.option(Config.string(variable)), () => Option.none<string>()),
    (text) => parseRules(Option.getOrElse(text, () => ""))
  )

const fromEnv: Effect.Effect<Policy, InvalidEgressRules> = Effect.map(
  Effect.all({ allow: rulesOf("WEBHOOKS_EGRESS_ALLOW"), deny: rulesOf("WEBHOOKS_EGRESS_DENY") }),
  make
)
