/** What the sender holds, and how that is shown. */
import * as Effect from "effect/Effect"
import type * as Supervisor from "effect/Supervisor"
import { readdirSync } from "node:fs"
import { heap, sockets } from "../support/measuring.js"
import { compare, type Sample } from "./flat.js"

/** Who knows which fibers run. */
export type Fibers = Supervisor.Supervisor<ReadonlyArray<unknown>>

export const take = (fibers: Fibers): Effect.Effect<Sample> =>
  Effect.zipWith(heap, fibers.value, (heap, fibers) => ({
    heap,
    sockets: sockets(),
    fibers: fibers.length,
    handles: process.getActiveResourcesInfo().length,
    // Other systems have no such folder.
    files: process.platform === "linux" ? readdirSync("/proc/self/fd").length : 0,
    rss: process.memoryUsage.rss() / 0x100000
  }))

export const line = ({ fibers, files, handles, heap, rss, sockets }: Sample): string =>
  [
    `heap ${heap.toFixed(1).padStart(5)} MiB`,
    `sockets ${String(sockets).padStart(3)}`,
    `fibers ${String(fibers).padStart(3)}`,
    `handles ${String(handles).padStart(3)}`,
    `files ${String(files).padStart(3)}`,
    `RSS ${rss.toFixed(0).padStart(3)} MiB`
  ].join("  ")

/** The medians that are compared. */
export const medians = (samples: ReadonlyArray<Sample>): string =>
  Object.entries(compare(samples))
    .map(([figure, { last, second }]) => `${figure} ${second.toFixed(1)} → ${last.toFixed(1)}`)
    .join(", ")
