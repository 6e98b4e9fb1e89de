/**
 * For receivers: is this request one that the sender signed, just now, and for the first time? `verify` answers for a raw request,
 * `middleware` for an Effect HTTP server. The cryptography is `WebhookSignature`'s; here it meets the clock, request bodies and a
 * memory of what was already handled.
 *
 * ```ts
 * const router = HttpRouter.empty.pipe(
 *   HttpRouter.post(
 *     "/webhooks",
 *     Effect.gen(function*() {
 *       const webhook = yield* WebhookVerifier.CurrentWebhook
 *       const order = yield* webhook.json(OrderCreated)
 *       yield* fulfil(order)
 *       return HttpServerResponse.empty()
 *     }).pipe(WebhookVerifier.middleware)
 *   )
 * )
 * const VerifierLive = WebhookVerifier.layerConfig({
 *   secrets: Config.array(Config.redacted(), "WEBHOOKS_SECRETS"),
 *   replays: Config.succeed(WebhookReplays.makeMemory())
 * })
 * ```
 */
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as WebhookBody from "./WebhookBody.js"
import type { Replays } from "./WebhookReplays.js"
import * as WebhookSignature from "./WebhookSignature.js"

export { InvalidWebhookBody, type VerifiedBody, WebhookBodyTooLarge } from "./WebhookBody.js"

/** A request as it came in: the body's bytes untouched (text counts as its UTF-8 bytes), never parsed and written anew. */
export interface RawRequest {
  readonly headers: WebhookSignature.HeadersInput
  readonly body: Uint8Array | string
}

/** A request verified by the Standard Webhooks headers. */
export interface StandardWebhook extends WebhookBody.VerifiedBody {
  readonly form: "standard"
  /** The message's id: the same on every attempt, so a receiver can tell a repetition by it. */
  readonly id: string
  /** When this attempt was signed: seconds since the epoch. */
  readonly timestamp: number
}

/** A request verified by `X-Webhook-Signature` alone: whoever recorded it can send it again, and nothing but the body was signed. */
export interface BodyWebhook extends WebhookBody.VerifiedBody {
  readonly form: "body"
}

/** Verifies incoming webhooks. */
export class WebhookVerifier extends Context.Tag("effect-webhooks/WebhookVerifier")<WebhookVerifier, {
  /** Verifies a request by its Standard Webhooks headers; then, with a memory, that its id is new. */
  readonly verify: (
    request: RawRequest
  ) => Effect.Effect<StandardWebhook, WebhookSignature.VerificationFailed | WebhookReplayed>
  /**
   * As `verify`, and a request without Standard Webhooks headers may prove itself by `X-Webhook-Signature`. Only for senders that know
   * no other form: anyone who recorded such a request, or one that carries both forms, can send it again.
   */
  readonly verifyEither: (
    request: RawRequest
  ) => Effect.Effect<StandardWebhook | BodyWebhook, WebhookSignature.VerificationFailed | WebhookReplayed>
  /** Forgets an id that `verify` remembered, when the handling failed and the sender's next attempt is welcome. */
  readonly forget: (id: string) => Effect.Effect<void>
  /** The longest body that the middleware reads, in bytes. */
  readonly maxBodySize: number
}>() {}

/** The verified request that `middleware` hands to its handler. */
export class CurrentWebhook extends Context.Tag("effect-webhooks/WebhookVerifier/CurrentWebhook")<
  CurrentWebhook,
  StandardWebhook
>() {}

/** The verified request that `middlewareEither` hands to its handler. */
export class CurrentEitherWebhook extends Context.Tag("effect-webhooks/WebhookVerifier/CurrentEitherWebhook")<
  CurrentEitherWebhook,
  StandardWebhook | BodyWebhook
>() {}

/** What a verifier is made of. */
export interface Options {
  /** `whsec_…`, `whsk_…`, `whpk_…` or any other text (see `WebhookSignature`); any one of them suffices, so old ones stay until rotated out. */
  readonly secrets: ReadonlyArray<Redacted.Redacted<string>>
  /** How far a timestamp may lie from this clock, either way, inclusive; 5 minutes unless given. */
  readonly tolerance?: Duration.DurationInput | undefined
  /** The longest body that the middleware reads, in bytes; 1 MiB unless given. */
  readonly maxBodySize?: number | undefined
  /** Remembers ids, so that a message is handled once; nothing is remembered unless given. See `WebhookReplays`. */
  readonly replays?: Replays | Effect.Effect<Replays> | undefined
}

