/** Waiting for a condition, never for a time alone. */

export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds))

/** How much longer than a machine of its own needs to wait before giving up: for one that has other things to do (`FAULTS_PATIENCE`). */
const patience = Number(process.env.FAULTS_PATIENCE ?? 5)

/** Waits until a condition holds, and says what was waited for when it doesn't come. */
export const until = async (
  what: string | (() => string),
  condition: () => boolean | Promise<boolean>,
  seconds = 60,
  pause = 20
): Promise<void> => {
  const deadline = performance.now() + seconds * patience * 1000
  while (!(await condition())) {
    if (performance.now() > deadline) {
      throw new Error(`not within ${seconds * patience} s: ${typeof what === "string" ? what : what()}`)
    }
    await sleep(pause)
  }
}

/** A promise that is settled from outside. */
export interface Gate<A> {
  readonly opened: Promise<A>
  readonly open: (value: A) => void
}

export const gate = <A = void>(): Gate<A> => {
  let open: (value: A) => void = () => undefined
  const opened = new Promise<A>((resolve) => {
    open = resolve
  })
  return { opened, open }
}
