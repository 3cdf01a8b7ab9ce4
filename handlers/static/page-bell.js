// The bell in the header: how much is unread, as the server counts it, and what opens when it is clicked.

import { Panel } from "./page-bell-panel.js";
import { BELL, happening } from "./page-bell-words.js";
import { h, icon, setAttribute, setText } from "./page-dom.js";

// More do not fit on the badge, and nobody counts them.
const MOST_SHOWN = 99;
// The view of a project announces these itself, whether they concern the reader or not.
const ANNOUNCED_THERE = new Set(["reply", "comment", "item_status"]);

export class Bell {
  #page;
  #store;
  #panel;
  #button;
  #badge = h("span", { class: "badge", "aria-hidden": "true" });
  #counted = new Map();
  #looking = null;
  #asked = null;
  // Up to where everything was marked as seen; its events may still be on their way.
  #seenUntil = 0;
  #outside = (event) => {
    if (!this.element.contains(event.target)) this.#shut();
  };

  constructor(page) {
    this.#page = page;
    this.#store = page.client.subscribe("inbox", (change) => this.#changed(change));
    this.#panel = new Panel(page, this.#store, () => this.#shut());
    this.#button = h(
      "button",
      {
        type: "button",
        class: "quiet",
        "aria-controls": "inbox",
        "aria-expanded": "false",
        click: () => (this.#panel.isOpen ? this.#shut() : this.#open()),
      },
      icon(BELL),
      this.#badge,
    );
    this.element = h(
      "div",
      { class: "bell", keydown: (event) => this.#key(event), focusout: (event) => this.#left(event) },
      this.#button,
      this.#panel.element,
    );
    document.addEventListener("visibilitychange", this.#seen);
    this.#show();
  }

  close() {
    document.removeEventListener("visibilitychange", this.#seen);
    this.#shut();
    this.#store.close();
  }

  /** Somebody opened an item or a thread (`{item_id}`, `{thread_id}`): what the bell says of it is read by that. */
  looking(filter) {
    this.#looking = filter;
    this.#readLooking();
  }

  #changed(change) {
    this.#announce(change);
    this.#panel.take(change);
    this.#show();
    this.#seen();
    if (change.snapshot) this.#readLooking();
  }

  #show() {
    const { unread = 0, unseen = 0 } = this.#store.get("counts", "counts") ?? {};
    const label = ["Notifications", unread && `${unread} unread`, unseen && `${unseen} new`].filter(Boolean).join(", ");
    setAttribute(this.#button, "aria-label", label);
    setAttribute(this.#button, "title", label);
    setAttribute(this.#button, "data-unseen", unseen > 0);
    setText(this.#badge, unread > MOST_SHOWN ? `${MOST_SHOWN}+` : unread ? String(unread) : "");
  }

  #open() {
    this.#panel.open();
    setAttribute(this.#button, "aria-expanded", "true");
    document.addEventListener("pointerdown", this.#outside);
    this.#seen();
  }

  #shut() {
    const held = this.#panel.element.contains(document.activeElement);
    this.#panel.close();
    setAttribute(this.#button, "aria-expanded", "false");
    document.removeEventListener("pointerdown", this.#outside);
    if (held) this.#button.focus();
  }

  /** What is before the reader's eyes is not new any more. */
  #seen = () => {
    const { unseen = 0, seq } = this.#store.get("counts", "counts") ?? {};
    if (!unseen || !this.#panel.showsEverything || document.visibilityState !== "visible") return;
    if (seq <= this.#seenUntil) return;
    this.#seenUntil = Infinity;
    this.#mark({ seen: true, until: seq }).then((counts) => (this.#seenUntil = counts?.seq ?? 0));
  };

  #readLooking() {
    if (!this.#looking || this.#store.state === "loading") return;
    const [[field, id]] = Object.entries(this.#looking);
    const unread = this.#store
      .documents("notification")
      .filter((entry) => !entry.read_at && !entry.archived_at && entry.subject[field] === id);
    const until = Math.max(...unread.map((entry) => entry.seq));
    // Going about in a thread says the same again and again.
    const asked = JSON.stringify([this.#looking, until]);
    if (unread.length && asked !== this.#asked) {
      this.#mark({ read: true, until, filter: this.#looking }).then((counts) => (this.#asked = counts && asked));
    }
    this.#asked = asked;
    this.#looking = null;
  }

  /** Marks something that nobody pressed a button for. Where that fails it stays as it is, and the badge says so. */
  async #mark(body) {
    try {
      return (await this.#page.change("POST", "/notifications/mark", { body }, this.#store)).body;
    } catch {
      return null;
    }
  }

  /** Has it said that something arrived: not what was there already, nor what only changed its state. */
  #announce({ snapshot, events }) {
    if (snapshot) {
      this.#counted = new Map(this.#store.documents("notification").map((entry) => [entry.id, entry.event_count]));
      return;
    }
    for (const { kind, change, id, doc } of events) {
      if (kind !== "notification" || !doc) continue;
      // Of an entry that is too old to have been in the snapshot, nobody knows how much it had.
      const known = this.#counted.get(id) ?? (change === "enter" ? 0 : Infinity);
      this.#counted.set(id, doc.event_count);
      if (doc.event_count <= known || doc.read_at || doc.archived_at) continue;
      if (ANNOUNCED_THERE.has(doc.type) && doc.subject.project_id === this.#page.projectId) continue;
      const nameOf = (who) => this.#page.people.nameOf(who);
      this.#page.announce(() => ({ text: `New notification: ${happening(doc, nameOf)}, ${doc.title}` }));
    }
  }

  #key(event) {
    if (!this.#panel.isOpen) return;
    if (event.key === "Escape") {
      this.#shut();
      this.#button.focus();
    } else if (event.key === "ArrowDown" && event.target === this.#button) {
      event.preventDefault();
      this.#panel.focusFirst();
    }
  }

  /** The list lies over the page: whoever goes on by keyboard must see where they are. */
  #left({ relatedTarget }) {
    if (relatedTarget && !this.element.contains(relatedTarget)) this.#shut();
  }
}
