/**
 * Sends what the outbox holds: claims what is due, makes one attempt each through `WebhookSender`, and writes down what came of it. Any number of workers share a
 * PostgreSQL; an SQLite file has one. What a worker that died had claimed is due again when its lease ends.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { defaults } from "../Defaults.js"
import * as DurationText from "../DurationText.js"
import * as Circuit from "../http/Circuit.js"
import type { ResilientHttpClient } from "../http/ResilientHttpClient.js"
import { Endpoints } from "../webhooks/Endpoints.js"
import * as WebhookSender from "../webhooks/WebhookSender.js"
import * as Deliveries from "./Deliveries.js"
import * as EndpointHealth from "./EndpointHealth.js"
import * as Listening from "./internal/listening.js"
import { disabling } from "./internal/settling.js"
import * as WorkerLock from "./internal/workerLock.js"
import * as Working from "./internal/working.js"
import type { OutboxUnavailable } from "./OutboxError.js"
import { OutboxSchema } from "./Schema.js"

export { WorkerAlreadyRunning } from "./internal/workerLock.js"

/** All optional; durations in any form that `Duration` reads. */
export interface Options {
  /** Requests in flight in this process; default 64. The client's own limits must not be lower. */
  readonly concurrency?: number | undefined
  /** Requests in flight to one endpoint that doesn't say; default 10. */
  readonly endpointConcurrency?: number | undefined
  /** Most deliveries in one claim; default 200. */
  readonly claim?: number | undefined
  /** Longest time between two looks for what is due; default 1 second. */
  readonly poll?: Duration.DurationInput | undefined
  /** How long a claim holds without being renewed, which is done at a third of this; default 60 seconds. */
  readonly lease?: Duration.DurationInput | undefined
  /** Time that attempts under way get to end when the program stops; default 10 seconds. What is left is handed back. */
  readonly grace?: Duration.DurationInput | undefined
  /** The wait before each attempt, the first included; default `defaults.durableSchedule`. Each is lengthened by up to a tenth. */
  readonly schedule?: ReadonlyArray<Duration.DurationInput> | undefined
  /** How long ended deliveries are kept: see `Deliveries.purge`, which the worker runs every hour. `undefined`: default; `false`: for ever. */
  readonly retention?:
    | false
    | { readonly delivered: Duration.DurationInput; readonly ended: Duration.DurationInput }
    | undefined
  /** The breaker of an endpoint, which the fleet shares; the same for all workers. */
  readonly breaker?: Circuit.Options | undefined
  /** Whether to hear at once what other processes enqueue (PostgreSQL); default true. Without it, `poll` decides. */
  readonly listen?: boolean | undefined
}

/** What a worker is doing. */
export class DeliveryWorker extends Context.Tag("effect-webhooks/DeliveryWorker")<DeliveryWorker, {
  /** Whether its last look at the database came back. */
  readonly ready: Effect.Effect<boolean>
  /** Deliveries that it has claimed and not settled yet. */
  readonly inFlight: Effect.Effect<number>
}>() {}

/** Starts a worker, which runs until the scope closes; then it claims nothing more, lets attempts end within `grace` and hands the rest back. */
export const make = (
  options: Options = {}
): Effect.Effect<
  DeliveryWorker["Type"],
  OutboxUnavailable | WorkerLock.WorkerAlreadyRunning,
  | Deliveries.Deliveries
  | EndpointHealth.EndpointHealth
  | Endpoints
  | OutboxSchema
  | Scope.Scope
  | WebhookSender.WebhookSender
> =>
  Effect.gen(function*() {
    const store = yield* OutboxSchema
    const lease = millis(options.lease ?? defaults.worker.lease)
    const poll = millis(options.poll ?? defaults.worker.poll)
    const lock = yield* WorkerLock.acquire(store, Math.max(lease, 3 * poll))
    const circuit = Circuit.settings(options.breaker)
    const concurrency = Math.max(1, options.concurrency ?? defaults.concurrency)
    const retention = options.retention ?? defaults.retention
    const working = yield* Working.make({
      store,
      lock,
      endpoints: yield* Endpoints,
      sender: yield* WebhookSender.WebhookSender,
      deliveries: yield* Deliveries.Deliveries,
      health: yield* EndpointHealth.EndpointHealth
    }, {
      concurrency,
      endpointConcurrency: Math.max(1, options.endpointConcurrency ?? defaults.keyConcurrency),
      claim: Math.max(1, options.claim ?? defaults.worker.claim),
      kept: Math.min(concurrency - 1, Math.floor(concurrency * defaults.worker.firstAttempts)),
      poll,
      lease,
      grace: Duration.decode(options.grace ?? defaults.grace),
      schedule: (options.schedule ?? defaults.durableSchedule).map(millis),
      retention: retention === false ? undefined : retention,
      health: { circuit, ...disabling }
    })
    if (options.listen ?? true) yield* Effect.forkScoped(Listening.listen(store))
    return working
  }).pipe(Effect.annotateLogs({ package: "effect-webhooks", module: "DeliveryWorker" }))

/** A worker with what it is doing as a service, over the parts that the program has. */
export const layer = (
  options: Options = {}
): Layer.Layer<
  DeliveryWorker,
  OutboxUnavailable | WorkerLock.WorkerAlreadyRunning,
  Deliveries.Deliveries | EndpointHealth.EndpointHealth | Endpoints | OutboxSchema | WebhookSender.WebhookSender
> => Layer.scoped(DeliveryWorker, make(options))

/**
 * A worker in the background, for a program that wants nothing of it but its work. It is built over `EndpointHealth.layer`: who provides that same value
 * elsewhere in the same build gets the same service, and reads the worker's operator events from its `events`; in another build they aren't seen.
 */
export const worker = (
  options: Options = {}
): Layer.Layer<
  never,
  OutboxUnavailable | WorkerLock.WorkerAlreadyRunning,
  Endpoints | OutboxSchema | ResilientHttpClient
> =>
  Layer.scopedDiscard(make(options)).pipe(
    Layer.provide(Layer.merge(Deliveries.layer, EndpointHealth.layer)),
    Layer.provide(WebhookSender.layer())
  )

// --- internal

const millis = (duration: Duration.DurationInput): number =>
  Duration.toMillis(Duration.min(Duration.decode(duration), DurationText.longest))
