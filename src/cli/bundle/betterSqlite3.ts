/** `better-sqlite3` as the bundled command line finds it: it is native, and belongs to the driver that the user has installed. */
import { createRequire } from "node:module"

const driver: unknown = createRequire(import.meta.resolve("@effect/sql-sqlite-node"))("better-sqlite3")

export default driver
