/**
 * Splits a stream of bytes into JSON values, in constant memory: one JSON object over any number of lines, one object a line (NDJSON),
 * objects one after another as `jq` prints them, or a JSON array. What can't be read is reported with its line and the rest still comes.
 *
 * The first character that isn't white space decides: `[` is an array, anything else is lines. A line that isn't JSON by itself but may
 * be the beginning of an object is held until the lines that follow complete it; if they can't, each counts for itself.
 */
import * as ArrayElements from "./ArrayElements.js"
import * as JsonScanner from "./JsonScanner.js"
import * as JsonText from "./JsonText.js"

/** A value, or why there is none, and the line (from 1) on which it begins. */
export type Item = JsonText.Item

/** Takes the bytes of the input. */
export type EventReader = JsonText.Reader

/** A reader at the beginning of its input. */
export const make = (): EventReader => {
  let head: Uint8Array | undefined = new Uint8Array(0)
  let line = 1
  let marked = false
  let inner: EventReader | undefined

  const begin = (bytes: Uint8Array): ReadonlyArray<Item> => {
    let at = 0
    while (at < bytes.length && JsonScanner.isSpace(bytes[at]!)) {
      if (bytes[at] === lineFeed) line++
      at++
    }
    if (at === bytes.length) return []
    if (bytes[at] !== openBracket) inner = makeLines(line, marked)
    else if (marked) inner = { push: () => [], end: () => [] }
    else inner = ArrayElements.make(line)
    const rest = bytes.subarray(at)
    return marked && bytes[at] === openBracket ? [JsonText.invalid(1, byteOrderMark)] : inner.push(rest)
  }

  const push = (chunk: Uint8Array): ReadonlyArray<Item> => {
    if (inner !== undefined) return inner.push(chunk)
    if (head === undefined) return begin(chunk)
    head = Buffer.concat([head, chunk])
    // Fewer bytes than a byte order mark has can't tell yet.
    if (head.length < mark.length && mark.subarray(0, head.length).equals(head)) return []
    marked = mark.equals(head.subarray(0, mark.length))
    const bytes = marked ? head.subarray(mark.length) : head
    head = undefined
    return begin(bytes)
  }

  const end = (): ReadonlyArray<Item> => {
    if (inner !== undefined) return inner.end()
    if (head !== undefined && head.length > 0) return [JsonText.invalid(1, JsonText.notUtf8)]
    return marked ? [JsonText.invalid(1, byteOrderMark)] : []
  }

  return { push, end }
}

// --- internal

const lineFeed = 0x0a
const openBracket = 0x5b
const openBrace = 0x7b
const mark = Buffer.from([0xef, 0xbb, 0xbf])
const byteOrderMark = "the input begins with a byte order mark; save it as UTF-8 without one"

const makeLines = (firstLine: number, marked: boolean): EventReader => {
  let line = firstLine
  let items: Array<Item> = []
  let refuseNext = marked
  const pending = JsonText.makeBuffer()
  let held: Held | undefined

  const emit = (item: Item) => {
    items.push(refuseNext ? JsonText.invalid(item.line, byteOrderMark) : item)
    refuseNext = false
  }

  const single = (bytes: Uint8Array, at: number) => {
    const item = JsonText.parse(bytes, at)
    if (item._tag === "Value" || bytes[firstNonSpace(bytes)] !== openBrace) return emit(item)
    const scanner = JsonScanner.make()
    const scanned = scan(scanner, bytes)
    if (scanned.step === "more" && item.error !== JsonText.notUtf8) {
      held = { line: at, lines: [{ line: at, bytes }], size: bytes.length, scanner, overflow: false }
    } else {
      emit(
        item.error === JsonText.notJson && scanned.step === "broken"
          ? JsonText.invalid(at, `${JsonText.notJson} (column ${scanned.column})`)
          : item
      )
    }
  }

  const continued = (current: Held, bytes: Uint8Array) => {
    const { step } = scan(current.scanner, bytes)
    if (step === "broken") {
      release(current)
      return single(bytes, line)
    }
    current.size += bytes.length + 1
    if (current.size > JsonText.maxBytes && !current.overflow) {
      current.overflow = true
      current.lines = []
      emit(JsonText.invalid(current.line, JsonText.tooLong))
    }
    if (!current.overflow) current.lines.push({ line, bytes })
    if (step === "more") return
    held = undefined
    if (current.overflow) return
    const item = JsonText.parse(joined(current.lines), current.line)
    if (item._tag === "Invalid" && (item.error === JsonText.notJson || item.error === JsonText.notUtf8)) {
      release(current)
    } else emit(item)
  }

  const release = (current: Held) => {
    held = undefined
    for (const one of current.lines) emit(JsonText.parse(one.bytes, one.line))
  }

  const ended = () => {
    if (pending.overflowed()) {
      if (held !== undefined) release(held)
      emit(JsonText.invalid(line, JsonText.tooLong))
    } else {
      const bytes = pending.take()
      const blank = firstNonSpace(bytes) === bytes.length
      if (!blank && held === undefined) single(bytes, line)
      else if (!blank && held !== undefined) continued(held, bytes)
    }
    pending.clear()
  }

  const flush = () => {
    const out = items
    items = []
    return out
  }

  const push = (chunk: Uint8Array): ReadonlyArray<Item> => {
    let from = 0
    for (let at = chunk.indexOf(lineFeed); at !== -1; at = chunk.indexOf(lineFeed, from)) {
      pending.add(chunk.subarray(from, at))
      ended()
      line++
      from = at + 1
    }
    pending.add(chunk.subarray(from))
    return flush()
  }

  const end = (): ReadonlyArray<Item> => {
    ended()
    if (held !== undefined && !held.overflow) {
      const parsed = held.lines.map((one) => JsonText.parse(one.bytes, one.line))
      // A document that was cut off is one mistake; lines that are events are not lost with it.
      if (parsed.every((item) => item._tag === "Invalid" || typeof item.value !== "object")) {
        emit(JsonText.invalid(held.line, "not valid JSON: it ends too early"))
      } else parsed.forEach(emit)
    }
    return flush()
  }

  return { push, end }
}

interface Held {
  readonly line: number
  lines: Array<{ readonly line: number; readonly bytes: Uint8Array }>
  size: number
  readonly scanner: JsonScanner.JsonScanner
  /** Longer than allowed: reported, and followed to its end without being kept. */
  overflow: boolean
}

const firstNonSpace = (bytes: Uint8Array): number => {
  let at = 0
  while (at < bytes.length && JsonScanner.isSpace(bytes[at]!)) at++
  return at
}

// A line and its line feed; "complete" only if nothing stands behind the value.
const scan = (
  scanner: JsonScanner.JsonScanner,
  bytes: Uint8Array
): { readonly step: JsonScanner.Step; readonly column: number } => {
  for (let at = firstNonSpace(bytes); at < bytes.length; at++) {
    const step = scanner.step(bytes[at]!)
    if (step === "broken") return { step, column: at + 1 }
    if (step === "complete") {
      const rest = firstNonSpace(bytes.subarray(at + 1))
      const column = at + 1 + rest
      return column === bytes.length ? { step, column } : { step: "broken", column: column + 1 }
    }
  }
  const step = scanner.step(lineFeed)
  return { step, column: bytes.length + 1 }
}

const joined = (lines: Held["lines"]): Uint8Array =>
  Buffer.concat(lines.flatMap(({ bytes }) => [bytes, Buffer.from([lineFeed])]))
