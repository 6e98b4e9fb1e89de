/**
 * The HTTP API, served: events in, a look at what became of them, and the means to step in. `Api` describes it; `/openapi.json` and a reference page at
 * `/docs` (complete in itself, nothing is loaded from elsewhere) say the same.
 *
 * With tokens, everything but `/health/*` needs one of them (`Authorization: Bearer …`), the reference page too, and whoever has none gets the same 401
 * whatever was asked for. Without, the server binds to loopback only, and serves no page of another site in this machine's browser. In either case it is
 * asked by a name of its own only (see `Options.hosts`), so that nobody gets at it by letting a name of theirs point here. No other site's page may read
 * an answer: there are no CORS headers.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiSwagger from "@effect/platform/HttpApiSwagger"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { defaults } from "../Defaults.js"
import type { Deliveries } from "../outbox/Deliveries.js"
import type { EndpointHealth } from "../outbox/EndpointHealth.js"
import type { Outbox } from "../outbox/Outbox.js"
import type { OutboxSchema } from "../outbox/Schema.js"
import type { Endpoints } from "../webhooks/Endpoints.js"
import { Api } from "./Api.js"
import * as HostName from "./HostName.js"
import * as Access from "./internal/access.js"
import * as Gate from "./internal/gate.js"
import * as Handlers from "./internal/handlers.js"
import * as Listening from "./internal/listening.js"

/** A server that listens. */
export class ApiServer extends Context.Tag("effect-webhooks/ApiServer")<ApiServer, {
  /** Where: `http://127.0.0.1:3000`. */
  readonly url: string
  /** The address that it is bound to. */
  readonly host: string
  /** The one that was asked for, or the one that the system chose for 0. */
  readonly port: number
}>() {}

/** How to serve; all optional. */
export interface Options {
  /** Default: 3000; 0: one that is free. */
  readonly port?: number | undefined
  /** Address or name to bind to; default: `127.0.0.1`. Without tokens only `localhost`, `127.0.0.0/8` and `::1` are taken. */
  readonly host?: string | undefined
  /**
   * Names, or addresses, without port, that the server is asked by beside `localhost`, `127.0.0.1`, `[::1]` and `host`; of a proxy before it, say. A request
   * whose `Host` is another is answered 403. A server that is bound to more than loopback can be asked by any address (health checks of load balancers
   * do), and one that is bound to all addresses (`0.0.0.0`, `::`) by any name, unless names are given here: it has a token then, and no page knows that.
   * Default: none.
   */
  readonly hosts?: ReadonlyArray<string> | undefined
  /** Any of them lets in; 16 to 512 visible ASCII characters each. Default: none. */
  readonly tokens?: ReadonlyArray<Redacted.Redacted> | undefined
  /** Requests under way at one time (`/health/*` apart), each with a body of up to 1 MiB; beyond it the answer is 429. Default: 128. */
  readonly maxInFlight?: number | undefined
  /** What requests under way get to end in when the server stops. Default: 10 seconds. */
  readonly grace?: Duration.DurationInput | undefined
  /** Connections at one time; beyond it the oldest that has no answer to wait for is closed. Default: 1024. */
  readonly maxConnections?: number | undefined
  /**
   * Time for a request to arrive as a whole, at least 200 milliseconds; its head gets at most 10 seconds of it. A connection on which an answer isn't read on for
   * twice as long is closed. Default: 30 seconds.
   */
  readonly requestTimeout?: Duration.DurationInput | undefined
  /** Header that carries the correlation id; default: `X-Correlation-ID`. */
  readonly correlationHeader?: string | undefined
  /** What else `/health/ready` depends on, beside a database that takes events: a worker in the same process, say (`DeliveryWorker.ready`). Default: nothing. */
  readonly ready?: Effect.Effect<boolean> | undefined
}

/** What the API asks. */
export type Services = Deliveries | EndpointHealth | Endpoints | Outbox | OutboxSchema

/**
 * Serves until its scope closes: then it accepts nothing new, and ends when what is under way has been answered or `grace` is over.
 * A recovery that isn't through by then is gone on with by a worker.
 */
