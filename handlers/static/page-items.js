// A project's items as a table: filtered, ordered, grouped and selected as one likes, while others change them.

import { BulkBar } from "./page-item-bulk.js";
import { h, setAttribute, setText } from "./page-dom.js";
import { AddItem } from "./page-item-add.js";
import { ItemEditors } from "./page-item-editors.js";
import { ItemKeys } from "./page-item-keys.js";
import { ItemOrder } from "./page-item-order.js";
import { GroupRow, ItemRow } from "./page-item-row.js";
import { ItemTools, readWishes } from "./page-item-tools.js";
import { RowWindow } from "./page-item-window.js";
import { changedFields } from "./page-item-words.js";
import { Selection } from "./page-select.js";


const SILENCE = { comments: 0, open: 0 };

export class ItemsTable {
  #page;
  #view;
  #order = new ItemOrder();
  #selection = new Selection();
  #rows = [];
  #talk = new Map();
  // What stands beside single items, by id. Rows come and go with scrolling, so nothing of it can live in them.
  // Chosen here and not come back as an event yet: {status, version}.
  #chosen = new Map();
  #notes = new Map();
  #changes = new Map();
  #editors;
  #current = null;
  #frame = null;
  #window;
  #tools;
  #keys;
  #bulk;
  #add;
  #parts;

