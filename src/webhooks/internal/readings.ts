/**
 * What a text says other than character by character: escaped, as numbers, in base64.
 */

/** What of eight characters or more can be read in a text, at most some sixty times as long as it; where it stands for bytes, a character for each. */
export const readings = (text: string): ReadonlyArray<string> => {
  const once = unescape(text)
  const twice = unescape(once)
  const forms = new Set(
    [text, once, twice].flatMap((one) => [one, unnumbered(one)]).flatMap((one) => [one, squeezed(one)])
  )
  const found = new Set(forms)
  for (const one of forms) {
    const words = one.match(/[0-9a-z]+/gi) ?? []
    found.add(words.map(fromDecimal).join(""))
    found.add(words.map(fromHex).join(""))
    // Where in it the bytes begin can't be seen. What is shorter holds less than eight of them.
    for (const [run] of one.matchAll(/[0-9a-z+/_-]{11,}/gi)) {
      for (let skip = 0; skip < 4; skip++) found.add(Buffer.from(run.slice(skip), "base64").toString("latin1"))
    }
  }
  found.delete(text)
  return [...found].filter((reading) => /[^\uFFFF]{8}/.test(reading))
}

/** Stands where a reading is interrupted, and in no text. */
export const gap = "\uFFFF"

// --- internal

/** Without the places that characters or bytes are numbered by: `{"0":116,"1":111}`. */
const unnumbered = (text: string): string => text.replace(/["']?\b\d{1,5}["']?\s*:/g, " ")

/** Without what may stand between the characters of a secret that is shown in pieces: space, quotes, commas, brackets, what is left of a terminal's colours. */
const squeezed = (text: string): string => text.normalize("NFKC").replace(/\[[\d;]*m|[\s"',[\]]+/g, "")

const unescape = (text: string): string =>
  text.replace(escapes, (_, ...parts: ReadonlyArray<string | undefined>) => {
    const [byte, unit, point, reference, decimal, octal, name, itself] = parts
    if (itself !== undefined) return itself
    if (name !== undefined) return named[name.toLowerCase()] ?? gap
    const hex = byte ?? unit ?? point ?? reference
    const code = hex !== undefined ? parseInt(hex, 16) : octal !== undefined ? parseInt(octal, 8) : Number(decimal)
    return code <= 0x10ffff ? String.fromCodePoint(code) : gap
  })

/** Of URLs, quoted-printable, JSON, JavaScript, C, HTML and XML. */
const escapes =
  /(?:%|=|\\x)([0-9a-f]{2})|[%\\]u([0-9a-f]{4})|\\u\{([0-9a-f]{1,6})\}|&#x([0-9a-f]{1,6});?|&#([0-9]{1,7});?|\\([0-3][0-7]{2})|&(amp|apos|gt|lt|quot);|\\(.)/gi

const named: Readonly<Record<string, string>> = { amp: "&", apos: "'", gt: ">", lt: "<", quot: "\"" }

const fromDecimal = (word: string): string =>
  /^[0-9]{1,3}$/.test(word) && Number(word) <= 0xff ? String.fromCharCode(Number(word)) : gap

const fromHex = (word: string): string => {
  const digits = word.replace(/^0x/i, "")
  return /^(?:[0-9a-f]{2})+$/i.test(digits) ? Buffer.from(digits, "hex").toString("latin1") : gap
}
