import { expect, it } from "vitest"
import * as EndpointLines from "../../src/cli/EndpointLines.js"
import type { Health } from "../../src/outbox/EndpointHealth.js"
import { Endpoint } from "../../src/webhooks/Endpoint.js"

const now = Date.UTC(2026, 0, 27, 12)

const endpoint = new Endpoint({
  id: "shop",
  url: "https://hooks.example.com/a?token=HUSHHUSH",
  events: ["*"],
  enabled: true,
  secrets: [],
  headers: {},
  timeout: undefined,
  maxConcurrency: undefined,
  rateLimit: undefined,
  ordered: false,
  format: "event",
  tenant: undefined,
  description: undefined
})

const healthy: Health = {
  id: "shop",
  circuit: "Closed",
  opensAgainAt: undefined,
  pausedUntil: undefined,
  disabled: undefined,
  consecutiveFailures: 0,
  firstFailureAt: undefined,
  lastFailureAt: undefined,
  lastSuccessAt: undefined,
  configured: true
}

const entry = (health: Partial<Health>, configured: Endpoint | undefined = endpoint) => ({
  health: { ...healthy, ...health },
  endpoint: configured,
  pending: undefined
})

it("tells what holds an endpoint's deliveries back the longest", () => {
  const disabled = { at: now - 60_000, by: "failing", reason: "nothing but failures" } as const
  const open = { circuit: "Open", opensAgainAt: now + 30_000 } as const
  const lines = [
    entry({}),
    entry({ circuit: "HalfOpen" }),
    entry(open),
    entry({ ...open, pausedUntil: now + 3_600_000 }),
    entry({ pausedUntil: now }),
    entry({ ...open, disabled }),
    { ...entry({}), endpoint: new Endpoint({ ...endpoint, enabled: false }) },
    { ...entry(open), endpoint: undefined },
    { ...entry({ disabled }), endpoint: undefined }
  ].map((one) => EndpointLines.endpointLine(one, now))
  expect(lines).toEqual([
    "shop  enabled",
    "shop  half-open  a probe is under way",
    "shop  open  probe 2026-01-27T12:00:30Z (in 30s)",
    "shop  paused  until 2026-01-27T13:00:00Z (in 1h)",
    "shop  enabled",
    "shop  disabled  by its failures 2026-01-27T11:59:00Z (1m ago): nothing but failures",
    "shop  disabled  by the configuration",
    "shop  orphaned  not configured here",
    "shop  disabled  by its failures 2026-01-27T11:59:00Z (1m ago): nothing but failures"
  ])
})

it("shows no query string", () => {
  const text = [
    JSON.stringify(EndpointLines.endpointJson(entry({}), now)),
    ...EndpointLines.endpointTable([entry({})], now)
  ]
  expect(text.join()).toContain("https://hooks.example.com/a")
  expect(text.join()).not.toContain("HUSH")
})
