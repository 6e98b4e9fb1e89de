/**
 * How deliveries, their attempts and messages are shown to a person; to a program they are shown as by the HTTP API.
 */
import type { Attempt, Delivery, StoredMessage } from "../outbox/Deliveries.js"
import { table } from "./Table.js"
import * as Times from "./Times.js"
import { visible } from "./Visible.js"

/** Deliveries as a table. */
export const deliveryTable = (deliveries: ReadonlyArray<Delivery>, now: number): ReadonlyArray<string> =>
  table(
    deliveries.map((delivery) => [
      delivery.id,
      stateOf(delivery),
      String(delivery.attempts),
      lastOf(delivery),
      whenOf(delivery, now),
      delivery.endpointId,
      delivery.eventType,
      delivery.messageId
    ]),
    ["ID", "STATE", "ATTEMPTS", "LAST", "WHEN", "ENDPOINT", "TYPE", "MESSAGE"]
  )

/** A delivery with its attempts. */
export const deliveryDetails = (
  delivery: Delivery,
  attempts: ReadonlyArray<Attempt>,
  now: number
): ReadonlyArray<string> => [
  ...fields({
    id: delivery.id,
    state: stateOf(delivery),
    when: whenOf(delivery, now),
    endpoint: delivery.endpointId,
    type: delivery.eventType,
    message: delivery.messageId,
    created: Times.shown(delivery.createdAt, now),
    attempts: String(delivery.attempts)
  }),
  ...section(table(
    attempts.map((attempt) => [
      String(attempt.number),
      attempt.outcome,
      answerOf(attempt.status, attempt.class),
      `${attempt.duration} ms`,
      Times.shown(attempt.startedAt, now),
      attempt.excerpt ?? ""
    ]),
    ["ATTEMPT", "OUTCOME", "LAST", "TOOK", "STARTED", "ANSWER"]
  ))
]

/** A message with its deliveries and what is sent. */
export const messageDetails = (message: StoredMessage, now: number): ReadonlyArray<string> => [
  ...fields({
    id: message.id,
    type: message.eventType,
    tenant: message.tenant,
    aggregate: message.aggregateId ?? undefined,
    occurred: message.occurredAt,
    stored: Times.shown(message.createdAt, now),
    "correlation id": message.correlationId,
    "idempotency key": message.idempotencyKey
  }),
  ...section(deliveryTable(message.deliveries, now)),
  ...[...message.bodies].flatMap(([format, bytes]) => {
    const text = decoder.decode(bytes)
    return ["", `payload (${format}, ${bytes.length} bytes):`, visible(text, text.length)]
  })
]

/** One line on what became of a delivery that was asked about. */
export const deliveryLine = (delivery: Delivery, now: number): string =>
  [delivery.id, stateOf(delivery), whenOf(delivery, now)].map((text) => visible(text)).join("  ").trimEnd()

// --- internal

const decoder = new TextDecoder()

const stateOf = (delivery: Delivery): string =>
  delivery.reason === undefined ? delivery.state : `${delivery.state} (${delivery.reason})`

const whenOf = ({ dueAt, endedAt, held, leased, state }: Delivery, now: number): string => {
  if (state !== "pending") return endedAt === undefined ? "" : `ended ${Times.shown(endedAt, now)}`
  if (leased) return "being attempted"
  if (held) return "waits for an earlier one"
  return dueAt === undefined ? "" : `due ${Times.shown(dueAt, now)}`
}

const lastOf = (delivery: Delivery): string => answerOf(delivery.lastStatus, delivery.lastClass)

const answerOf = (status: number | undefined, failureClass: string | undefined): string =>
  status === undefined ? failureClass ?? "-" : String(status)

const fields = (values: Readonly<Record<string, string | undefined>>): ReadonlyArray<string> =>
  table(Object.entries(values).flatMap(([name, value]) => value === undefined || value === "" ? [] : [[name, value]]))

const section = (lines: ReadonlyArray<string>): ReadonlyArray<string> => lines.length === 0 ? [] : ["", ...lines]
