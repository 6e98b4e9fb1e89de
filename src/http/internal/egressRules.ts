/**
 * One entry of an allow or deny list, read from text.
 */
import * as Either from "effect/Either"
import * as addresses from "./addresses.js"

/** An address range, a host name or all subdomains of one, with or without a port; or a port alone, of whatever host. */
export type EgressRule =
  | { readonly _tag: "Range"; readonly range: addresses.Range; readonly port: number | undefined }
  | { readonly _tag: "Host"; readonly name: string; readonly port: number | undefined }
  | { readonly _tag: "Suffix"; readonly suffix: string; readonly port: number | undefined }
  | { readonly _tag: "Port"; readonly port: number }

/** The rule that an entry writes, or what is wrong with it, in words that don't repeat it. */
export const parseRule = (entry: string): Either.Either<EgressRule, string> => {
  if (entry === "") return Either.left("is empty; remove the comma")
  if (entry.includes("://")) return Either.left(`is a URL; ${allowed}`)
  const parts = split(entry)
  if (parts === undefined) return Either.left(`can't be read; ${allowed}`)
  const { port, target } = parts
  if (port !== undefined && (port < 1 || port > 65_535)) return Either.left("has a port outside 1 to 65535")
  if (target === "*") {
    return port === undefined
      ? Either.left("is every host; write *:PORT for a port of all, or the ranges 0.0.0.0/0 and ::/0")
      : Either.right({ _tag: "Port", port })
  }
  if (target.includes("/")) {
    const range = addresses.parseRange(target)
    return range === undefined
      ? Either.left("is not an address range such as 10.0.0.0/8 or fd00::/8")
      : Either.right({ _tag: "Range", range, port })
  }
  const address = addresses.parseAddress(target)
  if (address !== undefined) return Either.right({ _tag: "Range", range: addresses.single(address), port })
  const name = target.toLowerCase().replace(/\.$/, "")
  if (name.startsWith("*.")) {
    const suffix = name.slice(2)
    return isHostName(suffix)
      ? Either.right({ _tag: "Suffix", suffix, port })
      : Either.left(`is not a host name; ${allowed}`)
  }
  return isHostName(name) ? Either.right({ _tag: "Host", name, port }) : Either.left(`is not a host name; ${allowed}`)
}

// --- internal

const allowed =
  "allowed are an address, a range (10.0.0.0/8), a host name (punycode if international) or *.suffix, each with or without :port, and *:port"

const split = (entry: string): { readonly target: string; readonly port: number | undefined } | undefined => {
  const bracketed = /^\[([^\]]+)\](\/[0-9]+)?(?::([0-9]{1,5}))?$/.exec(entry)
  if (bracketed !== null) {
    const target = `${bracketed[1]}${bracketed[2] ?? ""}`
    return target.includes(":") ? { target, port: toPort(bracketed[3]) } : undefined
  }
  if (entry.split(":").length > 2) return { target: entry, port: undefined }
  const plain = /^([^:]+)(?::([0-9]{1,5}))?$/.exec(entry)
  return plain === null ? undefined : { target: plain[1] ?? "", port: toPort(plain[2]) }
}

const toPort = (text: string | undefined): number | undefined => text === undefined ? undefined : Number(text)

const isHostName = (name: string): boolean =>
  name.length <= 253 && name.split(".").every((part) => /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(part)) &&
  // What URLs read as an address (`127.1`, `0x7f.1`) would never be compared as a name.
  !/(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$/.test(name)
