/** How loud a worker tells of what fails. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import type * as testing from "../../src/webhooks/testing.js"
import { enqueue } from "../support/outboxing.js"
import { logs } from "../support/recording.js"
import { pass, states, working } from "../support/working.js"

const cases: ReadonlyArray<readonly [string, ReadonlyArray<testing.Step>, ReadonlyArray<readonly [string, string]>]> = [
  ["is retried, and then delivered", [503, 200], [["WARN", "webhook_failed"], ["INFO", "webhook_sent"]]],
  ["is retried, and then exhausted", [503, 404], [
    ["WARN", "webhook_failed"],
    ["WARN", "webhook_failed"],
    ["ERROR", "delivery.exhausted"]
  ]],
  ["is aborted by the receiver", [{ status: 400, headers: { "webhook-delivery": "abort-message" } }], [
    ["WARN", "webhook_failed"],
    ["ERROR", "webhook_discarded"]
  ]],
  ["takes its endpoint with it", [410], [
    ["WARN", "webhook_failed"],
    ["ERROR", "webhook_discarded"],
    ["ERROR", "endpoint.disabled"]
  ]]
]

it.effect.each(cases)("a delivery that %s: an error only when it has ended", ([, steps, expected]) => {
  const { layer, lines } = logs()
  return Effect.gen(function*() {
    yield* enqueue()
    yield* pass("1 minute")
    expect(lines.map(({ level, message }) => [level, message])).toEqual(expected)
    // Requests of the call, and those of the delivery before it: two numbers that don't contradict each other.
    const sent = lines.filter(({ message }) => message === "webhook_failed" || message === "webhook_sent")
    expect(sent.map(({ annotations: { attempt, attempts, attemptsBefore } }) => [attempt, attempts, attemptsBefore]))
      .toEqual(steps.map((_, n) => [undefined, 1, n]))
    for (const { annotations, message } of lines) {
      expect(annotations["endpointId"]).toBe("a")
      if (message !== "endpoint.disabled") expect(annotations["deliveryId"]).toBe("dlv_1")
    }
  }).pipe(
    Effect.provide(working({ steps: { a: steps }, worker: { schedule: ["0 seconds", "5 seconds"] } })),
    Effect.provide(layer)
  )
})

it.effect("a host's logger that fails where a settlement can't be written takes no slot with it", () => {
  const failing = Logger.make(({ message }) => {
    if (String(message).includes("webhook_lease_lost")) throw new Error("a fault of the logger")
  })
  return Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(
      `CREATE TRIGGER refused BEFORE UPDATE ON webhook_deliveries WHEN NEW.state = 'delivered' AND NEW.id = 1
        BEGIN SELECT RAISE(ABORT, 'no'); END`
    )
    yield* enqueue()
    yield* pass("1 second")
    expect(yield* states).toEqual(["pending"])
    for (let n = 0; n < 2; n++) {
      yield* enqueue()
      yield* pass("1 second")
    }
    expect(yield* states).toEqual(["pending", "delivered", "delivered"])
  }).pipe(
    Effect.provide(working({ worker: { concurrency: 1 } })),
    Effect.provide(Logger.replace(Logger.defaultLogger, failing))
  )
})
