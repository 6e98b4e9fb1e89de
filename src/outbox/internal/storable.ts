/** Whether PostgreSQL takes a text: NUL characters and halves of surrogate pairs it doesn't, so nothing that is stored has them. */
export const isStorable = (text: string): boolean => !/[\0\p{Surrogate}]/u.test(text)

/** A text of a person as it is kept and shown: at most `length` characters, without any that control a terminal or the direction of writing. */
export const toStorable = (text: string, length: number): string =>
  text.slice(0, length).replace(/[\p{Control}\p{Surrogate}\p{Bidi_Control}]/gu, " ")

/** An id that was asked for, for errors and spans: what can't be one may be anything, a secret in the wrong place too. */
export const asId = (text: string): string => /^[\w.-]{1,128}$/.test(text) ? text : "(not an id)"
