/**
 * One connection: judge the target, resolve its name, judge every address, dial what was judged, and look once more at what was reached. Through a proxy only the
 * target is judged: the proxy resolves and dials.
 */
import * as Undici from "@effect/platform-node/Undici"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import { X509Certificate } from "node:crypto"
import * as net from "node:net"
import * as tls from "node:tls"
import type { Policy } from "../EgressPolicy.js"
import { EgressBlocked } from "../ResilientHttpClientError.js"
import { parseAddress } from "./addresses.js"
import { type ConnectOptions, makePool } from "./dispatching.js"
import * as Resolving from "./resolving.js"
import * as Tunnelling from "./tunnelling.js"

export interface Settings {
  readonly nameServers: ReadonlyArray<string> | undefined
  /** PEM. */
  readonly ca: string | undefined
  /** Makes the connections in our place. */
  readonly proxy: Tunnelling.Proxy | undefined
  /** For all of it together. */
  readonly timeout: Duration.Duration
}

/** What an agent needs to make connections. */
export interface Connector {
  readonly connect: Undici.buildConnector.connector
  /** Makes the pool of an origin; throws what is no `http:` or `https:` back at whoever asks for it. */
  readonly factory: (origin: string | URL, options: object) => Undici.Dispatcher
}

/** What is still connecting when the scope closes is given up. */
export const make = (policy: Policy, settings: Settings): Effect.Effect<Connector, never, Scope.Scope> =>
  Effect.map(FiberSet.makeRuntime<never, void, never>(), (fork) => {
    // Made once: to read the authorities anew takes 25 ms of every connection.
    const secureContext = tls.createSecureContext({
      minVersion: "TLSv1.2",
      ...(settings.ca === undefined ? {} : { ca: [...tls.rootCertificates, settings.ca] })
    })
    const secure = Undici.buildConnector({ rejectUnauthorized: true, secureContext, allowH2: false })
    const reach = (host: string, port: number) =>
      settings.proxy === undefined
        ? dialJudged(policy, settings, host, port)
        : Tunnelling.open(settings.proxy, secureContext, host, port)
    const open: Connector["connect"] = (options, callback) => {
      const connected = Effect.suspend(() => connect(policy, reach, secure, options)).pipe(
        Effect.timeoutFail({ duration: settings.timeout, onTimeout: () => new ConnectTimeout() }),
        Effect.raceFirst(abandoned(options)),
        Effect.matchCause({
          onFailure: (cause) => {
            callback(toError(cause), null)
          },
          onSuccess: (socket) => {
            callback(null, socket)
          }
        })
      )
      fork(connected)
    }
    return {
      connect: open,
      // undici would refuse it in its own words, as no policy.
      factory: (origin, options) => {
        const url = URL.canParse(String(origin)) ? new URL(origin) : undefined
        if (url?.protocol === "https:" || url?.protocol === "http:") return makePool(origin, options)
        const blocked = new EgressBlocked({ host: url?.hostname ?? "", rule: "scheme", by: "url" })
        fork(logged(blocked, url === undefined || url.port === "" ? undefined : Number(url.port)))
        throw blocked
      }
    }
  })

/** Whether a text is a certificate (PEM), or several. */
export const isCertificate = (text: string): boolean => {
  const found = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return found.length > 0 && found.every((pem) => {
    try {
      return new X509Certificate(pem).subject !== undefined
    } catch {
      return false
    }
  })
}

// --- internal

/** Ends when nobody waits for the connection any more. */
const abandoned = ({ signal }: ConnectOptions): Effect.Effect<never, ConnectTimeout> =>
  signal === undefined ? Effect.never : Effect.async((resume) => {
    const stop = () => resume(Effect.fail(new ConnectTimeout()))
    signal.addEventListener("abort", stop, { once: true })
    return Effect.sync(() => signal.removeEventListener("abort", stop))
  })

class ConnectTimeout extends Data.TaggedError("ConnectTimeout") {
  readonly code = "UND_ERR_CONNECT_TIMEOUT"
}

/** A connection that ended elsewhere than where it was sent. */
class Misdirected extends Data.TaggedError("Misdirected") {
  readonly code = "ECONNABORTED"
}

const toError = (cause: Cause.Cause<unknown>): Error => {
  const error = Cause.squash(cause)
  return error instanceof Error ? error : new ConnectTimeout()
}

