import * as FastCheck from "fast-check"
import { describe, expect, it } from "vitest"
import * as EventReader from "../../src/cli/EventReader.js"

/** What a reader makes of a text, whole and byte by byte: it must be the same. */
const read = (input: string | Uint8Array): ReadonlyArray<string> => {
  const bytes = Buffer.from(input)
  const whole = show(EventReader.make(), [bytes])
  expect(show(EventReader.make(), Array.from(bytes, (byte) => Buffer.from([byte])))).toEqual(whole)
  expect(show(EventReader.make(), split(bytes, 7))).toEqual(whole)
  return whole
}

const show = (reader: EventReader.EventReader, chunks: ReadonlyArray<Uint8Array>): ReadonlyArray<string> =>
  [...chunks.flatMap((chunk) => reader.push(chunk)), ...reader.end()].map((item) =>
    item._tag === "Value" ? `${item.line} ${JSON.stringify(item.value)}` : `${item.line} ! ${item.error}`
  )

const split = (bytes: Uint8Array, size: number): ReadonlyArray<Uint8Array> =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) => bytes.subarray(n * size, (n + 1) * size))

describe("lines", () => {
  it("gives a value a line, without a last line feed, with CRLF and blank lines", () => {
    expect(read("{\"a\":1}\n{\"a\":2}\r\n\n  \t\n {\"a\":3} \n{\"a\":4}")).toEqual([
      "1 {\"a\":1}",
      "2 {\"a\":2}",
      "5 {\"a\":3}",
      "6 {\"a\":4}"
    ])
  })

  it.each(["", "\n", " \r\n\t\n "])("finds nothing in %j", (text) => {
    expect(read(text)).toEqual([])
  })

  it("reports a bad line and goes on", () => {
    expect(read("{\"a\":1}\nnope\n{\"a\" 2}\n{\"a\":3}\n")).toEqual([
      "1 {\"a\":1}",
      "2 ! not valid JSON",
      "3 ! not valid JSON (column 6)",
      "4 {\"a\":3}"
    ])
  })

  it("refuses what JSON.parse would silently alter, with its path", () => {
    const twice = "is given more than once; give each name once"
    const digits = "a whole number that loses digits beyond 2^53; send it as text"
    expect(read("{\"a\":[{\"b\":1},{\"b\":1,\"\\u0062\":\"}\"}]}\n{\n\"a\":1,\n\"a\":2\n}\n{\"a\":1}")).toEqual([
      `1 ! a[1].b: ${twice}`,
      `2 ! a: ${twice}`,
      "6 {\"a\":1}"
    ])
    expect(read("{\"a\":{\"b\":-9007199254740993}}\n{\"a\":[0,12345678901234567890]}")).toEqual([
      `1 ! a.b: ${digits}`,
      `2 ! a[1]: ${digits}`
    ])
    // The same number comes out again.
    expect(read("{\"a\":[9007199254740992,123456789012345680000,0.1,1e22],\"b\":{\"a\":\"\\\\\"}}")).toEqual([
      "1 {\"a\":[9007199254740992,123456789012345680000,0.1,1e+22],\"b\":{\"a\":\"\\\\\"}}"
    ])
  })

  it("reads an object over many lines, and objects one after another", () => {
    const pretty = JSON.stringify({ a: { b: ["}", "{\\\"", 1.5e3, null] } }, null, 2)
    expect(read(`${pretty}\n${pretty}\r\n{"c":1}\n${pretty}`)).toEqual([
      "1 {\"a\":{\"b\":[\"}\",\"{\\\\\\\"\",1500,null]}}",
      "11 {\"a\":{\"b\":[\"}\",\"{\\\\\\\"\",1500,null]}}",
      "21 {\"c\":1}",
      "22 {\"a\":{\"b\":[\"}\",\"{\\\\\\\"\",1500,null]}}"
    ])
  })

  it("loses no line behind one that was cut off", () => {
    expect(read("{\"a\":1}\n{\"a\":{\"b\":\n{\"a\":2}\n{\"a\":3}\n")).toEqual([
      "1 {\"a\":1}",
      "2 ! not valid JSON",
      "3 {\"a\":2}",
      "4 {\"a\":3}"
    ])
    expect(read("{\"a\":[\n{\"a\":2}\n")).toEqual(["1 ! not valid JSON", "2 {\"a\":2}"])
    expect(read("{\"a\":\"x\n{\"a\":2}\n")).toEqual(["1 ! not valid JSON (column 8)", "2 {\"a\":2}"])
  })

  it("reports a last line that was cut off, and an object, once", () => {
    expect(read("{\"a\":1}\n{\"a\":{\"b")).toEqual(["1 {\"a\":1}", "2 ! not valid JSON (column 9)"])
    expect(read("{\"a\":1}\n{\"a\":{\"b\":1")).toEqual(["1 {\"a\":1}", "2 ! not valid JSON: it ends too early"])
    expect(read("{\n  \"a\": 1,\n  \"b\": [\n    2\n")).toEqual(["1 ! not valid JSON: it ends too early"])
  })

  it("reports two values on a line", () => {
    expect(read("{\"a\":1}{\"a\":2}\n{\"a\":3}")).toEqual(["1 ! not valid JSON (column 8)", "2 {\"a\":3}"])
  })

  it("reports bytes that are not UTF-8", () => {
    const bytes = Buffer.concat([
      Buffer.from("{\"a\":\""),
      Buffer.from([0xff, 0xc3]),
      Buffer.from("\"}\n{\"a\":\"é\"}\n")
    ])
    expect(read(bytes)).toEqual(["1 ! not valid UTF-8", "2 {\"a\":\"é\"}"])
  })

  it("refuses a byte order mark and reads on", () => {
    const [first, ...rest] = read("\uFEFF{\"a\":1}\n{\"a\":2}\n")
    expect(first).toMatch(/^1 ! the input begins with a byte order mark; .* without one$/)
    expect(rest).toEqual(["2 {\"a\":2}"])
    expect(read("\uFEFF")).toEqual([first])
    expect(read("\uFEFF[{\"a\":1}]")).toEqual([first])
    expect(read(Buffer.from([0xef, 0xbb]))).toEqual(["1 ! not valid UTF-8"])
  })

  it("skips a line over 1 MiB and takes one of just 1 MiB", () => {
    const long = (length: number) => `{"a":"${"x".repeat(length - 8)}"}`
    const items = show(
      EventReader.make(),
      split(Buffer.from(`${long(1_048_577)}\n${long(1_048_576)}\n{"a":3}`), 65_536)
    )
    expect(items.map((item) => item.slice(0, 24))).toEqual([
      "1 ! longer than 1 MiB",
      "2 {\"a\":\"xxxxxxxxxxxxxxxx",
      "3 {\"a\":3}"
    ])
  })

  it("follows an object of many lines that is over 1 MiB to its end", () => {
    const line = `"${"x".repeat(999)}",\n`
    expect(show(EventReader.make(), [Buffer.from(`{"a":[\n${line.repeat(1200)}1]}\n{"a":2}\n`)])).toEqual([
      "1 ! longer than 1 MiB",
      "1203 {\"a\":2}"
    ])
  })
})

