/**
 * Whether a process stays as it is. The hostile receivers go round twice in a run, so the second and the last quarter of it meet the same ones: the median of what the process
 * holds in the last must not be above that of the second by more than a little. The first quarter is for warming up.
 */

/** What a process holds at a time. */
export interface Sample {
  /** MiB of objects and buffers after a garbage collection. */
  readonly heap: number
  readonly sockets: number
  readonly fibers: number
  /** Timers, sockets and whatever else keeps the event loop going. */
  readonly handles: number
  /** Descriptors of files and sockets. */
  readonly files: number
  /** MiB. */
  readonly rss: number
}

/** By how much the medians may differ. */
export const allowed: Sample = { heap: 6, sockets: 48, fibers: 128, handles: 96, files: 48, rss: 64 }

/** Fewest samples that a verdict can be based on. */
export const fewest = 8

/** The medians of the second and of the last quarter, by figure. */
export const compare = (
  samples: ReadonlyArray<Sample>
): Readonly<Record<keyof Sample, { readonly second: number; readonly last: number }>> => {
  const quarter = (k: number) =>
    samples.slice(Math.floor(samples.length * k / 4), Math.floor(samples.length * (k + 1) / 4))
  const of = (figure: keyof Sample) => ({
    second: median(quarter(1).map((sample) => sample[figure])),
    last: median(quarter(3).map((sample) => sample[figure]))
  })
  return {
    heap: of("heap"),
    sockets: of("sockets"),
    fibers: of("fibers"),
    handles: of("handles"),
    files: of("files"),
    rss: of("rss")
  }
}

/** What has grown; empty: nothing. */
export const judge = (samples: ReadonlyArray<Sample>): ReadonlyArray<string> =>
  samples.length < fewest
    ? [`${samples.length} samples are too few to tell whether anything grows`]
    : Object.entries(compare(samples)).flatMap(([figure, { last, second }]) =>
      last - second > allowed[figure as keyof Sample]
        ? [`${figure} has grown from ${second.toFixed(1)} to ${last.toFixed(1)}`]
        : []
    )

// --- internal

const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((left, right) => left - right)
  const middle = sorted.length / 2
  return sorted.length % 2 === 1
    ? sorted[Math.floor(middle)]!
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2
}
