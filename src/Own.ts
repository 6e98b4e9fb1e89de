/** What was made here (a client, a sender) and takes its options for all that they mean. What a host makes, or puts around ours, need not know of them. */
const own = new WeakSet<object>()

/** Says that something was. */
export const register = <A extends object>(made: A): A => {
  own.add(made)
  return made
}

/** Whether it was. */
export const isOwn = (made: object): boolean => own.has(made)