const connect = (
  policy: Policy,
  reach: (host: string, port: number) => Effect.Effect<net.Socket, Error>,
  secure: Undici.buildConnector.connector,
  options: Undici.buildConnector.Options
): Effect.Effect<net.Socket, Error> => {
  const isTls = options.protocol === "https:"
  const host = options.hostname.replace(/^\[(.*)\]$/, "$1")
  const port = options.port === "" ? (isTls ? 443 : 80) : Number(options.port)
  const url = new URL(`${options.protocol}//${host.includes(":") ? `[${host}]` : host}:${port}/`)
  const target = policy.decideUrl(url)
  if (target._tag === "Blocked") return refuse(host, port, target.rule, "url", [])
  return isTls
    ? Effect.flatMap(reach(host, port), (socket) => encrypt(secure, options, host, socket))
    : reach(host, port)
}

/** A TCP connection to what the name resolves to, if all of that is allowed. */
const dialJudged = (
  policy: Policy,
  settings: Settings,
  host: string,
  port: number
): Effect.Effect<net.Socket, Error> =>
  Effect.flatMap(Resolving.addressesOf(policy, host, port, settings.nameServers), (answers) => {
    const decision = policy.decide(host, port, answers)
    return decision._tag === "Blocked"
      ? refuse(host, port, decision.rule, parseAddress(host) === undefined ? "name" : "url", answers)
      : dial(host, port, decision.addresses)
  })

/** The addresses go to the operator's log, and nowhere else. */
const refuse = (
  host: string,
  port: number,
  rule: string,
  by: "name" | "url",
  answers: ReadonlyArray<string>
): Effect.Effect<never, EgressBlocked> =>
  Effect.suspend(() => {
    const blocked = new EgressBlocked({ host, rule, by })
    return Effect.zipRight(logged(blocked, port, answers), Effect.fail(blocked))
  })

const logged = (
  { host, rule }: EgressBlocked,
  port: number | undefined,
  answers: ReadonlyArray<string> = []
): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logWarning("egress_blocked"), {
    host,
    ...(port === undefined ? {} : { port }),
    rule,
    ...(answers.length === 0 ? {} : { addresses: answers.slice(0, maxLogged).join(" ") })
  })

const maxLogged = 8

/** A TCP connection to one of the addresses: the next is tried when one fails or takes long (RFC 8305). */
const dial = (host: string, port: number, addresses: ReadonlyArray<string>): Effect.Effect<net.Socket, Error> =>
  Effect.flatMap(
    Effect.async<net.Socket, Error>((resume) => {
      const socket = net.connect({
        host: addresses.length === 1 ? addresses[0] : host,
        port,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: 60_000,
        highWaterMark: 65_536,
        autoSelectFamily: true,
        autoSelectFamilyAttemptTimeout: 1000,
        lookup: only(addresses)
      } as net.NetConnectOpts)
      const failed = (error: Error) => {
        resume(Effect.fail(error))
      }
      socket.once("error", failed)
      socket.once("connect", () => {
        socket.off("error", failed)
        resume(Effect.succeed(socket))
      })
      return abandon(socket)
    }),
    (socket) =>
      addresses.some((address) => isSame(address, socket.remoteAddress))
        ? Effect.succeed(socket)
        : Effect.zipRight(abandon(socket), Effect.fail(new Misdirected()))
  )

/** What stands in for the look-up of a name: nothing but what was judged. */
const only = (addresses: ReadonlyArray<string>): net.LookupFunction => (_host, options, callback) => {
  const found = addresses.map((address) => ({ address, family: net.isIP(address) }))
  if (options.all === true) callback(null, found)
  else callback(null, found[0]?.address ?? "", found[0]?.family)
}

const isSame = (judged: string, reached: string | undefined): boolean => {
  const left = parseAddress(judged)
  const right = reached === undefined ? undefined : parseAddress(reached)
  return left !== undefined && right !== undefined && left.kind() === right.kind() &&
    left.toNormalizedString() === right.toNormalizedString()
}

const encrypt = (
  secure: Undici.buildConnector.connector,
  options: Undici.buildConnector.Options,
  host: string,
  socket: net.Socket
): Effect.Effect<net.Socket, Error> =>
  Effect.async((resume) => {
    const servername = options.servername ?? (net.isIP(host) === 0 ? host.replace(/\.$/, "") : "")
    secure({ ...options, hostname: host, servername, httpSocket: socket }, (error, encrypted) => {
      resume(error === null ? Effect.succeed(encrypted) : Effect.zipRight(abandon(socket), Effect.fail(error)))
    })
    return abandon(socket)
  })

const abandon = (socket: net.Socket): Effect.Effect<void> =>
  Effect.sync(() => {
    // An error that comes after all has nobody to go to.
    socket.on("error", () => undefined)
    socket.destroy()
  })
