/**
 * What a worker is made of.
 */
import type * as Duration from "effect/Duration"
import type { Endpoints } from "../../webhooks/Endpoints.js"
import type { WebhookSender } from "../../webhooks/WebhookSender.js"
import type { Deliveries } from "../Deliveries.js"
import type { EndpointHealth } from "../EndpointHealth.js"
import type * as Health from "./health.js"
import type { Store } from "./store.js"
import type { WorkerLock } from "./workerLock.js"

/** What the loop works with. */
export interface Parts {
  readonly store: Store
  readonly lock: WorkerLock
  readonly endpoints: Endpoints["Type"]
  readonly sender: WebhookSender["Type"]
  readonly deliveries: Deliveries["Type"]
  readonly health: EndpointHealth["Type"]
}

/** Times in milliseconds where they are numbers. */
export interface Settings {
  readonly concurrency: number
  readonly endpointConcurrency: number
  readonly claim: number
  readonly kept: number
  readonly poll: number
  readonly lease: number
  readonly grace: Duration.Duration
  readonly schedule: ReadonlyArray<number>
  readonly retention: { readonly delivered: Duration.DurationInput; readonly ended: Duration.DurationInput } | undefined
  readonly health: Health.Settings
}
