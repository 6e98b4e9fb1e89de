import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { describe, expect, it } from "vitest"
import * as EventReader from "../../src/cli/EventReader.js"
import * as JsonText from "../../src/cli/JsonText.js"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

/** Bytes in use, garbage apart. */
const inUse = (): number => {
  collect()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return arrayBuffers + heapUsed
}

const mebibytes = (n: number) => n * 1_048_576

/** What a reader says of a text that comes over and over between two others, and the most memory that it held meanwhile. */
const readLarge = (head: string, piece: string, times: number, tail: string) => {
  const reader = EventReader.make()
  const bytes = Buffer.from(piece)
  const errors: Array<string> = []
  const values: Array<unknown> = []
  const take = (items: ReadonlyArray<JsonText.Item>) => {
    for (const item of items) {
      if (item._tag === "Value") values.push(item.value)
      else errors.push(item.error)
    }
  }
  const before = inUse()
  let most = 0
  take(reader.push(Buffer.from(head)))
  for (let i = 0; i < times; i++) {
    take(reader.push(bytes))
    if (i % Math.ceil(times / 4) === 0) most = Math.max(most, inUse() - before)
  }
  take(reader.push(Buffer.from(tail)))
  take(reader.end())
  return { errors, values, most }
}

describe("a document that is far too large", () => {
  it("on one line (100 MB) is refused in bounded memory, and the next line is read", () => {
    const { errors, most, values } = readLarge("{\"a\":\"", "x".repeat(65_536), 1600, "\"}\n{\"b\":1}\n")
    expect({ errors, values }).toEqual({ errors: ["longer than 1 MiB"], values: [{ b: 1 }] })
    expect(most).toBeLessThan(mebibytes(8))
  })

  it("over many lines (10 MB), too", () => {
    const { errors, most, values } = readLarge("{\"a\":[\n", `${"1,".repeat(32_767)}\n`, 160, "1]}\n{\"b\":1}\n")
    expect({ errors, values }).toEqual({ errors: ["longer than 1 MiB"], values: [{ b: 1 }] })
    expect(most).toBeLessThan(mebibytes(8))
  })

  it("as an element of an array (10 MB), too", () => {
    const { errors, most, values } = readLarge("[{\"a\":\"", "x".repeat(65_536), 160, "\"},\n{\"b\":1}]")
    expect({ errors, values }).toEqual({ errors: ["longer than 1 MiB"], values: [{ b: 1 }] })
    expect(most).toBeLessThan(mebibytes(8))
  })

  it("and one that is just as long as is allowed, byte by byte, costs little more than its bytes", () => {
    const buffer = JsonText.makeBuffer()
    const before = inUse()
    for (let i = 0; i < JsonText.maxBytes; i++) buffer.add(new Uint8Array([120]))
    expect(inUse() - before).toBeLessThan(mebibytes(4))
    expect(buffer.overflowed()).toBe(false)
    expect(Buffer.from(buffer.take()).equals(Buffer.alloc(JsonText.maxBytes, "x"))).toBe(true)
    buffer.add(new Uint8Array(1))
    expect(buffer.overflowed()).toBe(true)
  })
})

describe("a buffer", () => {
  it("doesn't write into what it was given, nor into what it gave", () => {
    const buffer = JsonText.makeBuffer()
    const whole = Buffer.from("abcdef")
    buffer.add(whole.subarray(0, 2))
    buffer.add(Buffer.from("XY"))
    const first = buffer.take()
    buffer.clear()
    buffer.add(Buffer.from("1"))
    buffer.add(Buffer.from("2"))
    expect([whole.toString(), Buffer.from(first).toString(), Buffer.from(buffer.take()).toString()])
      .toEqual(["abcdef", "abXY", "12"])
  })
})

describe("a value", () => {
  const parse = (text: string) => JsonText.parse(Buffer.from(text), 1)
  const nested = (levels: number) => `{"data":${"[".repeat(levels - 1)}${"]".repeat(levels - 1)}}`

  it.each([
    ["a thousand brackets", nested(1002)],
    ["half a million", nested(500_000)],
    ["that aren't closed", `{"data":${"[".repeat(1_000_000)}`],
    ["objects", `${"{\"a\":".repeat(100_000)}1${"}".repeat(100_000)}`]
  ])("that is nested too deeply is refused: %s", (_, text) => {
    expect(parse(text)).toEqual({ _tag: "Invalid", line: 1, error: "nested deeper than 1000 levels" })
    const reader = EventReader.make()
    const items = [...reader.push(Buffer.from(`${text}\n{"b":1}\n`)), ...reader.end()]
    expect(items.at(-1)).toEqual({ _tag: "Value", line: 2, value: { b: 1 } })
    expect(items).toHaveLength(2)
  })

  it("may be as deep as an event", () => {
    expect(parse(nested(1001))._tag).toBe("Value")
    expect(parse(`{"data":"${"[".repeat(5000)}"}`)._tag).toBe("Value")
  })

  it("reaches no prototype", () => {
    for (const name of ["__proto__", "constructor", "prototype", "toString"]) {
      const item = parse(`{"data":{"${name}":{"polluted":true}},"${name}":{"polluted":true}}`)
      expect(item._tag).toBe("Value")
      const value = item._tag === "Value" ? item.value as object : {}
      expect(Object.keys(value)).toEqual(["data", name])
      expect(Object.getPrototypeOf(value)).toBe(Object.prototype)
      expect(Object.hasOwn(value, name)).toBe(true)
    }
    expect(Reflect.get({}, "polluted")).toBeUndefined()
    expect(parse("{\"__proto__\":1,\"__proto__\":2}")).toMatchObject({ _tag: "Invalid" })
    expect(parse("{\"__proto__\":1,\"\\u005f_proto__\":2}")).toMatchObject({ _tag: "Invalid" })
  })
})
