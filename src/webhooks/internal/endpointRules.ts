/**
 * The rules of an endpoint's settings, as schemas.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as DurationText from "../../DurationText.js"
import * as HeaderName from "../../http/HeaderName.js"
import type { Format } from "./endpointFields.js"
import { isTemplate } from "./endpointUrl.js"
import { make, refusing, refusingUnless, type Rule } from "./rule.js"
import { isTenant, tenantProblem } from "./tenant.js"

/** The type of an event: 1 to 128 characters of `[A-Za-z0-9_.-]`; or a pattern: `<type>.*`, `*`. */
export const eventKey: Rule<string> = make(
  "an event type",
  Schema.String.pipe(
    refusing((key) => key.length <= 128, "event_name_too_long", "is longer than 128 characters"),
    refusing(
      (key) => key === "*" || /^[A-Za-z0-9_.-]+(?:\.\*)?$/.test(key),
      "event_name",
      "is not an event type; allowed are 1 to 128 characters of A-Z a-z 0-9 _ . - (type), type.* (all below it) and * (all)"
    )
  )
)

/** 1 to 64 characters of `[A-Za-z0-9_-]`. */
export const id: Rule<string> = make(
  "a string",
  Schema.String.pipe(
    refusing((text) => /^[A-Za-z0-9_-]{1,64}$/.test(text), "id", "must be 1 to 64 characters of A-Z a-z 0-9 _ -")
  )
)

export const text: Rule<string> = make("a string", Schema.String)

/** The name of a variable or the path of a file. */
export const reference: Rule<string> = make(
  "a string",
  Schema.String.pipe(
    refusing(
      (name) => name.trim() !== "" && name.length <= 4096 && !control.test(name),
      "reference",
      "must be the name of a variable or the path of a file: not blank, without control characters"
    )
  )
)

export const enabled: Rule<boolean> = make("true or false", Schema.Boolean)

export const timeout: Rule<Duration.Duration> = make(
  "a string such as \"10s\" or \"10 seconds\"",
  Schema.transform(
    Schema.String.pipe(refusing(
      (duration) => Option.exists(DurationText.parse(duration), inRange),
      "timeout",
      "must be a duration such as 500ms, 10s or \"10 seconds\", more than zero and at most an hour"
    )),
    Schema.DurationFromSelf,
    {
      strict: true,
      decode: (duration) => Option.getOrElse(DurationText.parse(duration), () => Duration.zero),
      encode: (duration) => `${Duration.toMillis(duration)}ms`
    }
  )
)

export const maxConcurrency: Rule<number> = make(
  "a number",
  Schema.Number.pipe(
    refusing(
      (count) => Number.isInteger(count) && count >= 1 && count <= 1000,
      "max_concurrency",
      "must be a whole number from 1 to 1000"
    )
  )
)

export const rateLimit: Rule<number> = make(
  "a number",
  Schema.Number.pipe(
    refusing(
      (perSecond) => perSecond >= 0.00001 && perSecond <= 1000,
      "rate_limit",
      "must be attempts per second, from 0.00001 (about one a day) to 1000"
    )
  )
)

export const ordered: Rule<boolean> = make("true or false", Schema.Boolean)

export const format: Rule<Format> = make(
  "a string",
  Schema.String.pipe(refusingUnless(isFormat, "format", "must be \"event\", \"standard\" or \"cloudevents\""))
)

export const tenant: Rule<string> = make(
  "a string",
  Schema.String.pipe(
    refusing(isTenant, "tenant", tenantProblem)
  )
)

export const description: Rule<string> = make(
  "a string",
  Schema.String.pipe(
    refusing(
      (words) => words.length <= 1024 && !control.test(words),
      "description",
      "must be at most 1024 characters, without control characters"
    )
  )
)

/** A token (RFC 9110, section 5.6.2) that neither the library nor the transport sets; `correlation` is the correlation header's name. */
export const headerName = (correlation: string): Rule<string> =>
  make(
    "a string",
    Schema.String.pipe(
      refusing(HeaderName.isToken, "header_name", "is not a header name: 1 to 128 letters, digits and !#$%&'*+-.^_`|~"),
      refusing(
        (name) => !HeaderName.isReserved(name) && name.toLowerCase() !== correlation.toLowerCase(),
        "header_reserved",
        "is set by the library or the transport and can't be configured"
      )
    )
  )

export const headerValue: Rule<string> = make(
  "a string",
  Schema.String.pipe(
    refusing((value) => value.length <= 8192, "header_value", "is longer than 8192 characters"),
    refusing(
      // Beyond ASCII receivers read what they like (RFC 9110 §5.5).
      (value) => /^[\t\x20-\x7e]*$/.test(value),
      "header_value",
      "contains a line break, another control character or a character outside ASCII; none are allowed"
    ),
    refusing(
      (value) => !/^[\t ]|[\t ]$/.test(value),
      "header_value",
      "begins or ends with white space, which HTTP would drop"
    ),
    refusing((value) => !isTemplate(value), "header_value", "is or contains a placeholder that was never filled in")
  )
)

// --- internal

const control = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u

// Hoisted: the rules above ask for these when the module loads.

function isFormat(name: string): name is Format {
  return name === "event" || name === "standard" || name === "cloudevents"
}

function inRange(duration: Duration.Duration): boolean {
  return Duration.greaterThan(duration, Duration.zero) && Duration.lessThanOrEqualTo(duration, Duration.hours(1))
}
