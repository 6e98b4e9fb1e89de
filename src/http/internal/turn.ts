import * as Effect from "effect/Effect"

/**
 * One turn of the event loop: what is ready (sockets, timers) goes first. undici gives a connection back a turn after the body's end: a request made before that
 * opens a second one (measured: sequential calls used two connections, with the turn one; it costs 3 µs).
 * No clock is involved, so that a `TestClock` doesn't hold it up.
 */
export const turn: Effect.Effect<void> = Effect.async((resume) => {
  // Not to be taken back: that it comes all the same is nothing, and a finalizer for it makes two masks.
  // eslint-disable-next-line no-restricted-globals -- a turn, and no time
  setImmediate(() => resume(Effect.void))
})
