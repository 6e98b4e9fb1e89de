/** A file system of its own, of a few megabytes, that can be filled up. */
import { execFileSync } from "node:child_process"
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs"
import { join } from "node:path"

export interface SmallDisk {
  readonly folder: string
  /** Takes all the space that is left. */
  readonly fill: () => void
  /** Gives it back. */
  readonly free: () => void
  readonly unmount: () => void
}

/** Mounting takes root, or a `sudo` that doesn't ask. */
export const mountSmallDisk = (folder: string, megabytes: number): SmallDisk => {
  mkdirSync(folder)
  const uid = process.getuid?.() ?? 0
  privileged(["mount", "-t", "tmpfs", "-o", `size=${megabytes}m,uid=${uid}`, "tmpfs", folder])
  const filler = join(folder, "filler")
  return {
    folder,
    fill: () => {
      const file = openSync(filler, "a")
      try {
        for (let size = 65_536; size >= 1;) {
          try {
            if (writeSync(file, Buffer.alloc(size)) < size) size = Math.floor(size / 2)
          } catch (error) {
            if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error
            size = Math.floor(size / 2)
          }
        }
      } finally {
        closeSync(file)
      }
    },
    free: () => rmSync(filler, { force: true }),
    unmount: () => {
      privileged(["umount", folder])
    }
  }
}

// --- internal

const privileged = (command: ReadonlyArray<string>): void => {
  const [program = "", ...args] = process.getuid?.() === 0 ? command : ["sudo", "-n", ...command]
  execFileSync(program, args, { stdio: ["ignore", "ignore", "inherit"] })
}
