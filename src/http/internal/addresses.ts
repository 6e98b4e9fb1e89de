/**
 * Which addresses the public internet can't be behind. Ranges are the rows of the IANA special-purpose registries (RFC 6890 and its
 * successors), and the few that the registries don't list.
 */
import ipaddr from "ipaddr.js"

/** An address, parsed. */
export type Address = ipaddr.IPv4 | ipaddr.IPv6

/** A range, parsed: its first address and the number of leading bits that count. */
export type Range = readonly [address: Address, bits: number]

/**
 * The address that a text writes: four decimal parts, or IPv6 without zone. Nothing else, so that `010.0.0.1`, `127.1` and
 * `fe80::1%eth0` are never read one way here and another way by a socket.
 */
export const parseAddress = (text: string): Address | undefined => {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text)
  return text.includes(":") && !text.includes("%") && ipaddr.IPv6.isValid(text) ? ipaddr.IPv6.parse(text) : undefined
}

/** The range that a text writes, `address/bits` in the forms of `parseAddress`. */
export const parseRange = (text: string): Range | undefined => {
  const [address = "", bits = "", ...rest] = text.split("/")
  const parsed = parseAddress(address)
  if (parsed === undefined || rest.length > 0 || !/^(?:0|[1-9][0-9]{0,2})$/.test(bits)) return undefined
  const count = Number(bits)
  return count <= (parsed.kind() === "ipv4" ? 32 : 128) ? [parsed, count] : undefined
}

/** The range that holds one address only. */
export const single = (address: Address): Range => [address, address.kind() === "ipv4" ? 32 : 128]

/** Whether a range holds an address; a range of the other family holds none. */
export const contains = (range: Range, address: Address): boolean =>
  range[0].kind() === address.kind() && address.match([range[0], range[1]])

/**
 * The rule that denies an address unless something allows it, `undefined` for a public one. IPv4: a list of what is denied. IPv6: only
 * 2000::/3 is public, minus a list, so mapped, compatible, translated and NAT64 forms are denied whatever they carry.
 */
export const specialPurpose = (address: Address): string | undefined => {
  const list = address.kind() === "ipv4" ? deniedIPv4 : deniedIPv6
  const row = list.find(([, range]) => contains(range, address))
  if (row !== undefined) return row[0]
  return address.kind() === "ipv4" || contains(globalUnicast, address) ? undefined : "not-global"
}

/**
 * Whether an address is one where a cloud hands out credentials or steers a machine, directly or carried inside an IPv6 form.
 */
export const isMetadata = (address: Address): boolean =>
  metadata.some((range) => contains(range, address)) ||
  embedded(address).some((carried) => metadata.some((range) => contains(range, carried)))

/**
 * The IPv4 addresses that an IPv6 address carries: mapped and compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052, RFC 8215),
 * 6to4 (RFC 3056), Teredo (RFC 4380), ISATAP (RFC 5214).
 */
export const embedded = (address: Address): ReadonlyArray<Address> => {
  if (address.kind() === "ipv4") return []
  const bytes = address.toByteArray()
  const at = (...positions: ReadonlyArray<number>): Address =>
    new ipaddr.IPv4(positions.map((index) => bytes[index] ?? 0))
  const carried: Array<Address> = []
  if (lastFour.some((range) => contains(range, address)) || isatap.test(address.toByteArray().slice(8, 12).join("."))) {
    carried.push(at(12, 13, 14, 15))
  }
  if (contains(sixToFour, address)) carried.push(at(2, 3, 4, 5))
  if (contains(localNat64, address)) carried.push(at(6, 7, 9, 10))
  if (contains(teredo, address)) {
    carried.push(at(4, 5, 6, 7), new ipaddr.IPv4(bytes.slice(12).map((byte) => byte ^ 0xff)))
  }
  return carried
}

// --- internal

const range = (text: string): Range => {
  const [address, bits] = ipaddr.parseCIDR(text)
  return [address, bits]
}

const table = (rows: ReadonlyArray<readonly [rule: string, ...cidrs: ReadonlyArray<string>]>) =>
  rows.flatMap(([rule, ...cidrs]) => cidrs.map((cidr) => [rule, range(cidr)] as const))

const deniedIPv4 = table([
  ["metadata", "168.63.129.16/32"],
  ["this-network", "0.0.0.0/8"],
  ["private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
  ["shared", "100.64.0.0/10"],
  ["loopback", "127.0.0.0/8"],
  ["link-local", "169.254.0.0/16"],
  ["protocol", "192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24"],
  ["documentation", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"],
  ["6to4", "192.88.99.0/24"],
  ["benchmarking", "198.18.0.0/15"],
  ["multicast", "224.0.0.0/4"],
  ["reserved", "240.0.0.0/4"]
])

const globalUnicast = range("2000::/3")

const deniedIPv6 = table([
  ["loopback", "::1/128"],
  ["unspecified", "::/128"],
  ["ipv4-in-ipv6", "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"],
  ["private", "fc00::/7"],
  ["link-local", "fe80::/10"],
  ["site-local", "fec0::/10"],
  ["multicast", "ff00::/8"],
  ["protocol", "2001::/23", "2620:4f:8000::/48"],
  ["documentation", "2001:db8::/32", "3fff::/20"],
  ["6to4", "2002::/16"]
])

const metadata = [
  // AWS, Google, Azure, DigitalOcean, Oracle, Hetzner, OpenStack and most others.
  "169.254.169.254/32",
  // AWS: task and pod credentials, time, name server; the same over IPv6.
  "169.254.170.2/32",
  "169.254.170.23/32",
  "169.254.169.123/32",
  "169.254.169.253/32",
  "fd00:ec2::/32",
  // Google, Oracle, Scaleway and OpenStack over IPv6.
  "fd20:ce::254/128",
  "fd00:c1::a9fe:a9fe/128",
  "fd00:42::42/128",
  "fe80::a9fe:a9fe/128",
  // Scaleway, Alibaba, Tencent, Oracle Classic.
  "169.254.42.42/32",
  "100.100.100.200/32",
  "169.254.0.23/32",
  "192.0.0.192/32",
  // Azure's host; a public address that no registry lists.
  "168.63.129.16/32"
].map(range)

const lastFour = ["::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"].map(range)

const isatap = /^[02]\.0\.94\.254$/

const sixToFour = range("2002::/16")

const localNat64 = range("64:ff9b:1::/48")

const teredo = range("2001::/32")
