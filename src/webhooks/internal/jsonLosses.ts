/**
 * What `JSON.parse` takes and then silently alters: a member that is given twice (the last one counts), and a whole number that a
 * double can't hold (it becomes its neighbour).
 */

/** Where something would be lost, and what to do about it. */
export interface Loss {
  readonly path: ReadonlyArray<string | number>
  readonly problem: string
}

/** The first such place in a text that `JSON.parse` takes. Iterative: depth costs no stack. */
export const find = (text: string): Loss | undefined => {
  const stack: Array<Frame> = []
  const loss = (problem: string): Loss => ({ path: stack.map(({ at }) => at), problem })
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
          if (frame.keys.has(frame.at)) return loss("is given more than once; give each name once")
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
      // Most of what else there may be, and dear to the pattern below.
      case " ":
      case "\n":
      case ":":
        break
      default: {
        number.lastIndex = at
        const literal = number.exec(text)?.[0]
        if (literal === undefined) break
        if (!isExact(literal)) return loss("a whole number that loses digits beyond 2^53; send it as text")
        at = number.lastIndex
        continue
      }
    }
    at++
  }
  return undefined
}

/** Whether a text opens more brackets within each other than `levels`, strings apart; the text may be anything. */
export const isDeeperThan = (text: string, levels: number): boolean => {
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 0x22:
        at = endOfString(text, at) - 1
        break
      case 0x5b:
      case 0x7b:
        if (++depth > levels) return true
        break
      case 0x5d:
      case 0x7d:
        depth--
    }
  }
  return false
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

/** Behind the quote that ends the string that begins at `start`; the text's end if none does. */
const endOfString = (text: string, start: number): number => {
  for (let quote = text.indexOf("\"", start + 1); quote !== -1; quote = text.indexOf("\"", quote + 1)) {
    let slashes = 0
    while (text[quote - 1 - slashes] === "\\") slashes++
    if (slashes % 2 === 0) return quote + 1
  }
  return text.length
}
