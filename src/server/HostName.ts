/**
 * Names and addresses that a server is asked by.
 */
import { isIP, isIPv4, isIPv6 } from "node:net"

/** Whether a text is a name that a server can be asked by, or an address; without port. */
export const isHost = (host: string): boolean =>
  isIP(host) !== 0 || host.length <= 253 && /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?$/i.test(host)

/** Whether a name or an address, without brackets, is this machine only. */
export const isLoopback = (host: string): boolean => {
  if (isIPv4(host)) return host.startsWith("127.")
  return isIPv6(host) ? canonical(host) === "::1" : host.toLowerCase() === "localhost"
}

/** Whether binding to it binds to all addresses. */
export const isUnspecified = (host: string): boolean => ["0.0.0.0", "::", ""].includes(canonical(host))

/** The name in a `Host` header or in a URL, without port and brackets. */
export const nameOf = (host: string): string => canonical(host.replace(/:[0-9]{1,5}$/, "").replace(/^\[(.*)\]$/, "$1"))

/** The one form in which names, and addresses without brackets, are compared. */
export const canonical = (host: string): string =>
  isIPv6(host)
    ? new URL(`http://[${host.replace(/%.*$/, "")}]`).hostname.slice(1, -1)
    : host.toLowerCase().replace(/\.$/, "")
