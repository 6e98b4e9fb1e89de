/** The events of a soak, both ways, and what has become of them. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Schedule from "effect/Schedule"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import * as WebhookDispatcher from "../../src/webhooks/WebhookDispatcher.js"
import * as WebhookEvent from "../../src/webhooks/WebhookEvent.js"
import { event, hostile, steady, wanting, type Way } from "./agreed.js"

/** How much there was. */
interface Totals {
  /** Events that were committed, and their deliveries. */
  events: number
  deliveries: number
  /** Events that were rolled back. */
  rolledBack: number
  /** Deliveries that were delivered and whose retention has passed. */
  purged: number
  /** Events that were dispatched, and what became of their deliveries. */
  dispatched: number
  delivered: number
  failed: number
}

/** The traffic of the sender in context. `acknowledge` is told the message ids of events that must arrive. */
export const make = (
  acknowledge: (event: { readonly way: Way; readonly n: number; readonly id: string }) => void,
  complain: (problem: string) => void
) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const outbox = yield* Outbox.Outbox
    const deliveries = yield* Deliveries.Deliveries
    const health = yield* EndpointHealth.EndpointHealth
    const dispatcher = yield* WebhookDispatcher.WebhookDispatcher
    const dispatching = yield* FiberSet.make()
    const totals: Totals = {
      events: 0,
      deliveries: 0,
      rolledBack: 0,
      purged: 0,
      dispatched: 0,
      delivered: 0,
      failed: 0
    }
    let stored = 0
    let direct = 0

    const enqueue = (n: number) => Effect.flatMap(WebhookEvent.make(event("stored", n)), outbox.enqueue)

    // Not to be stopped half way: what has been committed must be told of.
    const store = Effect.uninterruptible(Effect.gen(function*() {
      const n = stored++
      if (n % 20 === 0) {
        const rolledBack = sql.withTransaction(Effect.zipRight(enqueue(n), Effect.fail("rolled back" as const)))
        yield* Effect.catchIf(rolledBack, (error) => error === "rolled back", () => Effect.void)
        totals.rolledBack++
        return
      }
      const { deliveries, messageId } = yield* enqueue(n)
      totals.events++
      totals.deliveries += deliveries
      acknowledge({ way: "stored", n, id: messageId })
    }))

    const dispatch = Effect.suspend(() => {
      const n = direct++
      return Effect.map(
        Effect.flatMap(WebhookEvent.make(event("direct", n)), dispatcher.dispatch),
        ({ deliveries, messageId }) => {
          acknowledge({ way: "direct", n, id: messageId })
          totals.dispatched++
          for (const { class: failure, endpointId, outcome } of deliveries) {
            if (outcome === "delivered") totals.delivered++
            else if (steady.includes(endpointId)) complain(`dispatch to ${endpointId}: ${outcome} ${failure}`)
            else totals.failed++
          }
          if (deliveries.length !== wanting("direct").length + hostile.length) {
            complain(`a dispatch reported ${deliveries.length} deliveries`)
          }
        }
      )
    })

    const purge = Effect.map(
      deliveries.purge({ delivered: "20 seconds", ended: Infinity }),
      ({ deliveries }) => {
        totals.purged += deliveries
      }
    )

    return {
      totals,
      /** Events at a steady rate, for ever. */
      run: Effect.all([
        Effect.repeat(store, Schedule.fixed("100 millis")),
        Effect.repeat(FiberSet.run(dispatching, dispatch), Schedule.fixed("2 seconds")),
        Effect.repeat(purge, Schedule.spaced("5 seconds"))
      ], { concurrency: "unbounded", discard: true }),
      /** Pending deliveries. */
      pending: Effect.map(deliveries.stats, ({ states }) => states.pending),
      /** After their URLs have changed: whatever the hostile endpoints were given up or paused for is over. */
      mend: Effect.forEach(hostile, (id) => health.enable(id), { discard: true }),
      /** Waits until everything has ended, what a receiver has put off until tomorrow included. */
      settle: Effect.gen(function*() {
        yield* FiberSet.awaitEmpty(dispatching)
        for (const endpoint of hostile) {
          let cursor: string | undefined
          do {
            const page = yield* deliveries.list({ endpoint, state: "pending" }, { limit: 1000, cursor })
            const far = page.items.filter(({ createdAt, dueAt = 0 }) => dueAt > createdAt + day / 2)
            yield* Effect.forEach(far, ({ id }) => deliveries.replay(id), { discard: true })
            cursor = page.next
          } while (cursor !== undefined)
        }
        yield* Effect.repeat(Effect.delay(deliveries.stats, "200 millis"), {
          until: ({ states }) => states.pending === 0
        })
      }),
      /** Deliveries that are stored, by kind of endpoint, state and reason; and what is wrong with that. */
      account: Effect.gen(function*() {
        const rows = yield* sql<
          { readonly kind: string; readonly state: string; readonly reason: string | null; readonly n: number }
        >`
          SELECT substr(endpoint_id, 1, instr(endpoint_id, '-') - 1) AS kind, state, reason, count(*) AS n
          FROM webhook_deliveries GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`
        const left = rows.reduce((sum, { n }) => sum + n, 0)
        const problems = rows.flatMap(({ kind, n, reason, state }) =>
          state === "delivered" || (kind === "hostile" && state === "exhausted" && reason !== null)
            ? []
            : [`${n} deliveries to ${kind} endpoints are ${state}${reason === null ? "" : ` (${reason})`}`]
        )
        if (totals.purged + left !== totals.deliveries) {
          problems.push(`${totals.deliveries} deliveries were stored, ${totals.purged} purged and ${left} are left`)
        }
        return {
          problems,
          text: rows.map(({ kind, n, reason, state }) => `${kind} ${reason ?? state} ${n}`).join(", ")
        }
      })
    }
  })

// --- internal

const day = 24 * 60 * 60 * 1000
