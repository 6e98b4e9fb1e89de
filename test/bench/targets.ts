/** What the design wants of which figure. */
import type { Target } from "./figures.js"

export const targets: Readonly<Record<string, Target>> = {
  "direct/effect-webhooks/cpu": { of: "ratio", most: 2 },
  "direct/effect-webhooks/rate": { of: "ratio", least: 6 }
}
