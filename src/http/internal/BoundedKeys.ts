/**
 * State by key that can't grow without bound. What is pinned or busy stays; of the rest, when the place runs out, one that was not
 * asked for since it was last looked at goes (second chance). Every operation is O(1), amortised.
 */
export class BoundedKeys<V> {
  private readonly evictable = new Map<string, { readonly value: V; touched: boolean }>()
  private readonly pinned = new Map<string, V>()
  private readonly max: number
  private readonly make: (key: string) => V
  private readonly isBusy: (value: V) => boolean
  /** How often a key was refused because no place could be made. */
  refusals = 0

  constructor(max: number, make: (key: string) => V, isBusy: (value: V) => boolean = () => false) {
    this.max = Math.max(1, max)
    this.make = make
    this.isBusy = isBusy
  }

  /** The state of a key, made on first sight; `undefined` when no place can be made. */
  get(key: string): V | undefined {
    const found = this.find(key)
    if (found !== undefined) return found
    if (this.evictable.size + this.pinned.size >= this.max && !this.evictOne()) {
      this.refusals++
      return undefined
    }
    return this.add(key)
  }

  /** The state of a key, made on first sight even when that exceeds the bound: for the few keys that a person names. */
  force(key: string): V {
    return this.find(key) ?? this.add(key)
  }

  /** The state of a key, if there is one. */
  find(key: string): V | undefined {
    const entry = this.evictable.get(key)
    if (entry === undefined) return this.pinned.get(key)
    entry.touched = true
    return entry.value
  }

  /** Keeps a key's state, if it is still this one. */
  pin(key: string, value: V): void {
    if (this.evictable.get(key)?.value !== value) return
    this.evictable.delete(key)
    this.pinned.set(key, value)
  }

  /** Gives a key's state up for eviction, if it is still this one. */
  unpin(key: string, value: V): void {
    if (this.pinned.get(key) !== value) return
    this.pinned.delete(key)
    this.evictable.set(key, { value, touched: true })
  }

  get size(): number {
    return this.evictable.size + this.pinned.size
  }

  private add(key: string): V {
    const value = this.make(key)
    this.evictable.set(key, { value, touched: false })
    return value
  }

  private evictOne(): boolean {
    // Two rounds at most: the first may find all of them touched. And a search among busy ones ends soon.
    let steps = this.evictable.size * 2
    let busy = 0
    for (const [key, entry] of this.evictable) {
      if (steps-- === 0 || busy > mostBusy) return false
      this.evictable.delete(key)
      if (this.isBusy(entry.value)) busy++
      else if (!entry.touched) return true
      entry.touched = false
      this.evictable.set(key, entry)
    }
    return false
  }
}

// --- internal

const mostBusy = 64
