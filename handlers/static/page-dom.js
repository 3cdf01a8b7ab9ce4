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

/** A labelled control; `more` stands below it. */
export function field(label, control, ...more) {
  return h("div", { class: "field" }, h("label", {}, h("span", {}, label), control), ...more);
}

/** A form that says itself what is missing. `send()` is called to send it, `pressed(event)` for each key. */
export function form({ label, looks = "", hidden = false, send, pressed }, ...content) {
  const submit = (event) => {
    event.preventDefault();
    send();
  };
  const attributes = { class: `editor ${looks}`.trim(), "aria-label": label, novalidate: true, hidden };
  return h("form", { ...attributes, submit, keydown: pressed }, ...content);
}

/** As `form`, opened and closed by a button; Escape is `leave()`. */
export function foldedForm({ leave, ...options }, ...content) {
  const pressed = ({ key }) => {
    if (key === "Escape") leave();
  };
  return form({ ...options, hidden: true, pressed }, ...content);
}

const SVG = "http://www.w3.org/2000/svg";

/** A drawing on 24 by 24, made of lines in the colour of the text beside it. */
export function icon(path) {
  const drawing = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "path");
  setAttribute(drawing, "class", "icon");
  setAttribute(drawing, "viewBox", "0 0 24 24");
  setAttribute(drawing, "aria-hidden", "true");
  setAttribute(line, "d", path);
  drawing.append(line);
  return drawing;
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

  /** The row of a key, as `create` made it; undefined where there is none. */
  get(key) {
    return this.#rows.get(key);
  }

  /**
   * `entries`: `[key, value]` pairs in the order in which they are to stand.
   *
   * A node that is moved loses the focus, an open list of options and what an input method is composing. So the row
   * that has the focus stays, and the others are moved around it.
   */
  update(entries) {
    const wanted = new Set(entries.map(([key]) => key));
    for (const [key, row] of this.#rows) {
      if (wanted.has(key)) continue;
      row.element.remove();
      this.#rows.delete(key);
    }
    const focused = this.#parent.getRootNode().activeElement;
    let place = this.#parent.firstElementChild;
    for (const [key, value] of entries) {
      if (!this.#rows.has(key)) this.#rows.set(key, this.#create(value));
      const row = this.#rows.get(key);
      row.update(value);
      const { element } = row;
      if (element.contains(focused)) {
        // What stands before it and comes later finds its place later.
        while (place !== element) {
          const next = place.nextElementSibling;
          this.#parent.append(place);
          place = next;
        }
      }
      if (element === place) place = place.nextElementSibling;
      else this.#parent.insertBefore(element, place);
    }
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

const RELATIVE = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const UNITS = [
  ["year", 365 * 86_400],
  ["month", 30 * 86_400],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];

/** How long ago a time is, as people say it. */
export function ago(iso) {
  // This machine's clock may be behind the server's; nothing happened in the future.
  const seconds = Math.max(0, (Date.now() - Date.parse(iso)) / 1000);
  const [unit, size] = UNITS.find(([, size]) => seconds >= size) ?? ["second", Infinity];
  return RELATIVE.format(-Math.trunc(seconds / size), unit);
}

/** A day, without the hour. */
export function day(iso) {
  return YEAR.format(new Date(iso));
}

/** A `<time>` that shows `when`, or other words, and says the whole on hovering. */
export function timeElement(iso, words = when(iso)) {
  return h("time", { datetime: iso, title: WHOLE.format(new Date(iso)) }, words);
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