  /**
   * `view`: `{projectId, store, itemId, may(action), nameOf(user), isFresh(kind, id), selected(ids, clicked)}`.
   */
  constructor(page, view) {
    this.#page = page;
    this.#view = view;
    this.#order.choose(readWishes(page.user.id));
    const list = h("div", { class: "items", role: "rowgroup" });
    const tail = h("div", { class: "items-tail", role: "presentation" });
    const empty = h("div", { class: "empty" });
    this.#tools = new ItemTools(this, page.user.id);
    this.#add = new AddItem(page, view, this);
    this.#bulk = new BulkBar(page, view, this);
    this.#editors = new ItemEditors(page, view, {
      saved: (item) => this.took(item),
      closed: (id, ghost) => this.#closed(id, ghost),
    });
    const grid = h(
      "div",
      { class: "grid", role: "grid", "aria-label": "Items", "aria-multiselectable": "true" },
      this.#tools.head,
      list,
      tail,
    );
    this.#parts = { grid, list, empty };
    this.#keys = new ItemKeys(this, grid);
    this.#window = new RowWindow({
      list,
      tail,
      create: (row) => (row.item ? new ItemRow(this, row.item.id) : new GroupRow(this, row.group)),
      pinned: () => [this.#current, this.#keys.focused, ...this.#editors.ids],
    });
    this.element = h(
      "section",
      { class: "content", "aria-labelledby": "items" },
      h("header", { class: "items-head" }, h("h2", { id: "items" }, "Items"), this.#tools.shown, this.#add.opener),
      this.#add.element,
      this.#tools.element,
      empty,
      grid,
      this.#bulk.element,
      this.#editors.element,
    );
  }

  get projectId() {
    return this.#view.projectId;
  }

  get selection() {
    return this.#selection;
  }

  /** Key of the row that the keyboard works on. */
  get current() {
    return this.#current;
  }

  /** Ids of the items that are shown, from top to bottom. */
  get shownIds() {
    return this.#rows.filter(({ item }) => item).map(({ key }) => key);
  }

  /** All rows with `key`, from top to bottom. */
  get rows() {
    return this.#rows;
  }

  get lastRank() {
    return this.#order.lastRank;
  }

  get pageOfRows() {
    return this.#window.page;
  }

  get(id) {
    return this.#order.get(id);
  }

  nameOf(userId) {
    return this.#view.nameOf(userId);
  }

  may(action) {
    return this.#view.may(action);
  }

  close() {
    cancelAnimationFrame(this.#frame);
    this.#window.close();
    this.#keys.close();
    this.#bulk.stop();
  }

  /** Takes in what the store reports; `show` shows it. */
  take({ snapshot, events }) {
    if (snapshot) this.#takeAll();
    for (const event of events) if (event.kind === "item") this.#takeOne(event);
  }

  /** An item as REST answered it: what one did oneself is there at once, and its event changes nothing more. */
  took(item) {
    if (item.version >= (this.#order.get(item.id)?.version ?? 0)) this.#order.put(item);
  }

  /** As `took`, and shows it. */
  put(item) {
    this.took(item);
    this.show();
  }

  showSoon() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.show();
    });
  }

  /** Shows everything again; `talk`: item id -> `{comments, open}`. */
  show(talk = this.#talk) {
    this.#talk = talk;
    const { focused } = this.#keys;
    const before = this.#window.placeOf(this.#current) ?? 0;
    this.#order.settle((id) => this.#isHeld(id));
    this.#rows = this.#order.rows();
    if (!this.#rows.some(({ key }) => key === this.#current)) {
      this.#current = (this.#rows[before] ?? this.#rows.at(-1))?.key ?? null;
    }
    setAttribute(this.#parts.grid, "aria-rowcount", this.shownIds.length + 1);
    setAttribute(this.#parts.grid, "hidden", !this.#order.size);
    this.#window.show(this.#rows);
    // Whoever was at a row that is gone goes on at the one that has its place.
    if (focused && this.#current && this.#window.placeOf(focused) === undefined) this.goTo(this.#current);
    this.#tools.show({ numbers: this.#order.numbers(), shown: this.shownIds.length, total: this.#order.size });
    this.#add.show();
    this.#bulk.show();
    this.#showEmpty();
  }

  /** How an item looks at the moment, apart from what it is. */
  look(item) {
    const { id, version, changed_by: by, assignee } = item;
    const chosen = this.#chosen.get(id);
    if (chosen && version >= chosen.version) this.#chosen.delete(id);
    return {
      may: { edit: this.may("edit") && !this.#editors.isGhost(id), publish: this.may("publish") },
      chosen: this.#chosen.get(id)?.status,
      ...this.#notes.get(id),
      talk: this.#talk.get(id) ?? SILENCE,
      who: by && this.nameOf(by),
      assigned: assignee && this.nameOf(assignee),
      changes: this.#changes.get(id),
      fresh: this.#view.isFresh("item", id),
      selected: this.#selection.has(id),
      current: this.#current === id,
      open: this.#view.itemId === id,
      editor: this.#editors.get(id),
    };
  }

  /** Writes beside an item: `{progress, problem}`; null takes it off. */
  note(id, note) {
    if (note) this.#notes.set(id, note);
    else this.#notes.delete(id);
  }

  choose(wishes) {
    this.#order.choose(wishes);
    this.show();
  }

  get choices() {
    return this.#order.choices;
  }

  fold(group) {
    const closed = new Set(this.choices.closed);
    if (!closed.delete(group)) closed.add(group);
    this.#current = `group ${group}`;
    this.#tools.choose({ closed });
  }

  /** After the selection changed, perhaps by a click on a row: what is said of the selected items is shown. */
  selected(clicked = undefined) {
    this.#bulk.selectionChanged();
    this.#view.selected(this.#selection.ids, clicked);
    this.show();
  }

  /** A click into the box before an item. */
  check(id, { shiftKey }) {
    if (shiftKey) this.#selection.extend(id, this.shownIds, { add: true });
    else this.#selection.toggle(id);
    this.#current = id;
    this.selected();
  }

  /** Turns to a row: it gets the focus, and the Tab key goes on from it. */
  goTo(key) {
    this.#current = key;
    this.#window.render();
    const row = this.#window.get(key)?.element;
    const element = row?.matches(".group") ? row.querySelector("button") : row;
    element?.focus({ preventScroll: true });
    row?.scrollIntoView({ block: "nearest" });
  }

  /** Makes a row the current one without moving the focus. */
  turnTo(key) {
    this.#current = key;
  }

  edit(id) {
    const item = this.#order.get(id);
    if (!item || !this.may("edit")) return;
    this.#editors.open(item);
    this.#current = id;
    this.show();
    this.#editors.get(id).focus();
  }

  /** What is to be removed is asked about first. */
  askToRemove() {
    this.#bulk.askToRemove();
  }

  async setStatus(item, status) {
    // No version is known yet: the choice stands until the answer names one.
    const chosen = { status, version: Infinity };
    this.#chosen.set(item.id, chosen);
    this.note(item.id, null);
    try {
      const { body } = await this.#page.change("PATCH", this.#path(item.id), { body: { status } }, this.#view.store);
      chosen.version = body.version;
      this.put(body);
    } catch (error) {
      if (this.#chosen.get(item.id) === chosen) this.#chosen.delete(item.id);
      this.note(item.id, { problem: `The status was not changed. ${error.message}` });
      this.show();
    }
  }

  /** For items that are not there any more, because one removed them oneself or somebody did. */
  forget(id) {
    this.#order.remove(id);
    this.#selection.remove([id]);
    for (const map of [this.#chosen, this.#notes, this.#changes]) map.delete(id);
  }

  #path(id) {
    return `/projects/${encodeURIComponent(this.projectId)}/items/${encodeURIComponent(id)}`;
  }

  /** What somebody is working on stays where it is, whatever others make of it. */
  #isHeld(id) {
    return this.#selection.has(id) || this.#editors.has(id) || this.#keys.focused === id;
  }

  #takeAll() {
    const items = this.#view.store.documents("item");
    const there = new Set(items.map(({ id }) => id));
    const edited = this.#editors.ids.map((id) => this.#order.get(id));
    const first = this.#order.size === 0;
    this.#order.replace(items);
    if (first) this.#editors.reopen((id) => this.#order.get(id));
    for (const item of edited) {
      if (!there.has(item.id)) this.#order.put(item);
      this.#editors.meanwhile(item.id, there.has(item.id) ? this.#order.get(item.id) : null);
    }
  }

  #takeOne({ id, by }) {
    const item = this.#view.store.get("item", id);
    const before = this.#order.get(id);
    if (this.#editors.has(id)) this.#editors.meanwhile(id, item ?? null, by);
    if (!item) {
      this.#selection.remove([id]);
      if (!this.#editors.has(id)) this.forget(id);
      return;
    }
    if (by === this.#page.user.id) this.#changes.delete(id);
    else if (before && before !== item) this.#changes.set(id, changedFields(before, item).join(", "));
    // What went wrong with it before may be right now.
    if (this.#notes.get(id)?.problem && by === this.#page.user.id) this.#notes.delete(id);
    this.#order.put(item);
  }

  #closed(id, ghost) {
    if (ghost) this.forget(id);
    this.show();
    this.goTo(this.#current);
  }

  #showEmpty() {
    const { empty } = this.#parts;
    const { size } = this.#order;
    setAttribute(empty, "hidden", this.#rows.length > 0);
    if (size) {
      setText(empty, "No item matches. Clear the filter to see all of them.");
      return;
    }
    const how = this.may("edit") ? " Add the first one here, or let your CMS add them over the REST API." : "";
    setText(empty, `This project has no items yet.${how}`);
  }
}
