/** What the design wants of which figure. */
import type { Target } from "./figures.js"

export const targets: Readonly<Record<string, Target>> = {
  "direct/effect-webhooks/cpu": { of: "ratio", most: 2 },
  "direct/effect-webhooks/rate": { of: "ratio", least: 6 },
  "outbox-sqlite/effect-webhooks/enqueue-batches": { of: "ratio", least: 0.7 },
  "outbox-sqlite/effect-webhooks/delivered": { of: "ratio", least: 0.6 },
  "outbox-postgres/effect-webhooks/enqueue-batches": { of: "ratio", least: 0.7 },
  "outbox-postgres/effect-webhooks/delivered": { of: "ratio", least: 0.6 }
}