/** A verifier. Its keys are prepared here, once. No secret at all is `InvalidSecret` (`empty`) too; a weak one is logged as a warning. */
export const make = (
  options: Options
): Effect.Effect<Context.Tag.Service<WebhookVerifier>, WebhookSignature.InvalidSecret> =>
  Effect.gen(function*() {
    const keys = yield* parseSecrets(options.secrets)
    if (keys.some((key) => key.weak)) {
      yield* annotate(Effect.logWarning("webhook_secret_weak"))
    }
    const replays = Effect.isEffect(options.replays) ? yield* options.replays : options.replays

    const verify = (request: RawRequest) =>
      Effect.gen(function*() {
        const now = yield* Clock.currentTimeMillis
        const { id, timestamp } = yield* WebhookSignature.verify({
          ...request,
          keys,
          now,
          tolerance: options.tolerance
        })
        if (replays !== undefined && !(yield* replays.remember(id, timestamp))) {
          return yield* new WebhookReplayed({ id })
        }
        return { form: "standard", id, timestamp, ...WebhookBody.fromBytes(request.body) } as const
      })

    const verifyEither = (
      request: RawRequest
    ): Effect.Effect<StandardWebhook | BodyWebhook, WebhookSignature.VerificationFailed | WebhookReplayed> =>
      WebhookSignature.hasStandardSignature(request.headers)
        ? verify(request)
        : Effect.map(
          Effect.suspend(() => WebhookSignature.verifyBody({ ...request, keys })),
          () => ({ form: "body", ...WebhookBody.fromBytes(request.body) } as const)
        )

    return {
      verify: (request) => Effect.withSpan(verify(request), "WebhookVerifier.verify", span),
      verifyEither: (request) => Effect.withSpan(verifyEither(request), "WebhookVerifier.verifyEither", span),
      forget: (id) => replays === undefined ? Effect.void : replays.forget(id),
      maxBodySize: options.maxBodySize ?? 1_048_576
    }
  })

/** `make` as a layer. */
export const layer = (options: Options): Layer.Layer<WebhookVerifier, WebhookSignature.InvalidSecret> =>
  Layer.effect(WebhookVerifier, make(options))

/** `layer` from configuration: `layerConfig({ secrets: Config.array(Config.redacted(), "WEBHOOKS_SECRETS") })`. */
export const layerConfig = (
  options: Config.Config.Wrap<Options>
): Layer.Layer<WebhookVerifier, WebhookSignature.InvalidSecret | ConfigError.ConfigError> =>
  Layer.effect(WebhookVerifier, Effect.flatMap(Config.unwrap(options), make))

/**
 * Lets only verified requests through to the app, which finds the request in `CurrentWebhook`; its own `HttpServerRequest` can still be
 * asked for the body. The answers otherwise, none of which says more than its status:
 *
 * - 400: a header of the signature is missing or malformed, or the body broke off;
 * - 401: no signature matches, or the timestamp is outside the tolerance;
 * - 413: the body is longer than `maxBodySize`; it is read on, unkept, to four times that, so that the sender sees this answer;
 * - 200: an id that is remembered. A sender repeats what isn't answered with 2xx, so a repetition has to be;
 * - 425: an id whose first request is still being handled; the sender should ask again, since that one may yet fail.
 *
 * When the app fails, is interrupted or answers anything but 2xx, the id is forgotten and the sender's next attempt is handled.
 */
export const middleware = <E, R>(
  app: HttpApp.Default<E, R>
): HttpApp.Default<E, WebhookVerifier | Exclude<R, CurrentWebhook>> =>
  guard(app, CurrentWebhook, (verifier, request) => verifier.verify(request))

/**
 * As `middleware`, for senders that may only know `X-Webhook-Signature` (see `verifyEither` on what that gives up); the request is
 * found in `CurrentEitherWebhook`.
 */
export const middlewareEither = <E, R>(
  app: HttpApp.Default<E, R>
): HttpApp.Default<E, WebhookVerifier | Exclude<R, CurrentEitherWebhook>> =>
  guard(app, CurrentEitherWebhook, (verifier, request) => verifier.verifyEither(request))

