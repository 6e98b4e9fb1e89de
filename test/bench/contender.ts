/** One contender in a process: `contender.ts MODULE NAME SETUP`. Runs when it is told to, and tells what that took. */
import type { Contenders, Sample } from "./contending.js"

const [, , module, name, setup] = process.argv
const { contenders } = await import(module!) as { readonly contenders: Contenders<unknown> }
const contender = await contenders[name!]!(JSON.parse(setup!))

process.on("message", ({ count }: { readonly count: number }) => {
  const before = process.cpuUsage()
  const started = performance.now()
  contender.run(count).then(() => {
    const seconds = (performance.now() - started) / 1000
    const { system, user } = process.cpuUsage(before)
    const sample: Sample = { cpu: (system + user) / count, perSecond: count / seconds, rss: process.memoryUsage.rss() }
    process.send!(sample)
  }, (error: unknown) => process.send!({ failed: error instanceof Error ? error.stack : String(error) }))
})
process.on("disconnect", () => {
  void Promise.resolve(contender.close?.()).finally(() => process.exit(0))
})
process.send!({ ready: true })
