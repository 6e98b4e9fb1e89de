/**
 * Contenders run in processes of their own, so that none has another's garbage to collect or another's code to share a compiler's cache with, and by
 * turns: each once a round, so that a machine that speeds up or slows down does so for all.
 */
import type { ChildProcess } from "node:child_process"
import { ask as question, end, message, program } from "../support/programs.js"

/** What a module of contenders exports as `contenders`: each by its name, set up with what the benchmark hands over. */
export interface Contender {
  /** Does its work `count` times. */
  readonly run: (count: number) => Promise<unknown>
  readonly close?: () => Promise<unknown>
}

export type Contenders<Setup> = Readonly<Record<string, (setup: Setup) => Contender | Promise<Contender>>>

/** What one run took. */
export interface Sample {
  /** CPU microseconds of the process, a piece of work. */
  readonly cpu: number
  readonly perSecond: number
  /** Resident bytes at the end. */
  readonly rss: number
}

export interface Options<Setup> {
  /** The module of the contenders: a URL. */
  readonly module: string
  /** The reference first. */
  readonly names: ReadonlyArray<string>
  readonly setup: Setup
  readonly rounds: number
  /** Pieces of work a run. */
  readonly count: number
  /** Pieces of work of those that are slow, by name. */
  readonly counts?: Readonly<Record<string, number>>
}

/** Runs of each contender that don't count: a compiler at work is measured by `startup`. */
const warmUps = 3

/** Samples of all contenders, a row a round, in the order of `names`; the first runs of each warm it up and don't count. */
export const compare = async <Setup>(options: Options<Setup>): Promise<ReadonlyArray<ReadonlyArray<Sample>>> => {
  const { count, counts = {}, module, names, rounds, setup } = options
  const processes = await Promise.all(names.map((name) => start(module, name, setup)))
  try {
    const samples: Array<ReadonlyArray<Sample>> = []
    for (let round = -warmUps; round < rounds; round++) {
      const row: Array<Sample> = []
      for (const [index, process] of processes.entries()) {
        row.push(await ask(process, counts[names[index]!] ?? count))
      }
      if (round >= 0) samples.push(row)
    }
    return samples
  } finally {
    await Promise.all(processes.map(end))
  }
}

/** Starts a contender in a process of its own. */
export const start = async (
  module: string,
  name: string,
  setup: unknown,
  nodeArgs: ReadonlyArray<string> = []
): Promise<ChildProcess> => {
  const process = program(
    new URL("./contender.ts", import.meta.url),
    [module, name, JSON.stringify(setup)],
    nodeArgs
  )
  await message(process)
  return process
}

/** Lets a contender do its work `count` times. */
export const ask = (process: ChildProcess, count: number): Promise<Sample> => question<Sample>(process, { count })