/** A message that was handled before: answer it with 2xx, or the sender keeps repeating it. */
export class WebhookReplayed extends Schema.TaggedError<WebhookReplayed>()("WebhookReplayed", {
  id: Schema.String
}) {
  override get message(): string {
    return `message ${this.id} was received before; answer 2xx so that it is not sent again`
  }
}

// --- internal

const span = { captureStackTrace: false } as const

const annotate = Effect.annotateLogs({ package: "effect-webhooks", module: "WebhookVerifier" })

const parseSecrets = (
  secrets: ReadonlyArray<Redacted.Redacted<string>>
): Either.Either<ReadonlyArray<WebhookSignature.VerifyingKey>, WebhookSignature.InvalidSecret> =>
  secrets.length === 0
    ? Either.left(
      new WebhookSignature.InvalidSecret({ reason: "empty", detail: "is empty; give at least one", path: "secrets" })
    )
    : Either.all(
      secrets.map((secret, index) =>
        Either.mapLeft(
          WebhookSignature.parseVerifyingSecret(secret),
          ({ detail, reason }) => new WebhookSignature.InvalidSecret({ reason, detail, path: `secrets[${index}]` })
        )
      )
    )

const guard = <E, R, I, A extends StandardWebhook | BodyWebhook>(
  app: HttpApp.Default<E, R>,
  tag: Context.Tag<I, A>,
  verify: (
    verifier: Context.Tag.Service<WebhookVerifier>,
    request: RawRequest
  ) => Effect.Effect<A, WebhookSignature.VerificationFailed | WebhookReplayed>
): HttpApp.Default<E, WebhookVerifier | Exclude<R, I>> => {
  const handling = new Set<string>()
  return Effect.gen(function*() {
    const verifier = yield* WebhookVerifier
    const request = yield* HttpServerRequest.HttpServerRequest
    const read = yield* Effect.either(WebhookBody.read(request, verifier.maxBodySize))
    if (Either.isLeft(read)) return yield* refuse(read.left, handling)
    const body = read.right
    // Between remembering an id and running the handler nothing may interrupt, or the id would stay without having been handled.
    return yield* Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Effect.either(verify(verifier, { headers: request.headers, body })), (verified) => {
        if (Either.isLeft(verified)) return refuse(verified.left, handling)
        const webhook = verified.right
        const handled = restore(app).pipe(
          Effect.provideService(tag, webhook),
          Effect.provideService(HttpServerRequest.HttpServerRequest, WebhookBody.withBody(request, body))
        )
        if (webhook.form === "body") return handled
        handling.add(webhook.id)
        return Effect.onExit(handled, (exit) => {
          handling.delete(webhook.id)
          return Exit.isSuccess(exit) && exit.value.status >= 200 && exit.value.status < 300
            ? Effect.void
            : verifier.forget(webhook.id)
        })
      })
    )
  })
}

const refuse = (
  error:
    | WebhookSignature.VerificationFailed
    | WebhookReplayed
    | WebhookBody.WebhookBodyTooLarge
    | WebhookBody.InvalidWebhookBody,
  handling: ReadonlySet<string>
): Effect.Effect<HttpServerResponse.HttpServerResponse> => {
  if (error._tag === "WebhookReplayed") {
    return Effect.as(
      annotate(Effect.annotateLogs(Effect.logInfo("webhook_replayed"), "messageId", error.id)),
      HttpServerResponse.empty({ status: handling.has(error.id) ? 425 : 200 })
    )
  }
  const reason = error._tag === "WebhookBodyTooLarge" ? "too-large" : error.reason
  return Effect.as(
    annotate(Effect.annotateLogs(Effect.logWarning("webhook_refused"), "reason", reason)),
    HttpServerResponse.empty({ status: refusals[reason] })
  )
}

const refusals: Record<
  WebhookSignature.VerificationFailure | WebhookBody.InvalidWebhookBody["reason"] | "too-large",
  number
> = {
  "missing-header": 400,
  "bad-timestamp": 400,
  "too-old": 401,
  "too-new": 401,
  "no-match": 401,
  "too-large": 413,
  "unreadable": 400,
  "not-utf-8": 400,
  "not-json": 400,
  "schema": 400
}
