/**
 * How `dispatch` shows what became of events: a line for a person, or a JSON object.
 */
import type { DeliveryReport } from "../webhooks/WebhookSender.js"
import { jsonText, visible } from "./Visible.js"

/** A result of `dispatch`. */
export type Result =
  | { readonly _tag: "Delivery"; readonly report: DeliveryReport }
  | { readonly _tag: "Unrouted"; readonly messageId: string; readonly eventType: string }
  | { readonly _tag: "Invalid"; readonly line: number; readonly error: string }

/** The result as one line, with its line feed. */
export const render = (result: Result, json: boolean): string =>
  json ? `${jsonText(toJson(result))}\n` : `${toText(result)}\n`

// --- internal

const toJson = (result: Result) => {
  switch (result._tag) {
    case "Delivery": {
      const {
        attempts,
        class: failureClass,
        correlationId,
        duration,
        endpointId,
        error,
        eventType,
        messageId,
        outcome,
        status,
        url
      } = result.report
      return {
        messageId,
        eventType,
        endpointId,
        url,
        outcome,
        class: failureClass,
        status,
        attempts,
        durationMs: Math.round(duration),
        correlationId,
        error: error?.message
      }
    }
    case "Unrouted":
      return { messageId: result.messageId, eventType: result.eventType, outcome: "unrouted" }
    case "Invalid":
      return { line: result.line, outcome: "invalid", error: result.error }
  }
}

const toText = (result: Result): string => {
  switch (result._tag) {
    case "Delivery": {
      const { attempts, class: failureClass, duration, endpointId, error, eventType, messageId, outcome, status, url } =
        result.report
      const how = [
        status === undefined ? failureClass : String(status),
        `${attempts} attempt${attempts === 1 ? "" : "s"}`,
        `${Math.round(duration)} ms`
      ].filter((text) => text !== undefined).join(", ")
      const why = error === undefined ? "" : `: ${error.message}`
      return `${outcome.padEnd(9)}  ${line(eventType, messageId, endpointId, url)}  ${how}${visible(why)}`
    }
    case "Unrouted":
      return `unrouted   ${line(result.eventType, result.messageId)}`
    case "Invalid":
      return `invalid    line ${result.line}: ${visible(result.error)}`
  }
}

const line = (...texts: ReadonlyArray<string>): string => texts.map((text) => visible(text)).join("  ")
