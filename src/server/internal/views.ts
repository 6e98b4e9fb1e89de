/** What the services know, as the API shows it. */
import * as DateTime from "effect/DateTime"
import type * as Deliveries from "../../outbox/Deliveries.js"
import type { Health } from "../../outbox/EndpointHealth.js"
import type { Enqueued } from "../../outbox/Outbox.js"
import * as Endpoint from "../../webhooks/Endpoint.js"
import type { DeliveryReport } from "../../webhooks/WebhookSender.js"
import type * as S from "../ApiSchemas.js"

/** What became of one event. */
export const enqueued = (one: Enqueued): typeof S.Enqueued.Type => ({
  messageId: one.messageId,
  duplicate: one.duplicate,
  deliveries: one.deliveries
})

/** One delivery. */
export const delivery = (one: Deliveries.Delivery): typeof S.Delivery.Type => ({
  id: one.id,
  messageId: one.messageId,
  endpointId: one.endpointId,
  eventType: one.eventType,
  state: one.state,
  reason: one.reason,
  attempts: one.attempts,
  dueAt: maybeTime(one.dueAt),
  leased: one.leased,
  held: one.held,
  lastStatus: one.lastStatus,
  lastClass: one.lastClass,
  createdAt: time(one.createdAt),
  endedAt: maybeTime(one.endedAt)
})

/** One attempt. */
export const attempt = (one: Deliveries.Attempt): typeof S.Attempt.Type => ({
  id: one.id,
  deliveryId: one.deliveryId,
  number: one.number,
  startedAt: time(one.startedAt),
  durationMs: Math.round(one.duration),
  outcome: one.outcome,
  class: one.class ?? undefined,
  status: one.status ?? undefined,
  excerpt: one.excerpt ?? undefined
})

/** A message, with the bodies that are stored. */
export const message = (one: Deliveries.StoredMessage): typeof S.Message.Type => ({
  id: one.id,
  eventType: one.eventType,
  tenant: one.tenant,
  aggregateId: one.aggregateId ?? undefined,
  occurredAt: one.occurredAt,
  correlationId: one.correlationId,
  idempotencyKey: one.idempotencyKey,
  createdAt: time(one.createdAt),
  deliveries: one.deliveries.map(delivery),
  bodies: Object.fromEntries([...one.bodies].map(([format, bytes]) => [format, decoder.decode(bytes)]))
})

/** An endpoint: what is remembered of it, and what is configured, if anything. */
export const endpoint = (health: Health, configured: Endpoint.EndpointFields | undefined): typeof S.Endpoint.Type => ({
  id: health.id,
  url: configured === undefined ? undefined : Endpoint.displayUrl(configured.url),
  configured: configured !== undefined,
  enabled: configured?.enabled === true && health.disabled === undefined,
  circuit: health.circuit,
  opensAgainAt: maybeTime(health.opensAgainAt),
  pausedUntil: maybeTime(health.pausedUntil),
  disabled: health.disabled === undefined
    ? undefined
    : { at: time(health.disabled.at), by: health.disabled.by, reason: health.disabled.reason },
  consecutiveFailures: health.consecutiveFailures,
  firstFailureAt: maybeTime(health.firstFailureAt),
  lastFailureAt: maybeTime(health.lastFailureAt),
  lastSuccessAt: maybeTime(health.lastSuccessAt)
})

/** How a test event fared. */
export const report = (one: DeliveryReport): typeof S.TestReport.Type => ({
  id: one.messageId,
  messageId: one.messageId,
  eventType: one.eventType,
  endpointId: one.endpointId,
  url: one.url,
  outcome: one.outcome,
  class: one.class,
  status: one.status,
  attempts: one.attempts,
  durationMs: Math.round(one.duration),
  correlationId: one.correlationId,
  error: one.error?.message,
  excerpt: one.excerpt
})

/** The counts. */
export const stats = (one: Deliveries.Stats): typeof S.Stats.Type => ({
  states: one.states,
  oldestDueAt: maybeTime(one.oldestDueAt),
  orphaned: one.orphaned,
  endpoints: one.endpoints.map(({ id, leased, oldestDueAt, orphaned, pending }) => ({
    id,
    pending,
    leased,
    oldestDueAt: maybeTime(oldestDueAt),
    orphaned
  }))
})

// --- internal

const decoder = new TextDecoder()

const time = (at: number): string => DateTime.formatIso(DateTime.unsafeMake(at))

const maybeTime = (at: number | undefined): string | undefined => at === undefined ? undefined : time(at)
