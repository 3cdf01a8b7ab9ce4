// What is said about the project, or about one of its items: threads, and beside them the log of changes.

import { ActivityLog } from "./page-activity.js";
import { Keyed, count, h, setAttribute, setText } from "./page-dom.js";
import { FollowButtons } from "./page-follow.js";
import { Forms } from "./page-threads-forms.js";
import { holdStill, tabs } from "./page-threads-layout.js";
import { arrange, gather, matches } from "./page-threads-order.js";
import { whenReleased } from "./page-threads-press.js";
import { Thread } from "./page-threads-thread.js";
import { Unread } from "./page-threads-unread.js";

const STATES = { all: "All", open: "Open", resolved: "Resolved" };
const NOTHING = {
  all: "Nothing has been said yet.",
  open: "Nothing is open here.",
  resolved: "Nothing is resolved here.",
};
// A page of so many threads is still quick to draw.
const PAGE = 50;

/** The panel beside the items: the threads of the view's items, or of the project where there are none of them. */
export class Conversation {
  #page;
  #view;
  heading = h("h2", { tabindex: "-1", id: "conversation" });
  #follow;
  #log;
  #forms;
  #unread;
  #tabs;
  #parts;
  #state = "all";
  #limit = PAGE;
  // The thread to unfold and to be gone to when it is shown.
  #opened = null;
  // The ids of the items. Everything about another item is another conversation: drafts, open threads and all.
  #shown = undefined;
  // The item that a new thread is about; null: the project; undefined: none, because several are shown.
  #target = undefined;
  #threads = null;
  #order = [];
  #talk = undefined;

