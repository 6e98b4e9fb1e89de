/**
 * `egress check`: what the egress policy says of a URL. Names are resolved unless `--resolve` says to what; nothing is connected.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { isIP } from "node:net"
import * as EgressPolicy from "../../http/EgressPolicy.js"
import * as Resolving from "../../http/internal/resolving.js"
import * as ResilientHttpClient from "../../http/ResilientHttpClient.js"
import * as CliError from "../CliError.js"
import { variable } from "../Environment.js"
import * as Stdio from "../Stdio.js"
import { visible } from "../Visible.js"

export interface Options {
  /** Stand in for what DNS would answer. */
  readonly resolve: ReadonlyArray<string>
  readonly json: boolean
}

/**
 * Prints the decision, with `--json` `{"url","host","addresses","decision":"allowed"|"blocked","rule"?}`. Exit code 0 when allowed, 1 when blocked. A name without
 * addresses is blocked by `no-address`, what is no URL by `url`, one with credentials by `userinfo`.
 */
export const run = (options: Options, text: string): Effect.Effect<number, CliError.CliError> =>
  Effect.gen(function*() {
    const policy = EgressPolicy.make({
      allow: yield* rulesOf("WEBHOOKS_EGRESS_ALLOW", options.json),
      deny: yield* rulesOf("WEBHOOKS_EGRESS_DENY", options.json)
    })
    const verdict = yield* judge(policy, text, options.resolve)
    if (options.json) yield* Stdio.json(verdict)
    else yield* Stdio.lines(...lines(verdict))
    return verdict.decision === "allowed" ? CliError.exitCodes.done : CliError.exitCodes.failed
  })

// --- internal

interface Verdict {
  /** Scheme, host, port and path. */
  readonly url: string
  readonly host: string
  readonly addresses: ReadonlyArray<string>
  readonly decision: "allowed" | "blocked"
  readonly rule?: string
}

const judge = (
  policy: EgressPolicy.Policy,
  text: string,
  resolve: ReadonlyArray<string>
): Effect.Effect<Verdict> =>
  Effect.gen(function*() {
    const shown = ResilientHttpClient.safeUrl(text)
    if (!URL.canParse(text)) {
      return { url: shown, host: "", addresses: [], decision: "blocked" as const, rule: "url" }
    }
    const url = new URL(text)
    const host = url.hostname.replace(/^\[(.*)\]$/, "$1")
    const port = url.port === "" ? (url.protocol === "http:" ? 80 : 443) : Number(url.port)
    const blocked = (rule: string, addresses: ReadonlyArray<string>): Verdict => ({
      url: shown,
      host,
      // What is none may be anything, a secret in the wrong place too.
      addresses: addresses.map((address) => isIP(address) === 0 ? "(not an address)" : address),
      decision: "blocked",
      rule
    })
    if (url.username !== "" || url.password !== "") return blocked("userinfo", [])
    const target = policy.decideUrl(url)
    const isLiteral = isIP(host) !== 0
    if (target._tag === "Blocked") return blocked(target.rule, isLiteral ? [host] : resolve)
    const addresses = resolve.length > 0 && !isLiteral
      ? resolve
      : yield* Effect.orElseSucceed(Resolving.addressesOf(policy, host, port), () => [])
    const decision = policy.decide(host, port, addresses)
    return decision._tag === "Blocked"
      ? blocked(decision.rule, addresses)
      : { url: shown, host, addresses, decision: "allowed" as const }
  })

const lines = ({ addresses, decision, host, rule, url }: Verdict): ReadonlyArray<string> => [
  `${decision}  ${visible(url)}${rule === undefined ? "" : `  (${rule})`}`,
  ...(addresses.length === 0
    ? []
    : [`         ${visible(host)}: ${addresses.map((address) => visible(address)).join(" ")}`])
]

const rulesOf = (
  name: string,
  json: boolean
): Effect.Effect<ReadonlyArray<EgressPolicy.EgressRule>, CliError.CliError> =>
  Effect.flatMap(variable(name), (text) =>
    Either.match(EgressPolicy.parseRules(text ?? ""), {
      onLeft: ({ errors }) => {
        const problems = errors.map(({ message, position }) => ({
          path: name,
          message: `entry ${position} ${message}`
        }))
        return Effect.fail(
          new CliError.CliError({
            exitCode: CliError.exitCodes.usage,
            lines: problems.map(({ message, path }) => `${path}: ${message}`),
            json: json ? { errors: problems } : undefined
          })
        )
      },
      onRight: Effect.succeed
    }))
