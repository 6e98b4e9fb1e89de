/** The names of tenants: the same rule for events and endpoints, or an event's tenant could be one that no endpoint can have. */

/** Whether a text may name a tenant. Half a character is none: databases keep something else in its place. */
export const isTenant = (text: string): boolean =>
  text.length <= 128 && text.trim() !== "" && text === text.trim() && !/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(text)

/** What is said of a text that may not. */
export const tenantProblem =
  "must be 1 to 128 characters, without control characters and without white space at its ends"
