/** What identifies an event in a log line, as far as it can be told of one that could not be used: its type and its ids. */
export const describeEvent = (event: object): Readonly<Record<string, string>> => {
  const shown: Record<string, string> = {}
  for (const [name, candidates] of names) {
    for (const candidate of candidates) {
      const value = read(event, candidate)
      if (typeof value === "string" && plain.test(value)) {
        shown[name] = value
        break
      }
    }
  }
  return shown
}

// --- internal

/** A getter of the host's may throw, and an untyped bus may carry anything. */
const read = (event: unknown, name: string): unknown => {
  try {
    return typeof event === "object" && event !== null ? Reflect.get(event, name) : undefined
  } catch {
    return undefined
  }
}

const names: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
  ["eventType", ["_tag", "type"]],
  ["messageId", ["id"]],
  ["aggregateId", ["aggregateId"]],
  ["correlationId", ["correlationId"]]
]

/** Nothing that could break a log line. */
const plain = /^[\w.:-]{1,128}$/
