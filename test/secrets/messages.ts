/** The texts of failures: the closed set of our own, and what betrays one of another program's. */

/** Whether the message of a delivery's or a call's failure is of our own making, with nothing in it but URL, numbers and known codes. */
export const isOurs = (message: string): boolean => ours.some((pattern) => pattern.test(message)) && !isForeign(message)

/** Whether a text has something of what parsers, schemas, undici, Node.js, OpenSSL and database drivers write. */
export const isForeign = (text: string): boolean => foreign.some((pattern) => pattern.test(text))

// --- internal

const url = "https?://[A-Za-z0-9.:[\\]-]+(?:/[^\\s?#@]*)?"
const attempts = "; attempts made: \\d+"
const transport =
  "(?:could not connect|the connection broke|the host name could not be resolved|the peer did not answer in valid HTTP|TLS failed)(?: \\([A-Z][A-Z0-9_]{1,63}\\))?"

const ours: ReadonlyArray<RegExp> = [
  `${url} answered with status \\d+(?:; redirects are never followed: configure the final URL)?${attempts}`,
  `${url} gave no answer within [0-9a-z ]+${attempts}`,
  `the deadline of [0-9a-z ]+ for ${url} passed${attempts}`,
  `the retry budget of \\S+ is used up, not retrying ${url} \\((?:status \\d+|${transport})\\)${attempts}`,
  `requests to \\S+ are blocked by the egress policy(?: \\([a-z-]+\\)|: it resolves to an address that is not allowed \\([a-z-]+\\))`,
  `the circuit of \\S+(?: \\(${url}\\))? is open: (?:retry after \\d+ ms|isolated by hand until released)${attempts}`,
  `endpoint \\S+: all its secrets have expired`,
  `the delivery to \\S+ was stopped${attempts}`,
  `Transport: ${transport}${attempts} \\(POST ${url}\\)`,
  `(?:StatusCode|Decode): attempts made: \\d+ \\(\\d+ POST ${url}\\)`
].map((pattern) => new RegExp(`^${pattern}$`))

const foreign: ReadonlyArray<RegExp> = [
  // JSON.parse
  /Unexpected (?:token|end of JSON|non-whitespace)|" is not valid JSON|in JSON at position|Expected property name|Bad control character|Bad escaped/,
  // effect/Schema
  /\bactual\b|└─|Expected .*, actual|Predicate refinement|Encoded side transformation/,
  // undici and Node.js
  /other side closed|socket hang up|getaddrinfo|connect E[A-Z]+|read ECONNRESET|Response does not match|Invalid (?:URL\b|header)|Parse Error|Client network socket|bind E[A-Z]+|Proxy response/,
  // OpenSSL
  /:error:|routines|SSL alert|wrong version number|self[- ]signed certificate|certificate has expired|altnames|unable to verify/i,
  // Drivers
  /SQLITE_ERROR:|syntax error at|password authentication failed|duplicate key value|violates|no such table|role ".*" does not exist|database ".*" does not exist|near "|Failed to execute statement/
]
