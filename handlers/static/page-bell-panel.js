// What the bell opens: the list of entries with its filters, and what is done to many of them at once.

import { EVERYTHING, Entries } from "./page-bell-entries.js";
import { EntryRow } from "./page-bell-entry.js";
import { TYPES } from "./page-bell-words.js";
import { Keyed, h, setAttribute, setText } from "./page-dom.js";

const AGE_EVERY_MS = 30_000;

const STATES = { "": "All", unread: "Unread", archived: "Archived" };

const NOTHING = {
  "": "Nothing here yet. You are told of mentions, answers, items assigned to you, and news of what you follow.",
  unread: "You have read everything.",
  archived: "Nothing is archived. Archived notifications disappear after some time.",
};

/** Where the arrow keys lead from row `index` of `length`. */
const STEPS = {
  ArrowDown: (index, length) => Math.min(index + 1, length - 1),
  ArrowUp: (index) => Math.max(index - 1, 0),
  Home: () => 0,
  End: (_index, length) => length - 1,
};

export class Panel {
  #page;
  #entries;
  #rows;
  // List element -> row, to move among them by key.
  #rowOf = new WeakMap();
  #projects = null;
  // What the reader can have seen here when the list was last drawn.
  #watermark = 0;
  #offs = [];
  #timer = null;
  #parts;

