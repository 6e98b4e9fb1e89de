/** Endpoints that never answer, among many that do: what the others get, by order and by the clock of the test. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { enqueue } from "../support/outboxing.js"
import { quiet } from "../support/recording.js"
import { calls, pass, working } from "../support/working.js"

const second = 1000
const healthy = Array.from({ length: 45 }, (_, n) => `e${n}`)
/** One that accepts and says nothing, and four whose names never resolve: to a client both are requests that don't end. */
const hanging = ["hang", "name1", "name2", "name3", "name4"]

describe("among fifty endpoints of which five never answer", () => {
  it.effect(
    "the others get every event in the second in which it is stored, and in their order",
    () =>
      Effect.gen(function*() {
        const ids: Array<string> = []
        // In half a minute the hanging ones take their slots, run into their timeouts and are cut off.
        for (let at = 0; at < 30; at += 2) {
          ids.push((yield* enqueue()).messageId)
          yield* pass("2 seconds")
          const seen = yield* calls()
          const now = seen.filter((call) => call.at === at * second && !hanging.includes(call.endpoint))
          expect(new Set(now.map(({ endpoint }) => endpoint)).size, `at ${at} s`).toBe(healthy.length)
          expect(now).toHaveLength(healthy.length)
        }
        const seen = yield* calls()
        for (const endpoint of healthy) {
          expect(seen.filter((call) => call.endpoint === endpoint).map(({ id }) => id)).toEqual(ids)
        }
        for (const endpoint of hanging) {
          const own = seen.filter((call) => call.endpoint === endpoint)
          expect(own.length).toBeGreaterThan(0)
          expect(own.every(({ at, endedAt }) => endedAt === undefined || endedAt - at === 10 * second)).toBe(true)
        }
      }).pipe(
        Effect.provide(working({
          endpoints: Object.fromEntries([...hanging, ...healthy].map((id) => [id, {}])),
          steps: Object.fromEntries(hanging.map((id) => [id, ["timeout"]]))
        })),
        quiet
      ),
    60_000
  )
})
