import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import * as WebhookConfig from "../../src/webhooks/WebhookConfig.js"

const at = (name: string, fields?: Partial<Endpoint.EndpointDocument>): Endpoint.EndpointDocument => ({
  url: `https://${name}.example.com/`,
  id: name,
  ...fields
})

const layer = (document: WebhookConfig.Document) => Layer.provide(Endpoints.layer, WebhookConfig.layer(document))

const matching = (type: string, tenant?: string) =>
  Effect.flatMap(Endpoints.Endpoints, (endpoints) => endpoints.matching({ type, tenant })).pipe(
    Effect.map((found) => found.map((endpoint) => endpoint.id))
  )

describe("Endpoints", () => {
  it.effect("exact types, prefixes and everything, in the order of the configuration, each endpoint once", () =>
    Effect.gen(function*() {
      expect(yield* matching("invoice.paid")).toEqual(["all", "paid", "invoices"])
      expect(yield* matching("invoice.paid.late")).toEqual(["all", "invoices", "late", "many"])
      expect(yield* matching("invoice.paid.very.late")).toEqual(["all", "invoices", "late", "many"])
      expect(yield* matching("invoice.other")).toEqual(["all", "invoices", "many"])
      expect(yield* matching("order.placed")).toEqual(["all", "many"])
      for (const type of ["invoice", "invoice.", "invoices.paid", "Invoice.Paid", "paid", "order", "", ".", "..."]) {
        expect([type, yield* matching(type)]).toEqual([type, ["all"]])
      }
    }).pipe(Effect.provide(layer({
      "*": [at("all")],
      "invoice.paid": [at("paid")],
      "invoice.*": [at("invoices")],
      "invoice.paid.*": [at("late"), at("invoices")],
      "invoice.other": [at("many")],
      "order.placed": [at("many")],
      "invoice.paid.late": [at("many"), at("all")],
      "invoice.paid.very.late": [at("many")]
    }))))

  it.effect("a tenant's endpoint gets that tenant's events only", () =>
    Effect.gen(function*() {
      expect(yield* matching("a.b", "t1")).toEqual(["any", "one"])
      expect(yield* matching("a.b", "t2")).toEqual(["any", "two"])
      expect(yield* matching("a.b", "T1")).toEqual(["any"])
      expect(yield* matching("a.b")).toEqual(["any"])
      expect(yield* matching("c", "t1")).toEqual(["any", "one"])
      expect(yield* matching("c")).toEqual(["any"])
    }).pipe(Effect.provide(layer({
      "a.*": [at("any"), at("one", { tenant: "t1" })],
      "a.b": [at("two", { tenant: "t2" })],
      c: [at("any"), at("one", { tenant: "t1" })]
    }))))

  it.effect("a disabled endpoint gets nothing, but is known", () =>
    Effect.gen(function*() {
      expect(yield* matching("a")).toEqual(["on"])
      const endpoints = yield* Endpoints.Endpoints
      expect(Option.map(yield* endpoints.get("off"), (endpoint) => endpoint.enabled)).toEqual(Option.some(false))
      expect(Option.isSome(yield* endpoints.get("on"))).toBe(true)
      expect(yield* endpoints.get("none")).toEqual(Option.none())
      expect(yield* endpoints.get("__proto__")).toEqual(Option.none())
      expect((yield* endpoints.list).map(({ id }) => id)).toEqual(["on", "off"])
    }).pipe(Effect.provide(layer({ a: [at("on"), at("off", { enabled: false })] }))))

  it.effect("names of Object.prototype are ordinary event types", () =>
    Effect.gen(function*() {
      expect(yield* matching("toString")).toEqual(["a"])
      for (const type of ["constructor", "hasOwnProperty", "__proto__", "prototype", "constructor.x", "valueOf"]) {
        expect([type, yield* matching(type)]).toEqual([type, []])
      }
    }).pipe(Effect.provide(layer({ toString: [at("a")], "toString.*": [at("a")] }))))

  it.effect("no endpoints", () =>
    Effect.gen(function*() {
      expect(yield* matching("a.b")).toEqual([])
    }).pipe(Effect.provide(layer({}))))

  it.effect("a host's own list", () =>
    Effect.gen(function*() {
      const endpoint = yield* Endpoint.make({ url: "https://a.example.com/", id: "a", events: ["x"] })
      const second = yield* Endpoint.make({ url: "https://b.example.com/", id: "a", events: ["x", "*"] })
      const found = yield* Effect.provide(matching("x"), Endpoints.layerOf([endpoint, second]))
      expect(found).toEqual(["a", "a"])
      const first = yield* Effect.provide(
        Effect.flatMap(Endpoints.Endpoints, (endpoints) => endpoints.get("a")),
        Endpoints.layerOf([endpoint, second])
      )
      expect(first).toEqual(Option.some(endpoint))
      const all = yield* Effect.provide(
        Effect.flatMap(Endpoints.Endpoints, (endpoints) => endpoints.list),
        Endpoints.layerOf([endpoint, second])
      )
      expect(all).toEqual([endpoint])
    }))

  it.effect("a known type costs one look-up: the same list every time", () =>
    Effect.gen(function*() {
      const endpoints = yield* Endpoints.Endpoints
      const first = yield* endpoints.matching({ type: "invoice.paid" })
      expect(yield* endpoints.matching({ type: "invoice.paid" })).toBe(first)
    }).pipe(Effect.provide(layer({ "*": [at("all")], "invoice.paid": [at("paid")], "invoice.*": [at("some")] }))))
})
