/** What the design wants of which figure. */
import type { Target } from "./figures.js"

export const targets: Readonly<Record<string, Target>> = {
  "direct/effect-webhooks/cpu": { of: "ratio", most: 2 },
  "direct/effect-webhooks/rate": { of: "ratio", least: 6 },
  "breaker/effect-webhooks/call": { of: "value", most: 2 },
  "breaker/effect-webhooks/rejection": { of: "value", most: 3 },
  "breaker/effect-webhooks/failure": { of: "ratio", most: 1.2 },
  "outbox-sqlite/effect-webhooks/enqueue-batches": { of: "ratio", least: 0.7 },
  "outbox-sqlite/effect-webhooks/delivered": { of: "ratio", least: 0.6 },
  "outbox-postgres/effect-webhooks/enqueue-batches": { of: "ratio", least: 0.7 },
  "outbox-postgres/effect-webhooks/delivered": { of: "ratio", least: 0.6 },
  "latency/sqlite/at-50/effect-webhooks/p50": { of: "value", most: 3 },
  "latency/sqlite/at-50/effect-webhooks/p99": { of: "value", most: 10 },
  "latency/postgres/at-50/effect-webhooks/p50": { of: "value", most: 3 },
  "latency/postgres/at-50/effect-webhooks/p99": { of: "value", most: 10 },
  "isolation/with/p99": { of: "ratio", most: 1.2 },
  "backlog/sqlite/1000000/cpu": { of: "ratio", most: 1.2 },
  "backlog/sqlite/1000000/memory": { of: "value", most: 60 },
  "backlog/postgres/1000000/cpu": { of: "ratio", most: 1.2 },
  "backlog/postgres/1000000/memory": { of: "value", most: 60 },
  "timeouts/effect-webhooks": { of: "value", most: 5 },
  "startup/sign": { of: "ratio", most: 1.3 },
  "memory/1000000": { of: "ratio", most: 1.2 }
}
