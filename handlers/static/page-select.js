// Which of many rows are selected, as file managers do it. Pure: no page.

export class Selection {
  #ids = new Set();
  // Where a range begins that Shift extends.
  #anchor = null;

  get size() {
    return this.#ids.size;
  }

  /** The selected ids, the first selected first. */
  get ids() {
    return [...this.#ids];
  }

  has(id) {
    return this.#ids.has(id);
  }

  only(id) {
    this.#ids = new Set([id]);
    this.#anchor = id;
  }

  toggle(id) {
    if (!this.#ids.delete(id)) this.#ids.add(id);
    this.#anchor = id;
  }

  /** From the anchor to `id` in `order`; with `add` beside what is selected already. */
  extend(id, order, { add = false } = {}) {
    const to = order.indexOf(id);
    // The anchor may have gone since, with the row that it was.
    const from = this.#anchor === null ? to : order.indexOf(this.#anchor);
    if (from < 0) {
      this.only(id);
      return;
    }
    const range = order.slice(Math.min(from, to), Math.max(from, to) + 1);
    this.#ids = new Set(add ? [...this.#ids, ...range] : range);
    this.#anchor ??= id;
  }

  add(ids) {
    for (const id of ids) this.#ids.add(id);
  }

  remove(ids) {
    for (const id of ids) this.#ids.delete(id);
  }

  clear() {
    this.#ids.clear();
    this.#anchor = null;
  }
}
