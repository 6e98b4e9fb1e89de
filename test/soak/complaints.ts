/** What is wrong, each once and with how often it was. */
export interface Complaints {
  readonly add: (problem: string) => void
  readonly list: () => ReadonlyArray<string>
}

/** Remembers twenty different ones. */
export const make = (): Complaints => {
  const found = new Map<string, number>()
  return {
    add: (problem) => {
      if (found.has(problem) || found.size < 20) found.set(problem, (found.get(problem) ?? 0) + 1)
    },
    list: () => [...found].map(([problem, times]) => times === 1 ? problem : `${problem} (${times} times)`)
  }
}
