/**
 * The events a program commits reach other people's HTTP endpoints: signed, traced, retried, isolated from each other.
 */
/** Ids that tie what happens in several systems to one cause. */
export * as CorrelationId from "./CorrelationId.js"
/** Every default of the library. */
export { defaults } from "./Defaults.js"
/** The circuit breaker as a pure machine. */
export * as Circuit from "./http/Circuit.js"
/** Circuit breakers by key. */
export * as CircuitBreakers from "./http/CircuitBreakers.js"
/** The egress policy, enforced where connections are made. */
export * as EgressDispatcher from "./http/EgressDispatcher.js"
/** Which addresses may be reached. */
export * as EgressPolicy from "./http/EgressPolicy.js"
/** The HTTP client that survives its peers. */
export * as ResilientHttpClient from "./http/ResilientHttpClient.js"
/** A bound on the retries of one key. */
export * as RetryBudget from "./http/RetryBudget.js"
/** How often and when a failed attempt is made again. */
export * as RetryPolicy from "./http/RetryPolicy.js"
/** What went wrong below HTTP. */
export * as TransportFailure from "./http/TransportFailure.js"
/** Every metric by name. */
export * as Metrics from "./Metrics.js"
/** Looks into the outbox, and repairs. */
export * as Deliveries from "./outbox/Deliveries.js"
/** Sends what the outbox holds. */
export * as DeliveryWorker from "./outbox/DeliveryWorker.js"
/** How each endpoint is doing. */
export * as EndpointHealth from "./outbox/EndpointHealth.js"
/** Stores events for delivery. */
export * as Outbox from "./outbox/Outbox.js"
/** The outbox's tables. */
export * as OutboxSchema from "./outbox/Schema.js"
/** Where secrets and ids come from. */
export * as SecureRandom from "./SecureRandom.js"
/** One place that events are delivered to. */
export * as Endpoint from "./webhooks/Endpoint.js"
/** Which endpoints want an event. */
export * as Endpoints from "./webhooks/Endpoints.js"
/** An event with an id and encoded bytes. */
export * as Message from "./webhooks/Message.js"
/** What an attempt meant. */
export * as Outcome from "./webhooks/Outcome.js"
/** Endpoints from the environment or from code. */
export * as WebhookConfig from "./webhooks/WebhookConfig.js"
/** One event to every endpoint that wants it. */
export * as WebhookDispatcher from "./webhooks/WebhookDispatcher.js"
/** What happened. */
export * as WebhookEvent from "./webhooks/WebhookEvent.js"
/** One message to one endpoint. */
export * as WebhookSender from "./webhooks/WebhookSender.js"
/** Which messages a receiver has had. */
export * as WebhookReplays from "./webhooks/WebhookReplays.js"
/** Signing and verifying. */
export * as WebhookSignature from "./webhooks/WebhookSignature.js"
/** Verifying on the receiver's side. */
export * as WebhookVerifier from "./webhooks/WebhookVerifier.js"
