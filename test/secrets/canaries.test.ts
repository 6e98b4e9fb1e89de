/** The detector finds what it is to find: a test that looks for leaks is worth no more than this. */
import { inspect } from "node:util"
import { describe, expect, it } from "vitest"
import { bytes, canaries, find, word } from "./canaries.js"

const found = (text: string) => find([["here", text]]).map(({ canary }) => canary)

const key = bytes("whsec")
const raw = canaries["raw secret"]

describe("the detector", () => {
  it.each<[string, string]>([
    ["whole", `x ${raw} y`],
    ["its first 8 characters", `token=${raw.slice(0, 8)}…`],
    ["8 characters from its middle", `"${raw.slice(17, 25)}"`],
    ["its last 8 characters", raw.slice(-8)],
    ["in capitals", raw.toUpperCase()],
    ["with a line break in it", `${raw.slice(0, 20)}\n${raw.slice(20)}`],
    ["as hex", Buffer.from(raw).toString("hex")],
    ["8 bytes of it as hex", Buffer.from(raw).subarray(5, 13).toString("hex").toUpperCase()],
    ["in base64", Buffer.from(raw).toString("base64")],
    ["in base64 behind a byte", Buffer.from(`u${raw}`).toString("base64")],
    ["in base64 behind two bytes", Buffer.from(`u:${raw}`).toString("base64url")],
    ["percent-encoded", [...raw].map((one) => `%${one.charCodeAt(0).toString(16)}`).join("")],
    ["as JSON escapes", [...raw].map((one) => `\\u00${one.charCodeAt(0).toString(16)}`).join("")],
    ["in a buffer that is inspected", inspect({ buffer: Buffer.from(raw) })],
    ["in bytes that are inspected", inspect(new Uint8Array(Buffer.from(raw)))],
    ["in a buffer as JSON", JSON.stringify(Buffer.from(raw))],
    ["in the middle of a long text", `${"lorem ipsum ".repeat(1000)}${raw}${"dolor ".repeat(1000)}`]
  ])("finds a secret %s", (_, text) => {
    expect(found(text)).toEqual(["raw secret"])
  })

  it.each<[string, string]>([
    ["without its prefix", canaries["whsec_ secret"].slice(6)],
    ["as base64url", canaries["whsec_ secret"].slice(6).replaceAll("+", "-").replaceAll("/", "_")],
    ["decoded, as hex", key.toString("hex")],
    ["decoded, as bytes", inspect(key)],
    ["decoded, as text of bytes", key.toString("latin1")],
    ["encoded once more", Buffer.from(key.toString("hex")).toString()]
  ])("finds a key %s", (_, text) => {
    expect(found(text)).toEqual(["whsec_ secret"])
  })

  it("tells every secret apart, and where it was", () => {
    const texts = Object.entries(canaries).map(([name, value]) => [name, `a ${value} b`] as const)
    expect(find(texts).map(({ canary, where }) => [canary, where])).toEqual(
      Object.keys(canaries).map((name) => [name, name])
    )
  })

  it("takes nothing else for one", () => {
    const texts = [
      `${raw.slice(0, 7)} ${raw.slice(10, 17)}`,
      "whsec_ whsk_ Bearer Basic",
      word("another"),
      bytes("another").toString("hex"),
      "\ufffd".repeat(20),
      "0,0,0,0,0,0,0,0,0",
      JSON.stringify(process.versions)
    ]
    expect(texts.flatMap(found)).toEqual([])
  })
})
