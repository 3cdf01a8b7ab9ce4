// <copydesk-bell>: how much is unread in the reader's inbox, and what it is.

import { CopydeskElement } from "./element-shared.js";
import { BELL, TYPES, addressOf, happening, textOf } from "./page-bell-words.js";
import { Keyed, h, icon, setAttribute, setText, timeElement } from "./page-dom.js";

// More do not fit on the badge, and nobody counts them.
const MOST_SHOWN = 99;
const MOST_LISTED = 30;

const look = new CSSStyleSheet();
look.replaceSync(`
:host { display: inline-block; position: relative; }
[part="button"] { position: relative; display: grid; place-items: center; width: 2.5rem; padding: 0; }
[part="badge"] { position: absolute; top: -0.5rem; right: -0.5rem; min-width: 1.3rem; padding: 0 0.3rem;
  background: var(--accent); border-radius: 0.7rem; color: var(--on-accent); font-size: 0.75rem; font-weight: 700;
  line-height: 1.3rem; text-align: center; }
[part="badge"]:empty { display: none; }
section { position: absolute; z-index: 10; inset-inline-end: 0; width: min(24rem, 90vw); max-height: 70vh;
  margin-top: 0.4rem; overflow: auto; background: var(--sheet); border: 1px solid var(--line); border-radius: 0.5rem;
  box-shadow: 0 0.75rem 2.5rem rgb(0 0 0 / 22%); color: var(--on-sheet); }
header { display: flex; justify-content: space-between; align-items: center; gap: var(--gap); }
header, section > :is(.hint, .problem), .row { padding: 0.6rem var(--gap); }
.row { flex-wrap: nowrap; align-items: start; border-top: 1px solid var(--line); border-bottom: 0;
  border-inline-start: 3px solid transparent; }
.row > .hint { flex: none; }
[data-unread] { border-inline-start-color: var(--accent); background: color-mix(in srgb, var(--accent) 8%, transparent); }
[data-unread] .name { font-weight: bold; }
`);

export class CopydeskBell extends CopydeskElement {
  static look = [look];
  #store = null;
  #rows;
  #parts;
  #outside = (event) => {
    if (!event.composedPath().includes(this)) this.#toggle(false);
  };

  build() {
    const list = h("ul", { part: "entries" });
    const badge = h("span", { part: "badge", "aria-hidden": "true" });
    const parts = {
      badge,
      list,
      button: h("button", { type: "button", part: "button", "aria-expanded": "false", click: () => this.#toggle() }),
      mark: h("button", { type: "button", click: () => this.#mark({ read: true }) }, "Mark all read"),
      empty: h("p", { class: "hint" }),
      problem: h("p", { class: "problem", role: "alert" }),
    };
    parts.button.append(icon(BELL), badge);
    const title = h("h2", {}, "Notifications");
    const { mark, problem, empty } = parts;
    const body = [h("header", {}, title, mark), problem, list, empty];
    parts.panel = h("section", { part: "panel", "aria-label": "Notifications", hidden: true }, ...body);
    this.#parts = parts;
    this.#rows = new Keyed(list, () => entryRow(this));
    parts.panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.#toggle(false);
      parts.button.focus();
    });
    return [parts.button, parts.panel];
  }

  open() {
    this.#store = this.client.subscribe("inbox", () => {
      this.showSoon();
      this.#seen();
    });
  }

  shut() {
    this.#toggle(false);
    this.#store?.close();
    this.#store = null;
  }

  /** Marks an entry as read because it was opened. */
  async opened(entry) {
    if (entry.read_at) return;
    await this.#try("PATCH", `/notifications/${encodeURIComponent(entry.id)}`, { read: true });
  }

  show() {
    const { button, badge, mark, empty, panel } = this.#parts;
    const { unread = 0, unseen = 0 } = this.#store.get("counts", "counts") ?? {};
    const label = ["Notifications", unread && `${unread} unread`, unseen && `${unseen} new`].filter(Boolean).join(", ");
    setAttribute(button, "aria-label", label);
    setText(badge, unread > MOST_SHOWN ? `${MOST_SHOWN}+` : unread ? String(unread) : "");
    mark.hidden = unread === 0;
    if (panel.hidden) return;
    const entries = this.#store
      .documents("notification")
      .sort((a, b) => b.updated_at.localeCompare(a.updated_at) || (a.id < b.id ? 1 : -1))
      .slice(0, MOST_LISTED);
    this.#rows.update(entries.map((entry) => [entry.id, entry]));
    setText(empty, entries.length ? "" : "Nothing here yet.");
  }

  #toggle(open = this.#parts.panel.hidden) {
    const { panel, button } = this.#parts;
    panel.hidden = !open;
    setAttribute(button, "aria-expanded", String(open));
    if (!open) {
      document.removeEventListener("pointerdown", this.#outside);
      return;
    }
    document.addEventListener("pointerdown", this.#outside);
    this.show();
    this.#seen();
  }

  #seen() {
    const { unseen } = this.#store.get("counts", "counts") ?? {};
    if (unseen && !this.#parts.panel.hidden && document.visibilityState === "visible") this.#mark({ seen: true });
  }

  #mark(what) {
    const until = this.#store.get("counts", "counts")?.seq ?? 0;
    return this.#try("POST", "/notifications/mark", { ...what, until });
  }

  async #try(method, path, body) {
    setText(this.#parts.problem, "");
    try {
      await this.change(method, path, { body }, this.#store);
    } catch (error) {
      setText(this.#parts.problem, `Nothing was changed. ${error.message}`);
    }
  }
}

function entryRow(bell) {
  let entry = null;
  const what = h("p", { class: "hint" });
  const at = h("span", { class: "hint" });
  const open = (event) => {
    bell.opened(entry);
    if (!bell.tell("copydesk-open", { notification: entry })) event.preventDefault();
  };
  const name = h("a", { class: "name", target: "_blank", rel: "noopener noreferrer", click: open });
  const text = h("p", { class: "body" });
  const element = h("li", { class: "row", part: "entry" }, h("div", {}, what, name, text), at);
  return {
    element,
    update(given) {
      entry = given;
      const address = addressOf(entry);
      setAttribute(element, "data-unread", !entry.read_at);
      setAttribute(element, "data-type", TYPES[entry.type] ? entry.type : null);
      setText(what, happening(entry, (id) => bell.nameOf(id)));
      setText(name, entry.title);
      setAttribute(name, "href", address?.startsWith("#") ? `${bell.server}/${address}` : address);
      setText(text, textOf(entry.type, entry.body));
      at.replaceChildren(timeElement(entry.updated_at));
    },
  };
}

customElements.define("copydesk-bell", CopydeskBell);
