/**
 * The elements of a JSON array, one by one as their bytes come. A broken element is reported; the next that can be told apart is the
 * one that begins a line at the same indentation.
 */
import * as JsonScanner from "./JsonScanner.js"
import * as JsonText from "./JsonText.js"

/** A reader whose input begins with the array's `[`, on the given line. */
export const make = (firstLine: number): JsonText.Reader => {
  let line = firstLine
  let column = 0
  // Nothing but white space so far on this line.
  let fresh = false
  let items: Array<JsonText.Item> = []
  let state: State = "open"
  let element = { line, column }
  let scanner = JsonScanner.make()
  const bytes = JsonText.makeBuffer()
  // The bytes at hand: `from` is where the element under way begins in them.
  let chunk: Uint8Array = new Uint8Array(0)
  let at = 0
  let from = 0

  const report = (error: string, where = line) => items.push(JsonText.invalid(where, error))

  const begin = (byte: number): void => {
    element = { line, column }
    if (byte !== openBrace && byte !== openBracket && byte !== quote) {
      state = "junk"
      return
    }
    scanner = JsonScanner.make()
    scanner.step(byte)
    from = at
    state = "element"
  }

  const complete = () => {
    bytes.add(chunk.subarray(from, at + 1))
    if (bytes.overflowed()) report(JsonText.tooLong, element.line)
    else items.push(JsonText.parse(bytes.take(), element.line))
    bytes.clear()
    state = "after"
  }

  const broken = () => {
    report(`${JsonText.notJson}; ${resumes}`, element.line)
    bytes.clear()
    state = "broken"
  }

  const between = (byte: number): void => {
    if (byte === closeBracket) {
      if (state === "next") report("an element is missing after the last comma")
      state = "done"
    } else if (byte === comma) {
      if (state === "after") state = "next"
      else report("an element is missing before the comma")
    } else {
      if (state === "after") report("a comma is missing between two elements")
      begin(byte)
    }
  }

  // A new line tells where the next element is, or the end.
  const resume = (byte: number): void => {
    if (!fresh || column > element.column) return
    if (byte === openBrace) begin(byte)
    else if (byte === closeBracket) state = "done"
    else if (byte === closeBrace) state = "after"
    else if (byte === comma) state = "next"
  }

  const step = (byte: number): void => {
    switch (state) {
      case "open":
        state = "first"
        return
      case "element": {
        const step = scanner.step(byte)
        if (step === "complete") complete()
        else if (step === "broken") {
          broken()
          if (!JsonScanner.isSpace(byte)) resume(byte)
        }
        return
      }
      case "junk":
        if (byte !== comma && byte !== closeBracket) return
        report("must be a JSON object", element.line)
        state = "after"
        return between(byte)
      case "broken":
        return JsonScanner.isSpace(byte) ? undefined : resume(byte)
      case "done":
        if (JsonScanner.isSpace(byte)) return
        report("text after the end of the array; it was not read")
        state = "ignored"
        return
      case "ignored":
        return
      default:
        return JsonScanner.isSpace(byte) ? undefined : between(byte)
    }
  }

  const push = (input: Uint8Array): ReadonlyArray<JsonText.Item> => {
    chunk = input
    from = 0
    for (at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!
      step(byte)
      if (byte === lineFeed) {
        line++
        column = 0
        fresh = true
      } else {
        column++
        if (!JsonScanner.isSpace(byte)) fresh = false
      }
    }
    if (state === "element") bytes.add(chunk.subarray(from))
    const out = items
    items = []
    return out
  }

  const end = (): ReadonlyArray<JsonText.Item> => {
    if (state === "element" || state === "junk") {
      report("not valid JSON: the input ends inside this element", element.line)
    } else if (state !== "done" && state !== "ignored") report("the array isn't closed: the input ends too early")
    const out = items
    items = []
    return out
  }

  return { push, end }
}

// --- internal

type State = "open" | "first" | "next" | "after" | "element" | "junk" | "broken" | "done" | "ignored"

const resumes = "what follows it on its line was not read"

const lineFeed = 0x0a
const quote = 0x22
const comma = 0x2c
const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d
