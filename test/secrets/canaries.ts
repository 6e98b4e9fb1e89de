/**
 * Secrets that must turn up nowhere, and what finds them: whole, in part (any 8 characters in a row), decoded, or written in another way.
 */
import { createHash } from "node:crypto"

/** A secret of a test by the name that a report gives it. */
export type Canaries = Readonly<Record<string, string>>

/** Where a part of a secret was found. */
export interface Leak {
  readonly canary: string
  readonly form: string
  readonly where: string
  /** What was found, with what stands around it. */
  readonly near: string
}

/** Letters and digits that no other text has; the same each time. */
export const word = (name: string): string => bytes(name).toString("base64").replace(/[+/=]/g, "")

/** 32 bytes that no other text has. */
export const bytes = (name: string): Buffer => createHash("sha256").update(`canary of ${name}`).digest()

/** One of each kind that a program holds. Where a value has parts that are none (`Bearer `), the part that is stands here. */
export const canaries = {
  "raw secret": word("raw"),
  "secret in base64": bytes("base64").toString("base64"),
  "whsec_ secret": `whsec_${bytes("whsec").toString("base64")}`,
  "expired secret": `whsec_${bytes("expired").toString("base64")}`,
  "ed25519 secret": "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
  "bearer token": word("bearer"),
  "basic user": word("basic user"),
  "basic password": word("basic password"),
  "header value": `${word("header")} ${word("header, too")}`,
  "query value": word("query"),
  "user of a URL": word("URL user"),
  "password of a URL": word("URL password"),
  "API token": word("API token"),
  "proxy user": word("proxy user"),
  "proxy password": word("proxy password"),
  "database user": word("database user"),
  "database password": word("database password")
} as const satisfies Canaries

/** All secrets that texts have something of; at most one leak a secret and text. */
export const find = (
  texts: ReadonlyArray<readonly [where: string, text: string]>,
  all: Canaries = canaries
): ReadonlyArray<Leak> => {
  const { first, windows } = all === canaries ? (ofCanaries ??= windowsOf(canaries)) : windowsOf(all)
  const leaks: Array<Leak> = []
  const seen = new Set<string>()
  for (const [where, given] of texts) {
    if (seen.has(given)) continue
    seen.add(given)
    const found = new Set<string>()
    for (const text of readings(given)) {
      for (let at = 0; at + 8 <= text.length; at++) {
        if (first[mixed(text, at)] === 0) continue
        for (const [size, known] of windows) {
          const hit = known.get(text.slice(at, at + size))
          if (hit === undefined || found.has(hit.canary)) continue
          found.add(hit.canary)
          leaks.push({ ...hit, where, near: text.slice(Math.max(0, at - 60), at + size + 20) })
        }
      }
    }
  }
  return leaks
}

// --- internal

interface Windows {
  /** The windows of each size, and what they are of. */
  readonly windows: ReadonlyMap<number, ReadonlyMap<string, { readonly canary: string; readonly form: string }>>
  /** Not 0 where some window begins so: texts have megabytes. */
  readonly first: Uint8Array
}

const mixed = (text: string, at: number): number =>
  (Math.imul(Math.imul(text.charCodeAt(at), 1031) + text.charCodeAt(at + 3), 1031) + text.charCodeAt(at + 7)) & 0xfffff

let ofCanaries: Windows | undefined

const windowsOf = (all: Canaries): Windows => {
  const text = new Map<string, { readonly canary: string; readonly form: string }>()
  const hex = new Map<string, { readonly canary: string; readonly form: string }>()
  for (const [canary, value] of Object.entries(all)) {
    const bare = value.replace(/^wh(?:sec|sk)_/, "")
    const decoded = /^[\w+/-]{16,}={0,2}$/.test(bare) ? Buffer.from(bare, "base64") : undefined
    const addText = (form: string, one: string) => {
      const folded = one.toLowerCase()
      for (let at = 0; at + 8 <= folded.length; at++) {
        const part = folded.slice(at, at + 8)
        // What was no UTF-8 is the same character each time: only a window with enough else in it tells anything.
        if (part.replaceAll("\ufffd", "").length >= 4) text.set(part, { canary, form })
      }
    }
    const addBytes = (form: string, some: Buffer) => {
      const digits = some.toString("hex")
      for (let at = 0; at + 16 <= digits.length; at += 2) {
        hex.set(digits.slice(at, at + 16), { canary, form: `${form} as hex` })
      }
      for (const shift of [0, 1, 2]) {
        const shifted = Buffer.concat([Buffer.alloc(shift), some]).toString("base64").replace(/=+$/, "")
        // The first and the last characters also hold bits of what stands beside it.
        const own = shifted.slice(shift === 0 ? 0 : shift + 1, -1)
        addText(`${form} in base64`, own)
        addText(`${form} in base64url`, own.replaceAll("+", "-").replaceAll("/", "_"))
      }
    }
    addText("as it is", bare)
    addText("as it is", bare.replaceAll("+", "-").replaceAll("/", "_"))
    addBytes("as it is", Buffer.from(bare))
    if (decoded === undefined) continue
    addText("decoded", decoded.toString("utf8"))
    addText("decoded", decoded.toString("latin1"))
    addBytes("decoded", decoded)
  }
  const first = new Uint8Array(0x100000)
  for (const window of [...text.keys(), ...hex.keys()]) first[mixed(window, 0)] = 1
  return { first, windows: new Map([[8, text], [16, hex]]) }
}

/** A text, and what is written in it in another way: escaped, as numbers, as hex digits in pairs. */
const readings = (text: string): ReadonlySet<string> => {
  const all = new Set([text])
  if (text.includes("\\")) {
    all.add(
      text.replace(/\\u([0-9a-f]{4})/gi, (_, digits: string) => String.fromCharCode(parseInt(digits, 16)))
        .replace(/\\([^u])/g, "$1")
    )
  }
  if (text.includes("%")) {
    all.add(text.replace(/%([0-9a-f]{2})/gi, (_, digits: string) => String.fromCharCode(parseInt(digits, 16))))
  }
  for (const [run] of text.matchAll(/(?:\b\d{1,3},\s*){7,}\d{1,3}\b/g)) {
    all.add(Buffer.from(run.split(",").map(Number)).toString("hex"))
  }
  for (const [run] of text.matchAll(/(?:\b[0-9a-f]{2}[\s:]){7,}[0-9a-f]{2}\b/gi)) all.add(run.replace(/[\s:]/g, ""))
  return new Set([...all].map((one) => one.toLowerCase()))
}
