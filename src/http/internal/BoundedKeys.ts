/**
 * State by key that can't grow without bound. A key whose state matters (`pin`) stays; of the others, when the
 * place runs out, one that was not asked for since it was last looked at goes (second chance).
 * Every operation is O(1), amortised.
 */
export class BoundedKeys<V> {
  private readonly evictable = new Map<string, { readonly value: V; touched: boolean }>()
  private readonly pinned = new Map<string, V>()
  /** How often a key was refused because every place was pinned. */
  refusals = 0

  private readonly max: number
  private readonly make: (key: string) => V

  constructor(max: number, make: (key: string) => V) {
    this.max = max
    this.make = make
  }

  /** The state of a key, made on first sight; `undefined` when all places are pinned by others. */
  get(key: string): V | undefined {
    const found = this.find(key)
    if (found !== undefined) return found
    if (this.evictable.size + this.pinned.size >= this.max && !this.evictOne()) {
      this.refusals++
      return undefined
    }
    const value = this.make(key)
    this.evictable.set(key, { value, touched: false })
    return value
  }

  /** The state of a key, if there is one. */
  find(key: string): V | undefined {
    const entry = this.evictable.get(key)
    if (entry === undefined) return this.pinned.get(key)
    entry.touched = true
    return entry.value
  }

  pin(key: string): void {
    const entry = this.evictable.get(key)
    if (entry === undefined) return
    this.evictable.delete(key)
    this.pinned.set(key, entry.value)
  }

  unpin(key: string): void {
    const value = this.pinned.get(key)
    if (value === undefined) return
    this.pinned.delete(key)
    this.evictable.set(key, { value, touched: true })
  }

  get size(): number {
    return this.evictable.size + this.pinned.size
  }

  private evictOne(): boolean {
    for (const [key, entry] of this.evictable) {
      this.evictable.delete(key)
      if (!entry.touched) return true
      entry.touched = false
      this.evictable.set(key, entry)
    }
    return false
  }
}