describe("arrays", () => {
  it("gives the elements with the lines on which they begin", () => {
    expect(read(" \n[{\"a\":\"],[{\\\"\"},\n  {\"a\":\n[2]}\n,{}]\n")).toEqual([
      "2 {\"a\":\"],[{\\\"\"}",
      "3 {\"a\":[2]}",
      "5 {}"
    ])
  })

  it.each(["[]", "[ \n ]\n"])("finds nothing in %j", (text) => {
    expect(read(text)).toEqual([])
  })

  it("reports a broken element and goes on with the next", () => {
    expect(read("[{\"a\" 1},\n{\"a\":2}]")).toEqual([
      "1 ! not valid JSON; what follows it on its line was not read",
      "2 {\"a\":2}"
    ])
    expect(read("[\n  {\"a\": tru},\n  {\"a\":2},\n  {\n    \"a\": \"x\n  },\n  {\"a\":3}\n]")).toEqual([
      "2 ! not valid JSON",
      "3 {\"a\":2}",
      "4 ! not valid JSON; what follows it on its line was not read",
      "7 {\"a\":3}"
    ])
  })

  it("loses no element behind one that isn't closed", () => {
    expect(read("[\n{\"a\":{\"b\":1},\n{\"a\":2},\n{\"a\":3}\n]")).toEqual([
      "2 ! not valid JSON; what follows it on its line was not read",
      "3 {\"a\":2}",
      "4 {\"a\":3}"
    ])
  })

  it("reports what isn't an object, missing commas and elements", () => {
    expect(read("[1, null,{\"a\":1} {\"a\":2},,{\"a\":3},]")).toEqual([
      "1 ! must be a JSON object",
      "1 ! must be a JSON object",
      "1 {\"a\":1}",
      "1 ! a comma is missing between two elements",
      "1 {\"a\":2}",
      "1 ! an element is missing before the comma",
      "1 {\"a\":3}",
      "1 ! an element is missing after the last comma"
    ])
  })

  it("reports an array that was cut off, and text behind one", () => {
    expect(read("[{\"a\":1},\n{\"a\":")).toEqual([
      "1 {\"a\":1}",
      "2 ! not valid JSON: the input ends inside this element"
    ])
    expect(read("[{\"a\":1}\n")).toEqual(["1 {\"a\":1}", "2 ! the array isn't closed: the input ends too early"])
    expect(read("[{\"a\":1}]\n[{\"a\":2}]")).toEqual([
      "1 {\"a\":1}",
      "2 ! text after the end of the array; it was not read"
    ])
  })

  it("skips an element over 1 MiB", () => {
    const text = `[{"a":"${"x".repeat(1_048_577)}"},\n{"a":2}]`
    expect(show(EventReader.make(), split(Buffer.from(text), 65_536))).toEqual(["1 ! longer than 1 MiB", "2 {\"a\":2}"])
  })

  it("bounds the nesting that it follows", () => {
    const text = `[${"[".repeat(100_000)}${"]".repeat(100_000)},\n{"a":1}]`
    expect(show(EventReader.make(), [Buffer.from(text)])[0]).toMatch(/^1 ! not valid JSON/)
  })
})

describe("any values", () => {
  const objects = FastCheck.array(FastCheck.dictionary(FastCheck.string(), FastCheck.jsonValue()), {
    minLength: 1,
    maxLength: 5
  })
  const renderings: ReadonlyArray<(values: ReadonlyArray<unknown>) => string> = [
    (values) => values.map((value) => JSON.stringify(value)).join("\n"),
    (values) => values.map((value) => JSON.stringify(value, null, 1)).join("\r\n"),
    (values) => JSON.stringify(values),
    (values) => JSON.stringify(values, null, "\t"),
    (values) => `[${values.map((value) => JSON.stringify(value)).join(",\n")}]`
  ]

  it("come back, however they are written and cut into pieces", () => {
    FastCheck.assert(
      FastCheck.property(objects, FastCheck.nat(4), FastCheck.integer({ min: 1, max: 40 }), (values, how, size) => {
        const reader = EventReader.make()
        const items = [...split(Buffer.from(renderings[how]!(values)), size).flatMap(reader.push), ...reader.end()]
        expect(items.map((item) => item._tag === "Value" ? item.value : item.error))
          .toEqual(values.map((value) => JSON.parse(JSON.stringify(value))))
      }),
      { numRuns: 500 }
    )
  })
})
