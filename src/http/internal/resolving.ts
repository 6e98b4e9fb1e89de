/**
 * The addresses of a host name. DNS is asked through c-ares (`dns.Resolver`), whose sockets wait for many answers at once; the system's own resolver has four
 * threads for all, so that two names that nobody answers for would hold up every other.
 */
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as dns from "node:dns"
import type { Policy } from "../EgressPolicy.js"
import { parseAddress } from "./addresses.js"

/** A name that could not be resolved: the resolver's code (`ENOTFOUND`, `ESERVFAIL`, `ETIMEOUT`, …). */
export class NameNotResolved extends Data.TaggedError("NameNotResolved")<{ readonly code: string }> {}

/**
 * The addresses to be judged: a literal is its own; a listed name is resolved by the system, any other by DNS. No addresses: a failure like any of the resolver's.
 */
export const addressesOf = (
  policy: Policy,
  host: string,
  port: number,
  nameServers?: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<string>, NameNotResolved> =>
  parseAddress(host) !== undefined
    ? Effect.succeed([host])
    : Effect.filterOrFail(
      policy.isListed(host, port) ? fromSystem(host) : fromDns(host, nameServers),
      (addresses) => addresses.length > 0,
      () => new NameNotResolved({ code: "ENODATA" })
    )

// --- internal

/** Asks DNS, as it is: no hosts file, no search domains. What is still asked when the effect is interrupted is cancelled. */
const fromDns = (
  host: string,
  nameServers: ReadonlyArray<string> | undefined
): Effect.Effect<ReadonlyArray<string>, NameNotResolved> =>
  Effect.suspend(() => {
    const resolver = new dns.Resolver({ timeout: queryTimeout, tries: 3 })
    if (nameServers !== undefined) resolver.setServers(nameServers)
    const ask = (family: "resolve4" | "resolve6") =>
      Effect.async<ReadonlyArray<string>, NameNotResolved>((resume) => {
        resolver[family](host, (error, addresses) => {
          resume(error === null ? Effect.succeed(addresses) : Effect.fail(notResolved(error)))
        })
      })
    return Effect.ensuring(
      bothFamilies(ask("resolve4"), ask("resolve6")),
      Effect.sync(() => {
        resolver.cancel()
      })
    )
  })

/** Asks the system, with its hosts file and search domains: for names that somebody has put on the allow list. */
const fromSystem = (host: string): Effect.Effect<ReadonlyArray<string>, NameNotResolved> =>
  Effect.async((resume) => {
    dns.lookup(host, { all: true, verbatim: true }, (error, addresses) => {
      resume(
        error === null
          ? Effect.succeed(addresses.map(({ address }) => address))
          : Effect.fail(notResolved(error))
      )
    })
  })

/** Milliseconds of a query's first try; c-ares doubles it from try to try. */
const queryTimeout = 1500

/** How long one family's answer waits for the other's (RFC 8305, section 3, has a similar wait). */
const patience = "500 millis"

const notResolved = (error: NodeJS.ErrnoException): NameNotResolved =>
  new NameNotResolved({ code: error.code ?? "UNKNOWN" })

/** The addresses of both families. Once one has answered, the other gets a moment more; a failure counts only where both fail. */
const bothFamilies = (
  four: Effect.Effect<ReadonlyArray<string>, NameNotResolved>,
  six: Effect.Effect<ReadonlyArray<string>, NameNotResolved>
): Effect.Effect<ReadonlyArray<string>, NameNotResolved> =>
  Effect.gen(function*() {
    const found = yield* Deferred.make<void>()
    const late = Effect.zipRight(
      Deferred.await(found),
      Effect.delay(Effect.fail(new NameNotResolved({ code: "ETIMEOUT" })), patience)
    )
    const family = (ask: typeof four) =>
      Effect.either(Effect.raceFirst(Effect.tap(ask, () => Deferred.succeed(found, undefined)), late))
    const [first, second] = yield* Effect.all([family(four), family(six)], { concurrency: 2 })
    if (Either.isRight(first) || Either.isRight(second)) {
      return [first, second].flatMap((answers) => Either.getOrElse(answers, () => []))
    }
    // "No such name" of one family says less than the other's failure.
    return yield* nothingThere.has(first.left.code) ? second.left : first.left
  })

const nothingThere: ReadonlySet<string> = new Set(["ENODATA", "ENOTFOUND"])
