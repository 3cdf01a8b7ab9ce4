// A long list of which only the rows in sight exist, so that thousands cost no more than dozens. Rows may differ in height.

import { Keyed, setAttribute } from "./page-dom.js";

// So much beyond both edges of the window is ready before anybody scrolls there.
const SPARE_PX = 500;
// Until one was measured.
const USUAL_PX = 64;

export class RowWindow {
  #list;
  #tail;
  #rows;
  #pinned;
  #entries = [];
  #places = new Map();
  // Key -> height in pixels, as measured; and from that where each row begins, with the end of the last one behind.
  #heights = new Map();
  // Until a row is measured: the height of the first one of its kind (`kindOf`).
  #usual = new Map();
  #tops = new Float64Array(1);
  #width = 0;
  #frame = null;
  #offs;

  /** `tail` stands below `list` and keeps its length. `pinned()` answers the keys whose rows exist wherever they are. */
  constructor({ list, tail, create, pinned }) {
    this.#list = list;
    this.#tail = tail;
    this.#pinned = pinned;
    this.#rows = new Keyed(list, create);
    const soon = () => this.#renderSoon();
    const sizes = new ResizeObserver(soon);
    sizes.observe(list);
    addEventListener("scroll", soon, { passive: true });
    addEventListener("resize", soon);
    this.#offs = [
      () => sizes.disconnect(),
      () => removeEventListener("scroll", soon),
      () => removeEventListener("resize", soon),
    ];
  }

  close() {
    for (const off of this.#offs) off();
    cancelAnimationFrame(this.#frame);
  }

  /** The row of a key, if it exists at the moment. */
  get(key) {
    return this.#rows.get(key);
  }

  /** All rows: each entry has a `key`, and is what the row's `update` is called with. */
  show(entries) {
    this.#entries = entries;
    this.#places = new Map(entries.map(({ key }, place) => [key, place]));
    if (this.#heights.size > 2 * entries.length + 1000) {
      for (const key of this.#heights.keys()) if (!this.#places.has(key)) this.#heights.delete(key);
    }
    this.render();
  }

  /** Where a key stands; undefined where it does not. */
  placeOf(key) {
    return this.#places.get(key);
  }

  /** How many rows fit into the window. */
  get page() {
    return Math.max(1, Math.floor(innerHeight / (this.#usual.get("item") ?? USUAL_PX)) - 1);
  }

  /** Makes the rows that are in sight. What is being looked at stays where it is on the screen. */
  render() {
    const anchor = this.#anchor();
    const before = anchor?.getBoundingClientRect().top;
    this.#measureAnew();
    this.#layOut();
    // Asked for once: after every change the browser has to lay out the page to be able to answer.
    const top = -this.#list.getBoundingClientRect().top;
    // New rows tell their height only now, and that may bring others into sight.
    for (let round = 0; round < 3; round += 1) {
      const made = this.#draw(top);
      if ((round > 0 && !made) || !this.#measure()) break;
      this.#layOut();
    }
    if (!anchor?.isConnected) return;
    const moved = anchor.getBoundingClientRect().top - before;
    if (Math.abs(moved) < 1) return;
    scrollBy({ top: moved, behavior: "instant" });
    this.#renderSoon();
  }

  #renderSoon() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.render();
    });
  }

  /** What must not move: what has the focus, or the row that is pointed at, or else the first one in sight. */
  #anchor() {
    const inSight = (element) => {
      const { top, bottom } = element.getBoundingClientRect();
      return bottom > 0 && top < innerHeight;
    };
    const focused = document.activeElement;
    if (this.#list.contains(focused) && inSight(focused)) return focused;
    const rows = [...this.#list.children];
    const hovered = rows.find((row) => row.matches(":hover"));
    if (hovered) return hovered;
    // Who sees the beginning of the list goes on seeing it.
    if (this.#list.getBoundingClientRect().top >= 0) return null;
    return rows.find(inSight) ?? null;
  }

  #measureAnew() {
    const width = this.#list.clientWidth;
    if (width === this.#width) return;
    this.#width = width;
    this.#heights.clear();
    this.#usual.clear();
  }

  #layOut() {
    const tops = new Float64Array(this.#entries.length + 1);
    this.#entries.forEach((entry, place) => (tops[place + 1] = tops[place] + this.#heightOf(entry)));
    this.#tops = tops;
  }

  #heightOf(entry) {
    return this.#heights.get(entry.key) ?? this.#usual.get(kindOf(entry)) ?? USUAL_PX;
  }

  /** Makes the rows for a window at `top` pixels of the list; answers whether the height of any is not known yet. */
  #draw(top) {
    const tops = this.#tops;
    const from = this.#at(top - SPARE_PX);
    const to = this.#at(top + innerHeight + SPARE_PX);
    const wanted = new Set();
    for (let place = from; place <= to && place < this.#entries.length; place += 1) wanted.add(place);
    for (const key of this.#pinned()) if (this.#places.has(key)) wanted.add(this.#places.get(key));
    const places = [...wanted].sort((a, b) => a - b);
    this.#rows.update(places.map((place) => [this.#entries[place].key, this.#entries[place]]));
    let end = 0;
    for (const place of places) {
      const { element } = this.#rows.get(this.#entries[place].key);
      setPixels(element, "marginTop", tops[place] - end);
      end = tops[place + 1];
    }
    setPixels(this.#tail, "height", tops.at(-1) - end);
    setAttribute(this.#tail, "hidden", tops.at(-1) === end);
    return places.some((place) => !this.#heights.has(this.#entries[place].key));
  }

  /** Learns the heights of the rows that exist; answers whether that changes where others stand. */
  #measure() {
    let changed = false;
    for (const element of this.#list.children) {
      const key = element.dataset.key;
      const height = element.getBoundingClientRect().height;
      if (height === 0) continue;
      const entry = this.#entries[this.#places.get(key)];
      const supposed = this.#heightOf(entry);
      this.#heights.set(key, height);
      const kind = kindOf(entry);
      if (!this.#usual.has(kind)) this.#usual.set(kind, height);
      changed ||= Math.abs(supposed - height) >= 0.5;
    }
    return changed;
  }

  /** The place of the row at so many pixels below the beginning. */
  #at(pixels) {
    let [low, high] = [0, this.#entries.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#tops[middle + 1] <= pixels) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

// What stands above a group is lower than an item.
function kindOf({ item }) {
  return item ? "item" : "group";
}

// The content security policy lets scripts set styles, and no attributes that hold any.
function setPixels(element, property, pixels) {
  const value = pixels ? `${pixels}px` : "";
  if (element.style[property] !== value) element.style[property] = value;
}
