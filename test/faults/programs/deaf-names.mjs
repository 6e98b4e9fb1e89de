/**
 * Loaded before a program: names under `.example` never resolve, as with a name server that is silent. As in the real thing, two such look-ups occupy
 * a thread of the pool each (libuv lets no more of them in), and the others queue behind them.
 */
import dns from "node:dns"
import { open } from "node:fs"
import { syncBuiltinESMExports } from "node:module"

const real = dns.lookup
let threads = 0
dns.lookup = (name, ...rest) => {
  if (!name.endsWith(".example")) return real(name, ...rest)
  process.stderr.write(`deaf: ${name}\n`)
  // Opening a pipe that nobody writes to blocks a thread of the pool.
  if (threads++ < 2) open(process.env.DEAF_PIPE, "r", () => undefined)
}
syncBuiltinESMExports()
