/**
 * Text from elsewhere, made safe to show in a terminal.
 */

/**
 * The text with every control, format and bidirectional-override character, line separator and lone surrogate written as an escape
 * (`\u001b`, `\n`), and a backslash before none: what is shown is for reading, not for parsing back. At most `limit` characters
 * (default 1 000), then `...`.
 */
export const visible = (text: string, limit = 1000): string => {
  const short = text.length > limit ? `${text.slice(0, limit)}...` : text
  return short.replace(unsafe, (character) => named[character] ?? escape(character))
}

/** A value as JSON on one line, with the same characters as escapes: a terminal that shows it obeys none of them. */
export const jsonText = (value: unknown): string =>
  JSON.stringify(value).replace(unsafe, (character) => character.split("").map(unit).join(""))

// --- internal

// Cc control, Cf format (bidi overrides, zero-width), Cs lone surrogates, Zl and Zp line separators.
const unsafe = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu

const named: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }

const escape = (character: string): string => {
  const code = character.codePointAt(0) ?? 0
  return code > 0xffff ? `\\u{${code.toString(16)}}` : unit(character)
}

const unit = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
