/** What the design wants of which figure. */
import type { Target } from "./figures.js"

export const targets: Readonly<Record<string, Target>> = {
  "direct/effect-webhooks/cpu": { of: "ratio", most: 2 },
  "direct/effect-webhooks/rate": { of: "ratio", least: 6 },
  "breaker/effect-webhooks/call": { of: "value", most: 2 },
  "breaker/effect-webhooks/rejection": { of: "value", most: 3 },
  "breaker/effect-webhooks/failure": { of: "ratio", most: 1.2 },
  "startup/sign": { of: "ratio", most: 1.3 }
}
