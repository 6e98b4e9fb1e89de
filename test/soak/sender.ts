/** What is under test: the library as a program has it, with both ways of an event, on an SQLite file and real sockets. */
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as EgressDispatcher from "../../src/http/EgressDispatcher.js"
import * as EgressPolicy from "../../src/http/EgressPolicy.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as DeliveryWorker from "../../src/outbox/DeliveryWorker.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import * as WebhookDispatcher from "../../src/webhooks/WebhookDispatcher.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import { policy } from "../support/hostile/trial.js"
import { hostile, secret, steady, wanting } from "./agreed.js"
import type { Ready } from "./misbehaving.js"

export type { AttemptReport } from "../../src/webhooks/WebhookSender.js"

/** Endpoints of which the hostile ones can be pointed elsewhere while the program runs, as a host's customers do it. */
export interface Directory {
  readonly service: Endpoints.Endpoints["Type"]
  /** URLs of the hostile endpoints, in their order, and the time that an attempt to them gets. */
  readonly point: (urls: ReadonlyArray<string>, timeout: string) => Effect.Effect<void>
}

/** The steady endpoints at their URLs, and no hostile ones yet. */
export const makeDirectory = (urls: Readonly<Record<string, string>>): Effect.Effect<Directory> =>
  Effect.gen(function*() {
    const fixed = yield* Effect.forEach(
      steady,
      (id) => make({ id, url: urls[id]!, events: wanting("direct").includes(id) ? ["soak.*"] : ["soak.stored"] })
    )
    let now = Endpoints.fromEndpoints(fixed)
    return {
      service: {
        matching: (event) => Effect.suspend(() => now.matching(event)),
        get: (id) => Effect.suspend(() => now.get(id)),
        list: Effect.suspend(() => now.list)
      },
      point: (urls, timeout) =>
        Effect.map(
          Effect.forEach(hostile, (id, index) => make({ id, url: urls[index]!, events: ["soak.*"], timeout })),
          (others) => {
            now = Endpoints.fromEndpoints([...fixed, ...others])
          }
        )
    }
  })

/** The layers of the program; faults that the library tells of go to `complain`. */
export const layer = (
  filename: string,
  { ca, nameServer }: Ready,
  directory: Directory,
  onAttempt: (attempt: WebhookSender.AttemptReport) => Effect.Effect<void>,
  complain: (problem: string) => void
) =>
  Layer.mergeAll(
    Outbox.layer(),
    WebhookDispatcher.layerWithoutEndpoints({ onAttempt }),
    DeliveryWorker.layer({
      schedule: ["0 seconds", "1 second", "2 seconds", "4 seconds"],
      breaker,
      grace: "2 seconds",
      retention: false
    })
  ).pipe(
    Layer.provideMerge(Layer.merge(Deliveries.layer, EndpointHealth.layer)),
    Layer.provide(WebhookSender.layer({ onAttempt })),
    Layer.provide(ResilientHttpClient.layer({ breaker, deadline: "30 seconds", retry: { baseDelay: "200 millis" } })),
    Layer.provide(Layer.succeed(Endpoints.Endpoints, directory.service)),
    Layer.provideMerge(OutboxSchema.layerMigrated()),
    Layer.provideMerge(SqliteClient.layer({ filename })),
    Layer.provide(EgressDispatcher.layerHttpClient({ ca, nameServers: [nameServer] })),
    Layer.provide(Layer.succeed(EgressPolicy.EgressPolicy, policy)),
    Layer.provide(listening(complain))
  )

// --- internal

const make = (input: Parameters<typeof Endpoint.make>[0]) =>
  Effect.orDie(Endpoint.make({ secret, ...input }, { policy }))

/** Shorter than by default, so that a hostile receiver sees more than its first few requests in its turn. */
const breaker = { breakDuration: () => Duration.seconds(1) }

/** What hostile receivers bring about; all else that is logged as a warning or worse, the library complains of itself. */
const usual = new Set([
  "delivery.exhausted",
  "egress_blocked",
  "endpoint.blocked",
  "endpoint.failing",
  "http_retry",
  "webhook_failed"
])

const listening = (complain: (problem: string) => void): Layer.Layer<never> =>
  Logger.replace(
    Logger.defaultLogger,
    Logger.make(({ annotations, cause, logLevel, message }) => {
      const [name] = Array.isArray(message) ? message : [message]
      if (LogLevel.lessThan(logLevel, LogLevel.Warning) || usual.has(String(name))) return
      const error = HashMap.get(annotations, "error")
      complain(`logged: ${String(name)} ${Option.getOrElse(error, () => "")} ${cause._tag === "Empty" ? "" : cause}`)
    })
  )
