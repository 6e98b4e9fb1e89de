/**
 * Follows JSON byte by byte and knows at each whether the text so far can still become one JSON object, array or string, is one, or
 * can't any more. It finds the ends of values in a stream without holding them; numbers, literals and escapes are left to `JSON.parse`.
 */

/** After a byte: the value goes on, ends with this byte, or can't be JSON. */
export type Step = "more" | "complete" | "broken"

/** Deepest nesting of objects and arrays that is followed. */
export const maxDepth = 512

/** Follows one value. The first byte must be that of an object, an array or a string. */
export interface JsonScanner {
  readonly step: (byte: number) => Step
}

/** A scanner before the first byte. */
export const make = (): JsonScanner => {
  const closers: Array<number> = []
  let expect: Expect = "value"
  // A string that is a member's name.
  let key = false

  const afterValue = (): Step => {
    expect = "comma"
    return closers.length === 0 ? "complete" : "more"
  }

  const open = (closer: number, next: Expect): Step => {
    if (closers.length === maxDepth) return "broken"
    closers.push(closer)
    expect = next
    return "more"
  }

  const close = (byte: number): Step => closers.pop() === byte ? afterValue() : "broken"

  const value = (byte: number): Step => {
    if (byte === openBrace) return open(closeBrace, "first key")
    if (byte === openBracket) return open(closeBracket, "first item")
    if (byte === quote) {
      key = false
      expect = "string"
      return "more"
    }
    if (closers.length === 0 || !isWord(byte)) return "broken"
    expect = "word"
    return "more"
  }

  const name = (byte: number): Step => {
    if (byte !== quote) return "broken"
    key = true
    expect = "string"
    return "more"
  }

  const step = (byte: number): Step => {
    if (expect === "string") {
      if (byte === quote) {
        if (!key) return afterValue()
        expect = "colon"
      } else if (byte === backslash) expect = "escape"
      else if (byte < space) return "broken"
      return "more"
    }
    if (expect === "escape") {
      expect = "string"
      return byte < space ? "broken" : "more"
    }
    if (expect === "word") {
      if (isWord(byte)) return "more"
      expect = "comma"
    }
    if (isSpace(byte)) return "more"
    switch (expect) {
      case "value":
        return value(byte)
      case "first item":
        return byte === closeBracket ? close(byte) : value(byte)
      case "first key":
        return byte === closeBrace ? close(byte) : name(byte)
      case "key":
        return name(byte)
      case "colon":
        expect = "value"
        return byte === colon ? "more" : "broken"
      case "comma":
        if (byte !== comma) return close(byte)
        expect = closers[closers.length - 1] === closeBrace ? "key" : "value"
        return closers.length === 0 ? "broken" : "more"
    }
  }

  return { step }
}

/** Space, tab, line feed, carriage return (RFC 8259, section 2). */
export const isSpace = (byte: number): boolean => byte === space || byte === 0x09 || byte === 0x0a || byte === 0x0d

// --- internal

type Expect = "value" | "first item" | "first key" | "key" | "colon" | "comma" | "string" | "escape" | "word"

const space = 0x20
const quote = 0x22
const comma = 0x2c
const colon = 0x3a
const openBracket = 0x5b
const backslash = 0x5c
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

// What numbers, true, false and null are made of: a-z A-Z 0-9 + - .
const isWord = (byte: number): boolean =>
  (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x30 && byte <= 0x39) ||
  byte === 0x2b || byte === 0x2d || byte === 0x2e
