/**
 * Rows of the deliveries and attempts tables as the values that the outside sees.
 */
import type { Fragment } from "@effect/sql/Statement"
import type { FailureClass, OutcomeName } from "../../webhooks/Outcome.js"
import type { Store } from "./store.js"

/**
 * `pending`: an attempt is to come or under way; `delivered`; `exhausted`: its schedule ended without success; `discarded`: it is not to be
 * sent, by the receiver's or an operator's word.
 */
export type State = "delivered" | "discarded" | "exhausted" | "pending"

export const states: ReadonlyArray<State> = ["pending", "delivered", "exhausted", "discarded"]

/** One message to one endpoint. All times in milliseconds since the epoch. */
export interface Delivery {
  /** `dlv_` and a number; a later delivery has a higher one. */
  readonly id: string
  readonly messageId: string
  readonly endpointId: string
  readonly eventType: string
  readonly state: State
  /** Why it is in this state, where that needs a word: `cancelled`, `disabled`, `crashed`, … */
  readonly reason: string | undefined
  /** Requests made so far. */
  readonly attempts: number
  /** When the next attempt is due; absent when it has ended or an attempt is under way. */
  readonly dueAt: number | undefined
  /** Whether a worker has it: an attempt is under way, or about to be. */
  readonly leased: boolean
  /** Whether it waits for an earlier one of its aggregate (endpoints with `ordered`). */
  readonly held: boolean
  /** Of the last attempt, if there was an answer. */
  readonly lastStatus: number | undefined
  /** Of the last attempt, unless it was a success. */
  readonly lastClass: FailureClass | undefined
  readonly createdAt: number
  readonly endedAt: number | undefined
}

/** One HTTP request of a delivery. */
export interface Attempt {
  /** `att_`, the delivery's number, `_` and the attempt's number. */
  readonly id: string
  readonly deliveryId: string
  /** 1, 2, … */
  readonly number: number
  /** Milliseconds since the epoch. */
  readonly startedAt: number
  /** Milliseconds. */
  readonly duration: number
  readonly outcome: OutcomeName
  readonly class: FailureClass | undefined
  readonly status: number | undefined
  /** The beginning of the answer's body, cleaned of the request's secrets; 1 000 characters at most. */
  readonly excerpt: string | undefined
}

/** PostgreSQL gives a bigint as text. */
type Numeric = number | string

export interface DeliveryRow {
  readonly id: Numeric
  readonly message_id: string
  readonly endpoint_id: string
  readonly event_type: string
  readonly order_key: string | null
  readonly state: string
  readonly reason: string | null
  readonly lane: string
  readonly held: Numeric
  readonly due_at: Numeric
  readonly attempts: Numeric
  readonly last_status: Numeric | null
  readonly last_class: string | null
  readonly created_at: Numeric
  readonly ended_at: Numeric | null
}

export interface AttemptRow {
  readonly delivery_id: Numeric
  readonly number: Numeric
  readonly started_at: Numeric
  readonly duration: Numeric
  readonly outcome: string
  readonly class: string | null
  readonly status: Numeric | null
  readonly excerpt: string | null
}

/** The columns of a `DeliveryRow`, of a table named `d`. */
export const columns = (store: Store): Fragment => store.sql.literal(names.map((name) => `d.${name}`).join(", "))

/** The same of the table that a statement writes; SQLite takes no other name for it there. */
export const returning = (store: Store): Fragment => store.sql.literal(`RETURNING ${names.join(", ")}`)

/** Whether a worker has the delivery at `now`. */
export const isLeased = (row: Pick<DeliveryRow, "due_at" | "lane" | "state">, now: number): boolean =>
  row.state === "pending" && row.lane === "leased" && Number(row.due_at) > now

export const toDelivery = (row: DeliveryRow, now: number): Delivery => {
  const pending = row.state === "pending"
  const leased = isLeased(row, now)
  return {
    id: deliveryId(row.id),
    messageId: row.message_id,
    endpointId: row.endpoint_id,
    eventType: row.event_type,
    state: row.state as State,
    reason: row.reason ?? undefined,
    attempts: Number(row.attempts),
    // Stored as 0 when it was due at once.
    dueAt: pending && !leased ? Math.max(Number(row.due_at), Number(row.created_at)) : undefined,
    leased,
    held: pending && Number(row.held) === 1,
    lastStatus: optional(row.last_status),
    lastClass: (row.last_class ?? undefined) as FailureClass | undefined,
    createdAt: Number(row.created_at),
    endedAt: optional(row.ended_at)
  }
}

export const toAttempt = (row: AttemptRow): Attempt => ({
  id: `att_${row.delivery_id}_${row.number}`,
  deliveryId: deliveryId(row.delivery_id),
  number: Number(row.number),
  startedAt: Number(row.started_at),
  duration: Number(row.duration),
  outcome: row.outcome as OutcomeName,
  class: (row.class ?? undefined) as FailureClass | undefined,
  status: optional(row.status),
  excerpt: row.excerpt ?? undefined
})

/** The id that the outside sees. */
export const deliveryId = (number: Numeric): string => `dlv_${number}`

/** The number in an id; `undefined` where it is not an id. */
export const parseDeliveryId = (id: string): number | undefined => {
  const number = /^dlv_([1-9]\d{0,15})$/.exec(id)?.[1]
  return number !== undefined && Number.isSafeInteger(Number(number)) ? Number(number) : undefined
}

// --- internal

const names: ReadonlyArray<keyof DeliveryRow> = [
  "id",
  "message_id",
  "endpoint_id",
  "event_type",
  "order_key",
  "state",
  "reason",
  "lane",
  "held",
  "due_at",
  "attempts",
  "last_status",
  "last_class",
  "created_at",
  "ended_at"
]

const optional = (value: Numeric | null): number | undefined => value === null ? undefined : Number(value)
