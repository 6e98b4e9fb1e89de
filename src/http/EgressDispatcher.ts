/**
 * The egress policy, enforced where it can't be got round: at the moment of connecting. An undici dispatcher that judges address literals and every address that a
 * name resolves to, and dials exactly the addresses that were judged. TLS 1.2 or newer, certificates always verified; no redirects, no cookies.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Undici from "@effect/platform-node/Undici"
import * as FileSystem from "@effect/platform/FileSystem"
import * as HttpClient from "@effect/platform/HttpClient"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as EgressPolicy from "./EgressPolicy.js"
import * as Connecting from "./internal/connecting.js"
import * as DispatcherTransport from "./internal/dispatcherTransport.js"
import * as Transport from "./internal/transport.js"
import * as Tunnelling from "./internal/tunnelling.js"

/** How connections are made. */
export interface Options {
  /** Name servers to ask, `ADDRESS` or `ADDRESS:PORT`; default: the system's. */
  readonly nameServers?: ReadonlyArray<string> | undefined
  /** Certificate authorities (PEM) that are trusted beside the well-known ones. */
  readonly ca?: string | undefined
  /**
   * A proxy that makes all connections (CONNECT), `http[s]://[USER:PASSWORD@]HOST:PORT`; default: none, and none is taken from `HTTP_PROXY` and its like. The
   * proxy resolves the names: what is guarded is what the URL says (literals, ports, names), not which addresses a name has. Where it makes none, that is a
   * failure to connect, and nothing has been sent.
   */
  readonly proxy?: Redacted.Redacted<string> | undefined
  /** Most time for resolving, connecting and the TLS handshake together; default 10 s, as the attempt timeout that bounds it anyway. */
  readonly connectTimeout?: Duration.DurationInput | undefined
}

/**
 * Makes the dispatcher; it is destroyed with its scope. Fails where `proxy` is no URL of a proxy, and where the process has certificate verification switched off
 * (`NODE_TLS_REJECT_UNAUTHORIZED=0`). A refusal reaches the caller of `HttpClient` as the cause of a `RequestError`, and of `ResilientHttpClient` as `EgressBlocked`.
 */
export const make = (
  options: Options = {}
): Effect.Effect<
  Undici.Dispatcher,
  InvalidEgressSettings | TlsVerificationOff,
  EgressPolicy.EgressPolicy | Scope.Scope
> =>
  Effect.gen(function*() {
    // Of the process itself, whatever settings it is given: it is Node.js that heeds it.
    const off = yield* Effect.withConfigProvider(
      variable(Config.string("NODE_TLS_REJECT_UNAUTHORIZED")),
      ConfigProvider.fromEnv()
    )
    if (off === "0") return yield* new TlsVerificationOff()
    const policy = yield* EgressPolicy.EgressPolicy
    const proxy = options.proxy === undefined ? undefined : yield* readProxy("proxy", options.proxy)
    const connecting = yield* Connecting.make(policy, {
      nameServers: options.nameServers,
      ca: options.ca,
      proxy,
      timeout: Duration.decode(options.connectTimeout ?? "10 seconds")
    })
    return yield* Effect.acquireRelease(
      Effect.sync(() => new Undici.Agent({ ...bounds, ...connecting })),
      (agent) => Effect.promise(() => agent.destroy())
    )
  })

/** The dispatcher for `NodeHttpClient.layerUndiciWithoutDispatcher`. */
export const layer = (
  options?: Options
): Layer.Layer<NodeHttpClient.Dispatcher, InvalidEgressSettings | TlsVerificationOff, EgressPolicy.EgressPolicy> =>
  Layer.scoped(NodeHttpClient.Dispatcher, make(options))

/**
 * An `HttpClient` (undici) behind the guard: what `ResilientHttpClient` is to be built over. It then goes without most of this client, which takes more
 * time than undici itself; through a client that is derived from this one (`HttpClient.mapRequest`) it goes as through any other.
 */
export const layerHttpClient = (
  options?: Options
): Layer.Layer<HttpClient.HttpClient, InvalidEgressSettings | TlsVerificationOff, EgressPolicy.EgressPolicy> =>
  Layer.provide(
    Layer.effect(
      HttpClient.HttpClient,
      Effect.map(NodeHttpClient.Dispatcher, (dispatcher) => {
        const client = NodeHttpClient.makeUndici(dispatcher)
        return Transport.register(client, DispatcherTransport.make(dispatcher, Transport.ofClient(client)))
      })
    ),
    layer(options)
  )

/**
 * The same from the environment: the policy from `WEBHOOKS_EGRESS_ALLOW` and `WEBHOOKS_EGRESS_DENY`, authorities from the file that `WEBHOOKS_CA_FILE` names, a
 * proxy from `WEBHOOKS_PROXY` or the file that `WEBHOOKS_PROXY_FILE` names. Where one of them can't be used nothing is made: what goes past a proxy, or trusts
 * others than those, would not be what was asked for.
 */
export const layerHttpClientFromEnv: Layer.Layer<
  HttpClient.HttpClient,
  EgressPolicy.InvalidEgressRules | InvalidEgressSettings | TlsVerificationOff,
  FileSystem.FileSystem
