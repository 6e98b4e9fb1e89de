/** Text that may hold a credential in the wrong place, made safe to show. */

/**
 * The text up to where something begins that looks like a credential, then `...`: a known prefix, what follows a scheme of authorization, a
 * URL's `//` or a header's colon, or a long run of letters and digits in no order.
 */
export const withoutCredential = (text: string): string => {
  const known = Math.min(...marks.map((mark) => endOf(mark.exec(text))))
  const at = known < text.length ? known : startOfRandom(text)
  return at < text.length ? `${text.slice(0, at)}...` : text
}

// --- internal

const marks: ReadonlyArray<RegExp> = [
  /wh(?:sec|sk)_/i,
  /:\/\//,
  /^[A-Za-z0-9_-]+[:=] */,
  /\b(?:basic|bearer|digest|token) +/i,
  /(?:^|[^A-Za-z0-9])(?:sk|pk|rk)_(?:live|test)_/i,
  /(?:^|[^A-Za-z0-9])(?:sk-|gh[oprsu]_|github_pat_|glpat-|xox[a-z]-|shp[a-z]{2}_|npm_|AKIA|AIza|eyJ|-----BEGIN)/
]

const endOf = (match: RegExpExecArray | null): number => match === null ? Infinity : match.index + match[0].length

// Words of a name are few; keys go to and fro between capitals, small letters and digits.
const startOfRandom = (text: string): number => {
  for (const { 0: run, index } of text.matchAll(/[A-Za-z0-9+/=_-]{16,}/g)) {
    const changes = run.match(/[0-9](?=[A-Za-z])|[A-Za-z](?=[0-9])/g)?.length ?? 0
    if (changes >= 4) return index + 4
  }
  return Infinity
}