export const layer = (
  options: Options = {}
): Layer.Layer<ApiServer, ListenFailed | TokenRequired | UnusableHost | UnusableToken, Services> =>
  Layer.unwrapEffect(Effect.gen(function*() {
    const { correlationHeader = defaults.correlationHeader, host = "127.0.0.1", hosts = [], port = 3000, tokens = [] } =
      options
    if (tokens.length === 0 && !HostName.isLoopback(host)) return yield* new TokenRequired({ host })
    const wrong = tokens.findIndex((token) => !Access.isToken(token))
    if (wrong !== -1) return yield* new UnusableToken({ position: wrong + 1 })
    const unusable = hosts.findIndex((name) => !HostName.isHost(name))
    if (unusable !== -1) return yield* new UnusableHost({ position: unusable + 1 })
    // Made first, and cached by Api: a client must not refuse an answer for a member that a later version adds.
    OpenApi.fromApi(Api, { additionalPropertiesStrategy: "allow" })

    const gate = HttpApiBuilder.middleware(Effect.map(
      Gate.make({
        mayAsk: tokens.length === 0 ? () => undefined : Access.byToken(tokens),
        mayReach: Access.all(Access.byHost(host, hosts), ...(tokens.length === 0 ? [Access.byPage] : [])),
        maxInFlight: options.maxInFlight ?? 128,
        correlationHeader
      }),
      // HttpApi says of what it hands to a middleware that it never fails, and hands it all its failures.
      (gate): HttpApiBuilder.MiddlewareFn<never> => (app: HttpApp.Default) => gate(app)
    ))
    const server = Layer.scoped(
      ApiServer,
      Effect.gen(function*() {
        const app = yield* HttpApiBuilder.httpApp
        const bound = yield* Effect.mapError(
          Listening.listen(app, {
            host,
            port,
            grace: Duration.decode(options.grace ?? defaults.grace),
            maxConnections: options.maxConnections ?? 1024,
            requestTimeout: Duration.decode(options.requestTimeout ?? "30 seconds"),
            correlationHeader
          }),
          (reason) => new ListenFailed({ host, port, reason })
        )
        // A name may lead anywhere.
        if (tokens.length === 0 && !HostName.isLoopback(bound.address)) return yield* new TokenRequired({ host })
        return {
          url: `http://${bound.family === "IPv6" ? `[${bound.address}]` : bound.address}:${bound.port}`,
          host: bound.address,
          port: bound.port
        }
      })
    )
    return Layer.fresh(server.pipe(
      Layer.provide([HttpApiBuilder.api(Api), HttpApiSwagger.layer(), HttpApiBuilder.middlewareOpenApi(), gate]),
      Layer.provide(HttpApiBuilder.api(Api)),
      Layer.provide(Handlers.layer(options.ready ?? Effect.succeed(true))),
      Layer.provide([HttpApiBuilder.Router.Live, HttpApiBuilder.Middleware.layer, NodeHttpServer.layerContext])
    ))
  }))

/** Without a token the server is for this machine only. */
export class TokenRequired extends Schema.TaggedError<TokenRequired>("effect-webhooks/TokenRequired")("TokenRequired", {
  host: Schema.String
}) {
  override get message(): string {
    return `to listen on ${this.host} a token is needed: set WEBHOOKS_API_TOKEN, or listen on 127.0.0.1`
  }
}

/** A token can't be used; which, but not what it is. */
export class UnusableToken extends Schema.TaggedError<UnusableToken>("effect-webhooks/UnusableToken")("UnusableToken", {
  /** 1, 2, … */
  position: Schema.Number
}) {
  override get message(): string {
    return `WEBHOOKS_API_TOKEN: token ${this.position} must be 16 to 512 visible ASCII characters, such as \`openssl rand -hex 32\` gives`
  }
}

/** A name in `hosts` is none. */
export class UnusableHost extends Schema.TaggedError<UnusableHost>("effect-webhooks/UnusableHost")("UnusableHost", {
  /** 1, 2, … */
  position: Schema.Number
}) {
  override get message(): string {
    return `WEBHOOKS_API_HOSTS: name ${this.position} is not a host name (in ASCII) or an address; write it without scheme, port and path`
  }
}

/** The server can't listen. */
export class ListenFailed extends Schema.TaggedError<ListenFailed>("effect-webhooks/ListenFailed")("ListenFailed", {
  host: Schema.String,
  port: Schema.Number,
  reason: Schema.Literal("in-use", "not-permitted", "no-such-address", "other")
}) {
  override get message(): string {
    return `cannot listen on ${this.host}:${this.port}: ${reasons[this.reason]}`
  }
}

// --- internal

const reasons = {
  "in-use": "another program listens there already; choose another port",
  "not-permitted": "not permitted; ports below 1024 are the system's, choose another",
  "no-such-address": "this machine has no such address",
  other: "the system refuses"
}
