/** The name that was probably meant. */

/** The name of `names` that takes the fewest edits to become `text`, at most a third of its length; else none. */
export const nearest = (text: string, names: ReadonlyArray<string>): string | undefined => {
  let best: string | undefined
  let least = Infinity
  if (text.length > 64) return undefined
  for (const name of names) {
    const edits = distance(text.toLowerCase(), name.toLowerCase())
    if (edits < least && edits <= Math.max(1, Math.ceil(name.length / 3))) {
      best = name
      least = edits
    }
  }
  return best
}

// --- internal

const distance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]!
}
