import { expect, it } from "vitest"
import * as DeliveryLines from "../../src/cli/DeliveryLines.js"
import type { Delivery } from "../../src/outbox/Deliveries.js"

const now = Date.UTC(2026, 0, 27, 12)

const pending: Delivery = {
  id: "dlv_1",
  messageId: "msg_a",
  endpointId: "shop",
  eventType: "OrderCreated",
  state: "pending",
  reason: undefined,
  attempts: 0,
  dueAt: now,
  leased: false,
  held: false,
  lastStatus: undefined,
  lastClass: undefined,
  createdAt: now,
  endedAt: undefined
}

it("tells of a delivery where it stands", () => {
  const lines = [
    pending,
    { ...pending, dueAt: now + 300_000 },
    { ...pending, held: true },
    { ...pending, dueAt: undefined, leased: true },
    { ...pending, state: "exhausted" as const, dueAt: undefined, reason: "crashed\u001b", endedAt: now - 7_200_000 }
  ].map((delivery) => DeliveryLines.deliveryLine(delivery, now))
  expect(lines).toEqual([
    "dlv_1  pending  due 2026-01-27T12:00:00Z (now)",
    "dlv_1  pending  due 2026-01-27T12:05:00Z (in 5m)",
    "dlv_1  pending  waits for an earlier one",
    "dlv_1  pending  being attempted",
    "dlv_1  exhausted (crashed\\u001b)  ended 2026-01-27T10:00:00Z (2h ago)"
  ])
})

it("shows attempts without their receivers' control characters", () => {
  const lines = DeliveryLines.deliveryDetails(pending, [{
    id: "att_1_1",
    deliveryId: "dlv_1",
    number: 1,
    startedAt: now,
    duration: 12,
    outcome: "failed",
    class: "http-status",
    status: 503,
    excerpt: "a\r\nb\u202e\u001b]0;c\u0007"
  }], now)
  expect(lines.at(-1)).toBe(
    "1        failed   503   12 ms  2026-01-27T12:00:00Z (now)  a\\r\\nb\\u202e\\u001b]0;c\\u0007"
  )
})
