/** One PostgreSQL for a whole run, started when the first test asks for it: most files need none. */
import * as http from "node:http"
import type { TestProject } from "vitest/node"
import { type PostgresServer, startPostgres } from "./postgres.js"

declare module "vitest" {
  export interface ProvidedContext {
    /** Answers a GET with the URL of the run's PostgreSQL. */
    readonly postgres: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  let starting: Promise<PostgresServer> | undefined
  const server = http.createServer((_request, response) => {
    starting ??= startPostgres({ fsync: false })
    starting.then(
      ({ url }) => response.end(url),
      (error: unknown) => response.writeHead(500).end(String(error))
    )
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("no address")
  project.provide("postgres", `http://127.0.0.1:${address.port}`)
  return async () => {
    server.close()
    server.closeAllConnections()
    await (await starting?.catch(() => undefined))?.stop()
  }
}
