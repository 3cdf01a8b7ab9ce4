// Small helpers for building the page. Text only ever becomes text nodes, never markup.

/** An element. Functions become listeners, `true` an empty attribute, null and false none; strings become text. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else setAttribute(element, name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Writes an attribute only where it differs: an unchanged one must not wake up a screen reader. */
export function setAttribute(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value === true ? "" : value)) {
    element.setAttribute(name, value === true ? "" : value);
  }
}

/** Writes text only where it differs. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Keeps the children of an element in step with a list: what is there already stays the same node, focus and all. */
export class Keyed {
  #parent;
  #create;
  #rows = new Map();

  /** `create(value)` answers `{element, update(value)}`. */
  constructor(parent, create) {
    this.#parent = parent;
    this.#create = create;
  }

  /** `entries`: `[key, value]` pairs in the order in which they are to stand. */
  update(entries) {
    const focused = document.activeElement;
    const wanted = new Set(entries.map(([key]) => key));
    for (const [key, row] of this.#rows) {
      if (wanted.has(key)) continue;
      row.element.remove();
      this.#rows.delete(key);
    }
    let place = this.#parent.firstElementChild;
    for (const [key, value] of entries) {
      if (!this.#rows.has(key)) this.#rows.set(key, this.#create(value));
      const row = this.#rows.get(key);
      row.update(value);
      if (row.element === place) place = place.nextElementSibling;
      else this.#parent.insertBefore(row.element, place);
    }
    // A node that was moved has lost the focus.
    if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  }
}

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const YEAR = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });

/** A time as people write it: today the hour, this year the day, else the year as well. */
export function when(iso) {
  const time = new Date(iso);
  const now = new Date();
  if (time.toDateString() === now.toDateString()) return TIME.format(time);
  return time.getFullYear() === now.getFullYear()
    ? `${DAY.format(time)}, ${TIME.format(time)}`
    : YEAR.format(time);
}

/** A day, without the hour. */
export function day(iso) {
  return YEAR.format(new Date(iso));
}

/** A `<time>` that shows `when` and says the whole on hovering. */
export function timeElement(iso) {
  return h("time", { datetime: iso, title: WHOLE.format(new Date(iso)) }, when(iso));
}

/** An address that a link may go to, or null. */
export function webAddress(text) {
  if (!text || !URL.canParse(text, location.href)) return null;
  const url = new URL(text, location.href);
  return ["http:", "https:"].includes(url.protocol) ? url.href : null;
}

/** "1 comment", "2 comments". */
export function count(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}
