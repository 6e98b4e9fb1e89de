/** Programs of a test run, each a process of its own, that are talked to by messages. */
import { type ChildProcess, spawn } from "node:child_process"
import { basename } from "node:path"
import { fileURLToPath } from "node:url"

/** Runs a module beside this process, with the loader that this one runs in. It is to end when it is disconnected. */
export const program = (
  module: URL,
  args: ReadonlyArray<string> = [],
  nodeArgs: ReadonlyArray<string> = []
): ChildProcess =>
  spawn(process.execPath, [...process.execArgv, ...nodeArgs, fileURLToPath(module), ...args], {
    stdio: ["ignore", "inherit", "inherit", "ipc"]
  })

/** The next message of a process; fails if it says `failed`, or ends instead. */
export const message = <A>(process: ChildProcess): Promise<A> =>
  new Promise((resolve, reject) => {
    const ended = (code: number | null, signal: NodeJS.Signals | null) =>
      reject(new Error(`${nameOf(process)} ended with ${code ?? signal}`))
    process.once("exit", ended)
    process.once("message", (value: { readonly failed?: string } & A) => {
      process.off("exit", ended)
      if (value.failed === undefined) resolve(value)
      else reject(new Error(value.failed))
    })
  })

/** Asks a process, which answers one question after the other. */
export const ask = <A>(process: ChildProcess, question: object): Promise<A> => {
  const answer = message<A>(process)
  process.send(question)
  return answer
}

/** Lets a process end in good order, and waits for that: what it still has to write may need its database. */
export const end = (process: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    if (!process.connected) return resolve()
    process.once("exit", () => resolve())
    process.disconnect()
  })

// --- internal

const nameOf = (process: ChildProcess): string => basename(process.spawnargs.find((arg) => arg.endsWith(".ts")) ?? "it")
