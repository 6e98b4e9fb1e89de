/** What a worker sees of what is pending, and how often it looks at all of it. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as Looking from "../../src/outbox/internal/looking.js"
import type { Due } from "../../src/outbox/internal/planning.js"
import * as Scanning from "../../src/outbox/internal/scanning.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import { Endpoints } from "../../src/webhooks/Endpoints.js"
import { type Backend, backends, sqlite } from "../support/backends.js"
import { endpoints } from "../support/outboxing.js"
import { leave } from "../support/working.js"

const database = ({ layer }: Backend) =>
  Layer.orDie(Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), layer))

const named = (count: number) => Array.from({ length: count }, (_, n) => `e${n}`)

const sorted = (due: ReadonlyArray<Due>) => [...due].sort((one, other) => one.endpointId < other.endpointId ? -1 : 1)

describe.each(backends)("a scan on $name", (backend) => {
  it.effect("finds the earliest of each lane of however many endpoints, in parts", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      const lanes = ["first", "leased", "retry"] as const
      // Some with one lane, some with two, some with all; of each the later one first.
      const left = named(700).flatMap((endpoint, n) =>
        lanes.slice(n % 3).flatMap((lane) => [2, 1].map((at) => ({ endpoint, lane, dueAt: 10 * n + at })))
      )
      yield* leave(left)
      yield* store.sql`UPDATE ${store.tables.deliveries} SET held = 1 WHERE endpoint_id = 'e1'`
      yield* store.sql`UPDATE ${store.tables.deliveries} SET state = 'delivered' WHERE endpoint_id = 'e2'`
      const expected = named(700).flatMap((endpointId, n): ReadonlyArray<Due> => {
        const at = (lane: number) => lane < n % 3 ? undefined : 10 * n + 1
        return n === 1 || n === 2
          ? []
          : [{ endpointId, first: at(0), since: n % 3 === 0 ? 0 : undefined, leased: at(1), retry: at(2) }]
      })
      const seen = new Map<string, Due>()
      let parts = 0
      for (let from: Scanning.Cursor | undefined = { id: "", lane: "" }; from !== undefined; parts++) {
        const { due, next }: Effect.Effect.Success<ReturnType<typeof Scanning.scan>> = yield* Scanning.scan(store, from)
        for (const one of due) {
          const before = seen.get(one.endpointId)
          seen.set(
            one.endpointId,
            before === undefined ? one : { ...one, ...JSON.parse(JSON.stringify(before)) as Due }
          )
        }
        from = next
      }
      expect(parts).toBe(3)
      expect(sorted([...seen.values()])).toEqual(sorted(expected))
      const some = ["e0", "e1", "e2", "e3", "e4", "unknown"]
      expect(sorted(yield* Scanning.scanOf(store, some)))
        .toEqual(sorted(expected.filter(({ endpointId }) => some.includes(endpointId))))
    }).pipe(Effect.provide(database(backend))))
})

describe("a worker's look", () => {
  it.effect("is not at thousands of orphaned endpoints each time, and is at each that it serves", () =>
    Effect.gen(function*() {
      const real = yield* OutboxSchema.OutboxSchema
      let queries = 0
      // A database that takes ten milliseconds for each statement.
      const store: typeof real = {
        ...real,
        query: (effect) => {
          queries++
          return Effect.zipLeft(real.query(effect), TestClock.adjust("10 millis"))
        }
      }
      const see = Looking.make(store, yield* Endpoints, 0)
      const look = Effect.gen(function*() {
        queries = 0
        const { again, due, later } = yield* see(1000)
        return { due: due.map(({ endpoint }) => endpoint.id), later, again, queries }
      })
      yield* leave([
        ...named(1500).map((endpoint) => ({ endpoint, lane: "first" } as const)),
        { endpoint: "a", lane: "first" },
        { endpoint: "b", lane: "retry", dueAt: 5000 }
      ])
      // One that takes long may have been held up by something else.
      expect(yield* look).toEqual({ due: ["a"], later: 5000, again: 0, queries: 3 })
      expect(yield* look).toEqual({ due: ["a"], later: 5000, again: 120, queries: 3 })
      expect(yield* look).toEqual({ due: ["a"], later: 5000, again: 110, queries: 1 })
      // Nothing is left of it, and something came for another: that is seen when all may be looked at again.
      yield* real.sql`DELETE FROM ${real.tables.deliveries} WHERE endpoint_id = 'a'`
      yield* leave([{ endpoint: "c", lane: "first" }], "more_")
      expect(yield* look).toEqual({ due: [], later: 5000, again: 100, queries: 1 })
      expect(yield* look).toEqual({ due: [], later: 5000, again: 100, queries: 0 })
      yield* TestClock.adjust("100 millis")
      expect(yield* look).toEqual({ due: ["c"], later: 5000, again: 120, queries: 3 })
    }).pipe(Effect.provide(Layer.merge(database(sqlite), endpoints({ a: {}, b: {}, c: {} })))))

  it.effect("is at all each time where that is done at once", () =>
    Effect.gen(function*() {
      const see = Looking.make(yield* OutboxSchema.OutboxSchema, yield* Endpoints, 0)
      yield* leave([{ endpoint: "a", lane: "first" }])
      expect(yield* see(1000)).toMatchObject({ due: [{ endpoint: { id: "a" } }], again: 0 })
      yield* leave([{ endpoint: "b", lane: "first" }], "more_")
      expect((yield* see(1000)).due.map(({ endpoint }) => endpoint.id)).toEqual(["a", "b"])
    }).pipe(Effect.provide(Layer.merge(database(sqlite), endpoints({ a: {}, b: {} })))))
})
