// The log of changes of a project or an item: the newest first, older ones page by page, new ones as they come.

import { sentence } from "./page-activity-words.js";
import { Keyed, ago, h, setAttribute, setText, timeElement } from "./page-dom.js";

const PAGE = 30;
const AGE_EVERY_MS = 30_000;

export class ActivityLog {
  #page;
  #view;
  #isOpen = false;
  // What is shown is about this item; null: about all of the project; undefined: nothing yet.
  #itemId = undefined;
  #entries = new Map();
  #cursor = null;
  // What is being read. An older question that is answered later finds another one here.
  #reading = null;
  #off = null;
  #timer = null;
  #rows;
  #parts;

  constructor(page, view) {
    this.#page = page;
    this.#view = view;
    this.#parts = {
      scope: h("p", { class: "hint" }),
      list: h("ol", { class: "log", "aria-label": "Changes, newest first" }),
      empty: h("p", { class: "empty", role: "status" }),
      problem: h("p", { class: "problem", role: "alert" }),
      more: h("button", { type: "button", class: "quiet", hidden: true, click: () => this.#more() }),
    };
    const { scope, list, empty, problem, more } = this.#parts;
    this.#rows = new Keyed(list, () => entryRow(page, view));
    this.element = h("div", {}, scope, list, empty, problem, more);
  }

  /** Begins to show, and to listen. */
  open() {
    this.#isOpen = true;
    this.#off = this.#view.store.on("change", (change) => this.#take(change));
    this.#timer = setInterval(() => this.#show(), AGE_EVERY_MS);
    this.#itemId = undefined;
    const { itemIds } = this.#view;
    this.show(itemIds.length === 1 ? itemIds[0] : null, { several: itemIds.length > 1 });
  }

  close() {
    this.#isOpen = false;
    this.#off?.();
    clearInterval(this.#timer);
  }

  /** Shows the log of an item, or with null that of the project, also where `several` items are selected. */
  show(itemId, { several }) {
    if (!this.#isOpen) return;
    setText(this.#parts.scope, several ? "These are the changes of the whole project." : "");
    if (itemId !== this.#itemId) {
      this.clear();
      this.#itemId = itemId;
      this.#read(null);
    }
    this.#show();
  }

  clear() {
    this.#itemId = undefined;
    this.#reading = null;
    this.#cursor = null;
    this.#entries.clear();
    this.#rows.update([]);
  }

  #take({ snapshot, events }) {
    if (this.#itemId === undefined || this.#view.store.state === "gone") return;
    // After a gap nobody knows what happened in it.
    if (snapshot) this.#read(null);
    const found = events.filter(({ kind, doc }) => kind === "activity" && doc && this.#concerns(doc));
    for (const { doc } of found) this.#entries.set(doc.id, doc);
    if (found.length) this.#show();
  }

  #concerns(activity) {
    return this.#itemId === null || activity.item_id === this.#itemId;
  }

  /** Reads a page; without a cursor the first one, in the place of all that was read before. */
  async #read(cursor) {
    const reading = (this.#reading = {});
    const { problem, more } = this.#parts;
    const about = { ...(this.#itemId !== null && { item_id: this.#itemId }), ...(cursor && { cursor }) };
    const query = new URLSearchParams({ limit: PAGE, ...about });
    const known = new Set(this.#entries.keys());
    setText(problem, "");
    this.#show();
    try {
      const path = `/projects/${encodeURIComponent(this.#view.projectId)}/activities?${query}`;
      const { body } = await this.#page.request("GET", path);
      if (reading !== this.#reading) return;
      // What arrived while the page was on its way is newer, and stays.
      if (!cursor) for (const id of known) this.#entries.delete(id);
      for (const entry of body.items) this.#entries.set(entry.id, entry);
      this.#cursor = body.next_cursor ?? null;
    } catch (error) {
      if (reading !== this.#reading) return;
      setText(problem, `The changes could not be read. ${error.message}`);
      more.dataset.again = cursor ?? "";
    }
    this.#reading = null;
    this.#show();
  }

  async #more() {
    if (this.#reading) return;
    const { list, more, problem } = this.#parts;
    const before = list.children.length;
    await this.#read(problem.textContent ? more.dataset.again || null : this.#cursor);
    // The button is gone with the last page, and the focus with it.
    const lost = more.hidden && document.activeElement === document.body;
    if (lost) list.children[Math.min(before, list.children.length - 1)]?.focus();
  }

  #show() {
    const { list, empty, problem, more } = this.#parts;
    const entries = [...this.#entries.values()].sort(newestFirst);
    this.#rows.update(entries.map((entry) => [entry.id, entry]));
    const failed = problem.textContent !== "";
    setText(empty, entries.length || failed ? "" : this.#reading ? "Loading" : "Nothing has been changed yet.");
    more.hidden = !failed && (this.#cursor === null || entries.length === 0);
    setText(more, this.#reading ? "Loading" : failed ? "Try again" : "Show older ones");
    setAttribute(list, "aria-busy", this.#reading ? "true" : null);
  }
}

/** Ids are made in the order of time, and tell apart what happened in one moment. */
function newestFirst(a, b) {
  return b.at.localeCompare(a.at) || (a.id < b.id ? 1 : -1);
}

function entryRow(page, view) {
  const words = h("span");
  const at = h("span", { class: "hint" });
  const project = `#/projects/${encodeURIComponent(view.projectId)}`;
  const context = {
    nameOf: (id) => page.people.nameOf(id),
    itemOf: (id) => view.store.get("item", id),
    address: (kind, id) => `${project}/${kind}/${encodeURIComponent(id)}`,
  };
  return {
    element: h("li", { tabindex: "-1" }, words, " ", at),
    update(entry) {
      const nodes = sentence(entry, context);
      const text = nodes.map((node) => node.textContent ?? node).join("");
      const links = nodes.filter((node) => node.href).length;
      // Written only when it says something else: whoever is on a link would lose it.
      if (words.textContent !== text || words.querySelectorAll("a").length !== links) words.replaceChildren(...nodes);
      if (at.textContent !== ago(entry.at)) at.replaceChildren(timeElement(entry.at, ago(entry.at)));
    },
  };
}
