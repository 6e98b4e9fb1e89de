/** All hostile receivers. */
import * as bodies from "./bodies.js"
import * as connections from "./connections.js"
import * as heads from "./heads.js"
import * as names from "./names.js"
import type { HostilePeer } from "./peer.js"
import * as proxies from "./proxies.js"

export const table: ReadonlyArray<HostilePeer> = [
  ...connections.peers,
  ...heads.peers,
  ...bodies.peers,
  ...names.peers,
  ...proxies.peers
]
