import { describe, expect, it } from "vitest"
import { type Arrival, check } from "./checker.js"

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const arrival = (id: string, endpoint = "a", body = `body of ${id}`): Arrival => ({ id, endpoint, body: bytes(body) })
const kinds = (run: Parameters<typeof check>[0]) => check(run).faults.map(({ kind, what }) => `${kind}: ${what}`)

const clean = {
  acknowledged: ["m1", "m2"],
  enqueued: ["m1", "m2", "m3"],
  endpoints: ["a", "b"],
  received: [arrival("m1"), arrival("m1", "b"), arrival("m2"), arrival("m2", "b")]
}

describe("checker", () => {
  it("passes a run in which every acknowledged message reached every endpoint", () => {
    expect(check(clean)).toMatchObject({ ok: true, faults: [], duplicates: 0 })
  })

  it("lets a message through whose acknowledgement got lost", () => {
    expect(check({ ...clean, received: [...clean.received, arrival("m3")] }).ok).toBe(true)
  })

  it("finds a message that is lost at one endpoint only", () => {
    expect(kinds({ ...clean, received: clean.received.slice(0, 3) })).toEqual(["lost: m2 never reached b"])
  })

  it("finds what nobody enqueued, what has no id, and what went where nothing was to go", () => {
    const strays = [arrival("m9"), { ...arrival("m1"), id: undefined }, arrival("m1", "c")]
    expect(kinds({ ...clean, received: [...clean.received, ...strays] })).toEqual([
      "invented: m9 at a",
      "invented: a request without webhook-id at a",
      "invented: m1 at c, where nothing was to go"
    ])
  })

  it("counts duplicates per endpoint against those that are allowed", () => {
    const received = [...clean.received, arrival("m1"), arrival("m2", "b")]
    expect(check({ ...clean, received, allowedDuplicates: 2 })).toMatchObject({ ok: true, duplicates: 2 })
    expect(kinds({ ...clean, received, allowedDuplicates: 1 })).toEqual(["too many duplicates: 2, and 1 are allowed"])
    expect(kinds({ ...clean, received })).toHaveLength(1)
  })

  it("finds a duplicate with other bytes, but lets two endpoints have different formats", () => {
    const formats = clean.received.map((each) =>
      each.endpoint === "b" ? { ...each, body: bytes("other format") } : each
    )
    expect(check({ ...clean, received: formats }).ok).toBe(true)
    expect(kinds({ ...clean, received: [...clean.received, arrival("m1", "a", "changed")], allowedDuplicates: 1 }))
      .toEqual(["differing bytes: m1 at a"])
  })

  it("finds one event under two ids", () => {
    const received = clean.received.map((each) => ({ ...each, event: "order 7" }))
    expect(kinds({ ...clean, received })).toContain("two ids: event order 7 as m1 and as m2")
  })

  it("says what happened in a few lines, however much was lost", () => {
    const acknowledged = Array.from({ length: 5000 }, (_, n) => `m${n}`)
    const { text } = check({ acknowledged, enqueued: acknowledged, endpoints: ["a"], received: [] })
    expect(text.split("\n")).toHaveLength(13)
    expect(text).toContain("5000 acknowledged of 5000 enqueued, 1 endpoints, 0 received, 0 duplicates of 0 allowed")
    expect(text).toContain("lost: 5000\n  m0 never reached a\n")
    expect(text).toContain("... and 4990 more")
  })
})
