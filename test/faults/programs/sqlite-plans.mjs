/** Loaded before a program: SQLite's plan of every statement that it runs on the deliveries goes to the file `PLANS_FILE`, a line a statement. */
import { appendFileSync } from "node:fs"
import { createRequire } from "node:module"

const require = createRequire(import.meta.resolve("@effect/sql-sqlite-node/SqliteClient"))
const { prototype } = require("better-sqlite3")
const prepare = prototype.prepare
const seen = new Set()
prototype.prepare = function(text) {
  if (/webhook_deliveries/.test(text) && /^\s*(?:SELECT|UPDATE|DELETE|WITH)/i.test(text) && !seen.has(text)) {
    seen.add(text)
    const explained = prepare.call(this, `EXPLAIN QUERY PLAN ${text}`)
    // Parameters have no say in a plan.
    const parameters = Array.from({ length: (text.match(/\?/g) ?? []).length }, () => null)
    const plan = explained.all(...parameters).map(({ detail }) => detail)
    appendFileSync(process.env.PLANS_FILE, `${JSON.stringify({ text: text.replace(/\s+/g, " "), plan })}\n`)
  }
  return prepare.call(this, text)
}
