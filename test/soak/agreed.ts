/** What the processes of a soak know of each other beforehand: who receives what, and what every event must look like. */

/** The way an event takes: the outbox, or the dispatcher. It is also the last part of its type. */
export type Way = "direct" | "stored"

/** Endpoints that behave, and those that don't: 30 % of all. */
export const steady: ReadonlyArray<string> = Array.from({ length: 14 }, (_, index) => `steady-${index + 1}`)
export const hostile: ReadonlyArray<string> = Array.from({ length: 6 }, (_, index) => `hostile-${index + 1}`)

/** Steady endpoints that get the events of a way. Hostile ones get all. */
export const wanting = (way: Way): ReadonlyArray<string> => way === "stored" ? steady : steady.slice(0, 4)

export const secret = `whsec_${Buffer.from("thirty-two bytes for a long soak").toString("base64")}`

/** Milliseconds that an attempt to a hostile receiver gets. */
export const attemptTimeout = 1000

/** The n-th event of a way. */
export const event = (way: Way, n: number) => ({
  type: `soak.${way}`,
  aggregateId: `a-${n % 100}`,
  occurredAt: "2026-01-27T12:00:00+00:00",
  data: { n, text: `${accents}${filler(n)}` }
})

/** Its bytes, written down by hand. */
export const body = (way: Way, n: number): string =>
  `{"aggregate_id": "a-${n % 100}", "data": {"n": ${n}, "text": "${escapedAccents}${filler(n)}"}, ` +
  `"event_type": "soak.${way}", "occurred_at": "2026-01-27T12:00:00+00:00"}`

/** Which event a body claims to be. */
export const eventOf = (body: string): { readonly way: Way; readonly n: number } | undefined => {
  const way = /"event_type": "soak\.(direct|stored)"/.exec(body)?.[1]
  const n = /"data": \{"n": (\d+),/.exec(body)?.[1]
  return way === undefined || n === undefined ? undefined : { way: way as Way, n: Number(n) }
}

// --- internal

const accents = "Größe ☃ "
const escapedAccents = "Gr\\u00f6\\u00dfe \\u2603 "

/** Mostly little; now and then more than fits into the buffers of a receiver that doesn't read. */
const filler = (n: number): string => "x".repeat(n % 200 === 50 ? 250_000 : n * 37 % 1500)
