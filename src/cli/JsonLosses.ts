/**
 * What `JSON.parse` takes and then silently alters: a member that is given twice (the last one counts), and a whole number that a
 * double can't hold (it becomes its neighbour).
 */
import { formatPath } from "../webhooks/internal/encodeTree.js"

/** The first such place in a text that `JSON.parse` takes, with its path and a remedy. Iterative: depth costs no stack. */
export const find = (text: string): string | undefined => {
  const stack: Array<Frame> = []
  const refuse = (problem: string): string => {
    const path = formatPath("", stack.map(({ at }) => at)).replace(/^\./, "")
    return `${path === "" ? "the value" : path}: ${problem}`
  }
  let at = 0
  while (at < text.length) {
    const frame = stack.at(-1)
    switch (text[at]) {
      case "\"": {
        const end = endOfString(text, at)
        if (frame?.expectsKey === true) {
          const raw = text.slice(at, end)
          frame.at = raw.includes("\\") ? String(JSON.parse(raw)) : raw.slice(1, -1)
          frame.expectsKey = false
          frame.keys ??= new Set()
          if (frame.keys.has(frame.at)) return refuse("is given more than once; give each name once")
          frame.keys.add(frame.at)
        }
        at = end
        continue
      }
      case "{":
        stack.push({ at: "", keys: undefined, expectsKey: true })
        break
      case "[":
        stack.push({ at: 0, keys: undefined, expectsKey: false })
        break
      case "}":
      case "]":
        stack.pop()
        break
      case ",":
        if (frame !== undefined && typeof frame.at === "number") frame.at++
        else if (frame !== undefined) frame.expectsKey = true
        break
      default: {
        number.lastIndex = at
        const literal = number.exec(text)?.[0]
        if (literal === undefined) break
        if (!isExact(literal)) return refuse("a whole number that loses digits beyond 2^53; send it as text")
        at = number.lastIndex
        continue
      }
    }
    at++
  }
  return undefined
}

// --- internal

interface Frame {
  /** The member or the element that is being read. */
  at: string | number
  keys: Set<string> | undefined
  expectsKey: boolean
}

const number = /-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y

const isExact = (literal: string): boolean => {
  if (literal.length <= 15 || !/^-?[0-9]+$/.test(literal)) return true
  const value = Number(literal)
  // What is beyond a double's range is refused where the event is encoded; what other writers make of a double comes out as it came in.
  return !Number.isFinite(value) || String(value) === literal || BigInt(literal) === BigInt(value)
}

/** Behind the quote that ends the string that begins at `start`. */
const endOfString = (text: string, start: number): number => {
  for (let quote = text.indexOf("\"", start + 1);; quote = text.indexOf("\"", quote + 1)) {
    let slashes = 0
    while (text[quote - 1 - slashes] === "\\") slashes++
    if (slashes % 2 === 0) return quote + 1
  }
}
