/** The senders that take their options for all that they mean: ours. */
const own = new WeakSet<object>()

/** Says that a sender does. */
export const register = <A extends object>(sender: A): A => {
  own.add(sender)
  return sender
}

/** Whether a sender does. */
export const isOwn = (sender: object): boolean => own.has(sender)
