/** The durable path of the library as a program has it, over a database of the benchmarks. */
import type * as SqlClient from "@effect/sql/SqlClient"
import {
  DeliveryWorker,
  EgressDispatcher,
  EgressPolicy,
  Endpoints,
  Outbox,
  OutboxSchema,
  ResilientHttpClient,
  WebhookConfig
} from "effect-webhooks"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { client } from "./databases.js"

export interface DurableSetup {
  readonly database: string
  /** URLs by id of the endpoint; each gets the events whose type is its id. */
  readonly endpoints: Readonly<Record<string, string>>
  /** Whether only errors are logged: failures that a benchmark brings about are warnings. */
  readonly quiet?: boolean
}

/** What is switched on while deliveries are made. */
export const layers: ReadonlyArray<string> = [
  "egress guard",
  "correlation id",
  "deadline",
  "slots",
  "attempt timeout",
  "both signatures",
  "circuit breaker and health of each endpoint, in its row",
  "leases, fences and their renewal",
  "attempts with status and duration",
  "metrics",
  "spans",
  "logs at warning"
]

/** The same where a benchmark makes failures, which are warnings. */
export const quietLayers: ReadonlyArray<string> = [...layers.slice(0, -1), "logs at error"]

/** The outbox, without a worker. */
export const outbox = (
  setup: DurableSetup
): ManagedRuntime.ManagedRuntime<Outbox.Outbox | SqlClient.SqlClient, never> =>
  ManagedRuntime.make(Layer.orDie(Layer.provideMerge(
    Outbox.layer(),
    Layer.merge(Layer.provideMerge(OutboxSchema.layer(), client(setup.database)), endpointsOf(setup))
  )))

/** The outbox with a worker, which begins as soon as the runtime is asked for anything. */
export const outboxWithWorker = (
  setup: DurableSetup
): ManagedRuntime.ManagedRuntime<Outbox.Outbox | SqlClient.SqlClient, never> => {
  const allow = Either.getOrThrow(EgressPolicy.parseRules(loopback))
  return ManagedRuntime.make(
    Layer.merge(DeliveryWorker.worker(), Outbox.layer()).pipe(
      Layer.provide(ResilientHttpClient.layer()),
      Layer.provide(EgressDispatcher.layerHttpClient()),
      Layer.provide(EgressPolicy.layer({ allow })),
      Layer.provideMerge(
        Layer.merge(Layer.provideMerge(OutboxSchema.layer(), client(setup.database)), endpointsOf(setup))
      ),
      Layer.provide(Logger.minimumLogLevel(setup.quiet === true ? LogLevel.Error : LogLevel.Warning)),
      Layer.orDie
    )
  )
}

// --- internal

const secret = "bench-secret-of-more-than-sixteen-bytes"

const loopback = "127.0.0.1"

const endpointsOf = (setup: DurableSetup): Layer.Layer<Endpoints.Endpoints, WebhookConfig.InvalidWebhookConfig> =>
  Layer.provide(
    Endpoints.layer,
    WebhookConfig.layer(
      Object.fromEntries(Object.entries(setup.endpoints).map(([id, url]) => [id, [{ id, url, secret }]])),
      { allow: loopback }
    )
  )