  constructor(page, view) {
    this.#page = page;
    this.#view = view;
    this.#follow = new FollowButtons(page, "item");
    this.#log = new ActivityLog(page, view);
    this.#forms = new Forms(page, view, () => this.#redraw());
    this.#unread = new Unread(page, () => this.#redraw());
    const states = Object.keys(STATES).map((state) => this.#filter(state));
    this.#parts = {
      back: h("a", { class: "back", href: `#/projects/${encodeURIComponent(view.projectId)}` }),
      about: h("p", { class: "hint" }),
      form: h("div"),
      filter: h("fieldset", { class: "states", "aria-label": "Threads" }, ...states),
      hint: h("p", { class: "empty" }),
      list: h("div", { class: "threads" }),
      more: h("button", { type: "button", class: "quiet", click: () => this.#more() }),
    };
    const { back, about, form, filter, hint, list, more } = this.#parts;
    const talk = h("div", {}, about, form, filter, hint, list, more);
    this.#tabs = tabs("conversation", { Comments: talk, Changes: this.#log.element }, (chosen) =>
      chosen === "Changes" ? this.#log.open() : this.#log.close(),
    );
    this.element = h(
      "section",
      { class: "conversation", "aria-labelledby": "conversation" },
      this.heading,
      back,
      this.#follow.element,
      ...this.#tabs.elements,
    );
  }

  /** `projectTalk`: how much is said about the project as a whole. */
  show(projectTalk) {
    this.#talk = projectTalk;
    const { itemIds, store, projectId } = this.#view;
    if (itemIds !== this.#shown) this.#turnTo(itemIds);
    const several = itemIds.length > 1;
    const only = several ? undefined : itemIds[0];
    const item = only && store.get("item", only);
    setText(this.heading, several ? `About ${itemIds.length} selected items` : only ? itemTitle(item) : "About this project");
    this.#showBack(itemIds.length > 0);
    this.#follow.show(item ? `item:${only}` : null, `project:${projectId}`);
    this.#showAbout(several);
    this.#showThreads(this.#view.may("comment"), several);
    this.#log.show(only ?? null, { several });
  }

  /** Unfolds a thread and goes to it, the next time it is shown. */
  open(threadId) {
    this.#opened = threadId;
  }

  /** Empties the panel; drafts stay where drafts are kept. */
  clear() {
    this.#shown = undefined;
    this.#target = undefined;
    this.#order = [];
    setText(this.heading, "");
    this.#parts.list.replaceChildren();
    this.#parts.form.replaceChildren();
    this.#log.clear();
  }

  close() {
    this.#unread.close();
    this.#log.close();
  }

  #turnTo(itemIds) {
    this.clear();
    this.#shown = itemIds;
    this.#limit = PAGE;
    this.#unread.turnTo(itemIds);
    const shared = {
      forms: this.#forms,
      looked: (id) => this.#unread.looked(id) && whenReleased(() => this.#redraw()),
    };
    this.#threads = new Keyed(this.#parts.list, ({ id }) => new Thread(this.#page, this.#view, id, shared));
  }

  /** The form to begin a thread; with several items, the one of them that was clicked last is what it is about. */
  #showAbout(several) {
    const { about, form } = this.#parts;
    const { itemId } = this.#view;
    const target = !several ? (this.#shown[0] ?? null) : this.#shown.includes(itemId) ? itemId : undefined;
    if (target !== this.#target) {
      this.#target = target;
      form.replaceChildren(...(target === undefined ? [] : [this.#forms.begin(target).element]));
    }
    const words = target
      ? `A new thread is about ${itemTitle(this.#view.store.get("item", target))}.`
      : "To begin a thread, click the item that it is about.";
    setText(about, several && this.#view.may("comment") ? words : "");
  }

  #showBack(shown) {
    const { back } = this.#parts;
    const said = this.#talk?.comments ?? 0;
    const news = this.#unread.aboutProject(this.#view.projectId) ? "something is new" : "";
    const words = [said && String(said), news].filter(Boolean).join(", ");
    back.hidden = !shown;
    setText(back, words ? `About this project (${words})` : "About this project");
  }

  #showThreads(may, several) {
    const { form, filter, hint, list, more } = this.#parts;
    // What is half written is not hidden because a right was lost or the item removed meanwhile.
    const begun = this.#target !== undefined && this.#forms.begin(this.#target).filled;
    setAttribute(form, "hidden", !(may && this.#isThere(this.#target)) && !begun);
    // What a colleague deletes is seen to be deleted before its thread goes.
    const fresh = ({ comments }) => comments.some(({ id }) => this.#view.isFresh("comment", id));
    const stays = (thread) => this.#forms.filledIn(thread) || fresh(thread);
    const threads = gather(this.#view.store.documents("comment"), this.#shown, stays);
    if (this.#opened !== null) this.#reveal(threads);
    const chosen = threads.filter((thread) => matches(thread, this.#state) || this.#inUse(thread.id));
    this.#order = arrange(chosen, this.#order, this.#heldId);
    const shown = this.#order.slice(0, this.#limit);
    const unread = this.#unread.threads;
    const entry = (thread) => {
      const { id, itemId } = thread;
      const about = several ? { id: itemId, title: itemTitle(this.#view.store.get("item", itemId)) } : null;
      const open = may && this.#isThere(itemId);
      return [id, { ...thread, may: open, about, unread: unread.has(id), opened: id === this.#opened }];
    };
    const held = list.contains(document.activeElement);
    holdStill(list, () => this.#threads.update(shown.map(entry)));
    // The thread that one was in is gone.
    if (held && document.activeElement === document.body) this.heading.focus({ preventScroll: true });
    this.#showFilter(threads);
    filter.hidden = threads.length === 0;
    setText(hint, chosen.length ? "" : NOTHING[threads.length ? this.#state : "all"]);
    more.hidden = chosen.length <= this.#limit;
    setText(more, `Show ${Math.min(PAGE, chosen.length - this.#limit)} more of ${count(chosen.length, "thread")}`);
    if (this.#opened !== null) this.#threads.get(this.#opened)?.element.focus();
    this.#opened = null;
    const current = this.#heldId;
    // Somebody who is in a thread sees what comes there.
    if (current && unread.has(current) && document.visibilityState === "visible") this.#unread.looked(current);
  }

  /** Makes sure that the thread to go to is among those that are shown. */
  #reveal(threads) {
    this.#tabs.choose("Comments");
    const thread = threads.find(({ id }) => id === this.#opened);
    if (!thread) return;
    if (!matches(thread, this.#state)) this.#state = "all";
    const place = threads.filter((other) => matches(other, this.#state)).indexOf(thread);
    this.#limit = Math.max(this.#limit, place + 1);
  }

  /** Whether what a thread is about is there: an item, or with null the project. */
  #isThere(itemId) {
    return itemId === null || this.#view.store.get("item", itemId) !== undefined;
  }

  #inUse(threadId) {
    return this.#threads.get(threadId)?.inUse ?? false;
  }

  /** The thread that somebody is in, or null. */
  get #heldId() {
    return this.#order.find(({ id }) => this.#threads.get(id)?.element.contains(document.activeElement))?.id ?? null;
  }

  #filter(value) {
    const choose = () => this.#choose(value);
    const input = h("input", { type: "radio", class: "unseen", name: "threads", value, change: choose });
    return h("label", {}, input, h("span"));
  }

  #showFilter(threads) {
    for (const { firstChild: input, lastChild: words } of this.#parts.filter.children) {
      const state = input.value;
      const number = threads.filter((thread) => matches(thread, state)).length;
      setText(words, state === "all" ? STATES.all : `${STATES[state]} (${number})`);
      input.checked = state === this.#state;
    }
  }

  #choose(state) {
    this.#state = state;
    this.#limit = PAGE;
    this.#order = [];
    this.#redraw();
  }

  #more() {
    const first = this.#order[this.#limit].id;
    this.#limit += PAGE;
    this.#redraw();
    // The button may be gone, and the focus with it.
    if (this.#parts.more.hidden) this.#threads.get(first)?.element.focus();
  }

  #redraw() {
    if (this.#shown !== undefined) this.show(this.#talk);
  }
}

/** Versions of one content in several languages have one name. */
function itemTitle(item) {
  if (!item) return "This item was removed";
  return item.language ? `${item.name} (${item.language})` : item.name;
}
