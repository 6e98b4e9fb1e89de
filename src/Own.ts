/**
 * What was made here (the way in which a client or a sender sends) and takes its options for all that they mean. What a host makes, puts around ours or in its place
 * need not know of them.
 */
const own = new WeakSet<object>()

/** Says that a function was. */
export const register = <A extends object>(made: A): A => {
  own.add(made)
  return made
}

/** Whether it was. */
export const isOwn = (made: object): boolean => own.has(made)
