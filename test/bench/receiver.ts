/**
 * The receiver of the benchmarks, in a process of its own: reads each request and answers 204. Prints its port.
 */
import { createServer } from "node:http"

const server = createServer((request, response) => {
  request.resume().on("end", () => {
    response.writeHead(204).end()
  })
})
server.keepAliveTimeout = 60_000
server.listen(0, "127.0.0.1", () => {
  const address = server.address()
  process.stdout.write(`${typeof address === "object" && address !== null ? address.port : ""}\n`)
})
process.on("disconnect", () => process.exit(0))
