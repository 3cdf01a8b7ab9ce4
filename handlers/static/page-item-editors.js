// The editors that are open in a list of items. What is typed in them outlives a reload, and the item itself.

import { ItemEditor, draftOfItem, suggestions } from "./page-item-edit.js";

export class ItemEditors {
  #page;
  #view;
  #saved;
  #closed;
  #open = new Map();
  // Their items are gone, and somebody is still writing.
  #ghosts = new Set();
  #suggestions;

  /** `saved(item)` hears what the server answered, `closed(id, ghost)` that somebody is done with an editor. */
  constructor(page, view, { saved, closed }) {
    this.#page = page;
    this.#view = view;
    this.#saved = saved;
    this.#closed = closed;
    this.#suggestions = suggestions(page, view.projectId);
    this.element = this.#suggestions.element;
  }

  get ids() {
    return [...this.#open.keys()];
  }

  has(id) {
    return this.#open.has(id);
  }

  get(id) {
    return this.#open.get(id);
  }

  isGhost(id) {
    return this.#ghosts.has(id);
  }

  open(item) {
    const { id } = item;
    if (this.#open.has(id)) return;
    const close = () => this.#close(id);
    this.#open.set(id, new ItemEditor(this.#page, this.#view, item, { saved: this.#saved, close }));
    this.#keep();
    this.#suggestions.read();
  }

  /** Opens again what was being edited before a reload or a new sign-in; `get(id)` answers an item. */
  reopen(get) {
    const { text } = this.#page.drafts.get(this.#place);
    for (const id of text ? JSON.parse(text) : []) {
      const item = get(id);
      // Nothing was typed in the others.
      if (item && this.#page.drafts.get(draftOfItem(this.#view.projectId, id)).text) this.open(item);
    }
  }

  /** The item of an open editor as it is now; null where `by` removed it. */
  meanwhile(id, item, by = undefined) {
    if (item) {
      this.#ghosts.delete(id);
      this.#open.get(id)?.meanwhile(item);
    } else {
      this.#ghosts.add(id);
      this.#open.get(id).gone(by ? this.#view.nameOf(by) : "Somebody");
    }
  }

  #close(id) {
    const ghost = this.#ghosts.delete(id);
    this.#open.delete(id);
    this.#keep();
    this.#closed(id, ghost);
  }

  #keep() {
    const { ids } = this;
    this.#page.drafts?.set(this.#place, { text: ids.length ? JSON.stringify(ids) : "", key: null });
  }

  get #place() {
    return `${this.#view.projectId}/editing`;
  }
}