  /** `store`: the inbox. `leave()` is called when the reader goes where an entry leads. */
  constructor(page, store, leave) {
    this.#page = page;
    this.store = store;
    this.leave = leave;
    this.#entries = new Entries((...call) => page.request(...call), store);
    const state = (value) => {
      const looks = { type: "button", class: "quiet", "data-state": value };
      return h("button", { ...looks, click: () => this.#filter({ state: value }) }, STATES[value]);
    };
    const select = (name, label) =>
      h("select", { "aria-label": label, change: (event) => this.#filter({ [name]: event.target.value }) });
    const types = Object.entries(TYPES).map(([value, { label }]) => h("option", { value }, label));
    this.#parts = {
      states: Object.keys(STATES).map(state),
      type: select("type", "Type"),
      project: select("project_id", "Project"),
      markAll: h("button", { type: "button", class: "quiet", click: () => this.#markAll() }),
      problem: h("p", { class: "problem", role: "alert" }),
      again: h("button", { type: "button", class: "quiet", hidden: true, click: () => this.#filter({}) }, "Try again"),
      list: h("ul", { class: "entries", keydown: (event) => this.#step(event) }),
      empty: h("p", { class: "empty", role: "status" }),
      more: h("button", { type: "button", class: "quiet", click: () => this.#more() }),
    };
    const { states, type, project, markAll, problem, again, list, empty, more } = this.#parts;
    type.append(h("option", { value: "" }, "All types"), ...types);
    this.#rows = new Keyed(list, () => this.#makeRow());
    const title = h("h2", { id: "inbox-title" }, "Notifications");
    const preferences = h("a", { href: "#/preferences", click: leave }, "Preferences");
    const show = h("div", { class: "states", role: "group", "aria-label": "Show" }, ...states);
    this.element = h(
      "section",
      { id: "inbox", class: "inbox", "aria-labelledby": "inbox-title", tabindex: "-1", hidden: true },
      h(
        "header",
        {},
        h("div", {}, title, markAll, preferences),
        h("div", { class: "filters" }, show, type, project),
      ),
      problem,
      again,
      list,
      empty,
      more,
    );
  }

  get isOpen() {
    return !this.element.hidden;
  }

  /** Whether an entry that arrives now is before the reader's eyes. */
  get showsEverything() {
    return this.isOpen && !this.#entries.filtered;
  }

  open() {
    this.element.hidden = false;
    this.#projects = this.#page.client.subscribe("projects", ({ events }) => this.#takeProjects(events));
    this.#offs = [this.#page.people.on(() => this.#show()), this.#page.subscriptions.on(() => this.#show())];
    this.#timer = setInterval(() => this.#show(), AGE_EVERY_MS);
    this.#page.subscriptions.read();
    this.#filter(EVERYTHING);
    this.element.scrollTop = 0;
  }

  close() {
    if (!this.isOpen) return;
    this.element.hidden = true;
    this.#projects.close();
    for (const off of this.#offs) off();
    clearInterval(this.#timer);
  }

  focusFirst() {
    this.#rowAt(0)?.focus();
  }

  /** What the inbox reported. */
  take(change) {
    this.#entries.take(change);
    if (!this.isOpen) return;
    if (change.snapshot) this.#filter({});
    else this.#show();
  }

  /** A row's entry, as a mutation answered it. */
  changed(entry) {
    this.#entries.learn(entry);
    this.#show();
  }

  projectName(id) {
    return id && this.#projects?.get("project", id)?.name;
  }

  #takeProjects(events) {
    for (const { change, id } of events) if (change === "leave" || change === "delete") this.#entries.forgetProject(id);
    this.#show();
  }

  #makeRow() {
    const row = new EntryRow(this.#page, this);
    this.#rowOf.set(row.element, row);
    return row;
  }

  #rowAt(index) {
    return this.#rowOf.get(this.#parts.list.children[index]);
  }

  async #filter(change) {
    const reading = this.#entries.choose({ ...this.#entries.filter, ...change });
    this.#show();
    await this.#finish(reading, "The list could not be read.");
  }

  async #more() {
    const { list, more } = this.#parts;
    const before = list.children.length;
    const reading = this.#entries.more();
    this.#show();
    await this.#finish(reading, "The rest could not be read.");
    // The button is gone with the last page, and the focus with it.
    const lost = more.hidden && document.activeElement === document.body;
    if (lost) (this.#rowAt(before) ?? this.#rowAt(before - 1))?.focus();
  }

  async #markAll() {
    const { type, project_id: project, state } = this.#entries.filter;
    if (state === "archived" || this.#parts.markAll.getAttribute("aria-disabled")) return;
    const filter = { ...(type && { type }), ...(project && { project_id: project }) };
    // What arrives from now on is not among what the reader has seen, and stays unread.
    const body = { read: true, until: this.#watermark, ...(Object.keys(filter).length && { filter }) };
    await this.#finish(this.#page.change("POST", "/notifications/mark", { body }, this.store), "Nothing was marked.");
  }

  /** Waits for something to be done, and says what to do where it failed. */
  async #finish(doing, failure) {
    const { problem, again } = this.#parts;
    setText(problem, "");
    again.hidden = true;
    try {
      await doing;
    } catch (error) {
      setText(problem, `${failure} ${error.message}`);
      again.hidden = false;
    }
    if (this.isOpen) this.#show();
  }

  #show() {
    const { states, type, project, markAll, list, empty, more, again } = this.#parts;
    const { filter, filtered, reading, hasMore } = this.#entries;
    const counts = this.store.get("counts", "counts");
    const shown = this.#entries.shown();
    this.#watermark = Math.max(counts?.seq ?? 0, ...this.#entries.known().map((entry) => entry.seq));
    for (const button of states) setAttribute(button, "aria-pressed", String(button.dataset.state === filter.state));
    type.value = filter.type;
    this.#showProjects(project, filter.project_id);
    const narrowed = filter.type || filter.project_id;
    setText(markAll, narrowed ? "Mark these read" : "Mark all read");
    const unread = narrowed ? shown.some((entry) => !entry.read_at) : counts?.unread;
    setAttribute(markAll, "aria-disabled", unread && filter.state !== "archived" ? null : "true");
    this.#showRows(shown);
    const nothing = narrowed ? "Nothing matches. Choose other filters." : NOTHING[filter.state];
    setText(empty, shown.length ? "" : reading ? "Loading" : again.hidden ? nothing : "");
    more.hidden = !hasMore;
    setText(more, reading ? "Loading" : "Show older ones");
    setAttribute(list, "aria-busy", reading ? "true" : null);
    setAttribute(this.element, "data-filtered", filtered);
  }

  #showRows(shown) {
    const { list } = this.#parts;
    const held = document.activeElement?.closest(".entry");
    const index = [...list.children].indexOf(held);
    this.#rows.update(shown.map((entry) => [entry.id, entry]));
    // What was archived or read under a filter goes; the next one takes its place, and the focus.
    if (index >= 0 && !held.isConnected) (this.#rowAt(Math.min(index, shown.length - 1)) ?? this.element).focus();
  }

  /** Those that entries are about: other projects would only lead to empty lists. */
  #showProjects(select, chosen) {
    const ids = new Set(this.#entries.known().map((entry) => entry.subject.project_id));
    const options = [...ids]
      .filter((id) => this.projectName(id))
      .map((id) => [id, this.projectName(id)])
      .sort(([, a], [, b]) => a.localeCompare(b));
    const wanted = JSON.stringify(options);
    // Written only when it differs: an open list would close.
    if (select.dataset.options !== wanted) {
      select.dataset.options = wanted;
      const named = options.map(([value, name]) => h("option", { value }, name));
      select.replaceChildren(h("option", { value: "" }, "All projects"), ...named);
    }
    select.value = chosen;
  }

  #step(event) {
    const row = event.target.closest(".entry");
    const step = STEPS[event.key];
    if (!row || !step || event.ctrlKey || event.metaKey || event.altKey) return;
    const rows = [...this.#parts.list.children];
    event.preventDefault();
    this.#rowOf.get(rows[step(rows.indexOf(row), rows.length)]).focus();
  }
}