> = Layer.provide(
  Layer.unwrapEffect(Effect.map(Effect.suspend(() => optionsFromEnv), layerHttpClient)),
  EgressPolicy.layerFromEnv
)

/** A variable of the environment, or an option, that can't be used; its value isn't repeated. */
export class InvalidEgressSettings extends Schema.TaggedError<InvalidEgressSettings>()("InvalidEgressSettings", {
  /** The variable or the option. */
  path: Schema.String,
  problem: Schema.String
}) {
  override get message(): string {
    return `${this.path}: ${this.problem}`
  }
}

/** The process has the verification of certificates switched off, for everything in it; nothing is sent so. */
export class TlsVerificationOff extends Schema.TaggedError<TlsVerificationOff>()("TlsVerificationOff", {}) {
  readonly variable = "NODE_TLS_REJECT_UNAUTHORIZED"
  readonly problem =
    "is 0, which switches off the verification of certificates; unset it, and trust a private authority with WEBHOOKS_CA_FILE"

  override get message(): string {
    return `${this.variable}: ${this.problem}`
  }
}

// --- internal

const bounds = {
  pipelining: 1,
  maxHeaderSize: 16_384,
  // Whatever a receiver's `Keep-Alive: timeout=…` asks for.
  keepAliveMaxTimeout: 30_000
}

/** The text of the file that a variable names. */
const readFile = (
  name: string,
  path: string,
  limit: { readonly bytes: number; readonly text: string }
): Effect.Effect<string, InvalidEgressSettings, FileSystem.FileSystem> =>
  Effect.flatMap(FileSystem.FileSystem, (fs) =>
    fs.stat(path).pipe(
      Effect.filterOrFail(({ size, type }) => type === "File" && size <= limit.bytes, () => undefined),
      Effect.zipRight(fs.readFileString(path)),
      Effect.mapError(() =>
        new InvalidEgressSettings({ path: name, problem: `names no file that can be read (${limit.text})` })
      )
    ))

const readCa = (path: string): Effect.Effect<string, InvalidEgressSettings, FileSystem.FileSystem> =>
  Effect.filterOrFail(
    readFile("WEBHOOKS_CA_FILE", path, { bytes: 1_048_576, text: "PEM, at most 1 MiB" }),
    Connecting.isCertificate,
    () =>
      new InvalidEgressSettings({
        path: "WEBHOOKS_CA_FILE",
        problem: "names a file without a certificate in PEM form"
      })
  )

const readProxy = (
  path: string,
  text: Redacted.Redacted<string>,
  problem = "is not the URL of a proxy"
): Effect.Effect<Tunnelling.Proxy, InvalidEgressSettings> => {
  const proxy = Tunnelling.parse(Redacted.value(text).trim())
  return proxy === undefined
    ? Effect.fail(new InvalidEgressSettings({ path, problem: `${problem}; write http://HOST:PORT` }))
    : Effect.succeed(proxy)
}

const variable = <A>(config: Config.Config<A>): Effect.Effect<A | undefined> =>
  Effect.map(Effect.orElseSucceed(Config.option(config), () => Option.none<A>()), Option.getOrUndefined)

/** Not a `variable`: where it can't be read, nothing must be sent past the proxy. */
const ofProxy = (name: string): Effect.Effect<Redacted.Redacted<string> | undefined, InvalidEgressSettings> =>
  Effect.mapBoth(Config.option(Config.redacted(name)), {
    onFailure: () => new InvalidEgressSettings({ path: name, problem: "can't be read" }),
    onSuccess: (set) => Option.getOrUndefined(Option.filter(set, (value) => Redacted.value(value).trim() !== ""))
  })

const proxyFromEnv: Effect.Effect<
  Redacted.Redacted<string> | undefined,
  InvalidEgressSettings,
  FileSystem.FileSystem
> = Effect.gen(function*() {
  const [name, fileName] = ["WEBHOOKS_PROXY", "WEBHOOKS_PROXY_FILE"] as const
  const proxy = yield* ofProxy(name)
  // Someone may have put the URL where the file's name belongs.
  const file = yield* ofProxy(fileName)
  if (file === undefined) {
    return proxy === undefined ? undefined : yield* Effect.as(readProxy(name, proxy), proxy)
  }
  if (proxy !== undefined) {
    return yield* new InvalidEgressSettings({
      path: name,
      problem: `is set together with ${fileName}; set one of the two`
    })
  }
  const limit = { bytes: 65_536, text: "a URL, at most 64 KiB" }
  const text = Redacted.make(yield* readFile(fileName, Redacted.value(file), limit))
  return yield* Effect.as(readProxy(fileName, text, "names a file that doesn't hold the URL of a proxy"), text)
})

const optionsFromEnv: Effect.Effect<Options, InvalidEgressSettings, FileSystem.FileSystem> = Effect.gen(function*() {
  const file = yield* variable(Config.nonEmptyString("WEBHOOKS_CA_FILE"))
  return {
    ca: file === undefined ? undefined : yield* readCa(file),
    proxy: yield* proxyFromEnv
  }
})
