// Loaded before the program under test (`--import`): its DNS questions go to the name server of the test.
import dns from "node:dns"
import { syncBuiltinESMExports } from "node:module"

const server = process.env.TEST_NAME_SERVER
const Resolver = dns.Resolver

dns.Resolver = class extends Resolver {
  constructor(options) {
    super(options)
    this.setServers([server])
  }
}
syncBuiltinESMExports()
