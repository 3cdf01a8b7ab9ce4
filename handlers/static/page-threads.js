// Comment threads: on the project, or on one of its items.

import { Composer } from "./page-drafts.js";
import { Keyed, h, setAttribute, setText, timeElement } from "./page-dom.js";

/** The panel beside the items. It shows the threads of the view's item, or of the project where none is chosen. */
export class Conversation {
  #page;
  #view;
  heading = h("h2", { tabindex: "-1", id: "conversation" });
  #back = h("a", { class: "back" });
  #hint = h("p", { class: "empty" });
  #form = h("div");
  #list = h("div", { class: "threads" });
  // Everything about another item is another conversation: drafts, open threads and all.
  #shown = undefined;
  #threads = null;
  // Place -> composer: one that is sending must not meet a second one with the same text.
  #composers = new Map();

  constructor(page, view) {
    this.#page = page;
    this.#view = view;
    setAttribute(this.#back, "href", `#/projects/${encodeURIComponent(view.projectId)}`);
    this.element = h(
      "section",
      { class: "conversation", "aria-labelledby": "conversation" },
      this.heading,
      this.#back,
      this.#form,
      this.#hint,
      this.#list,
    );
  }

  /** `projectTalk`: how much is said about the project as a whole. */
  show(projectTalk) {
    const { itemId, store } = this.#view;
    if (itemId !== this.#shown) this.#turnTo(itemId);
    const item = itemId === null ? null : store.get("item", itemId);
    setText(this.heading, itemId === null ? "About this project" : itemTitle(item));
    this.#back.hidden = itemId === null;
    setText(this.#back, projectTalk ? `About this project (${projectTalk.comments})` : "About this project");
    const may = this.#view.may("comment") && (itemId === null || item !== undefined);
    setAttribute(this.#form, "hidden", !may);
    const threads = this.#gather(itemId);
    setText(this.#hint, threads.length ? "" : "Nothing has been said yet.");
    this.#threads.update(threads.map((thread) => [thread.id, { ...thread, may }]));
  }

  /** Empties the panel; drafts stay where drafts are kept. */
  clear() {
    this.#shown = undefined;
    this.#list.replaceChildren();
    this.#form.replaceChildren();
  }

  #turnTo(itemId) {
    this.clear();
    this.#shown = itemId;
    this.#threads = new Keyed(this.#list, ({ id }) => new Thread(this.#page, this.#view, id, this.#replyTo(id)));
    const about = itemId === null ? {} : { item_id: itemId };
    this.#form.append(this.#composer(`item/${itemId}`, about, { label: "Write a comment", verb: "Comment", rows: 3 }).element);
  }

  #replyTo(threadId) {
    return this.#composer(`thread/${threadId}`, { thread_id: threadId }, { label: "Reply", verb: "Reply", rows: 1 });
  }

  /** The composer of a place, with what was typed there; `about` says what its comments belong to. */
  #composer(place, about, looks) {
    if (!this.#composers.has(place)) {
      const path = `/projects/${encodeURIComponent(this.#view.projectId)}/comments`;
      const send = (body, idempotencyKey) =>
        this.#page.change("POST", path, { body: { ...about, body }, idempotencyKey }, this.#view.store);
      const { drafts } = this.#page;
      const composer = new Composer({ drafts, place: `${this.#view.projectId}/${place}`, send, ...looks });
      this.#composers.set(place, composer);
    }
    return this.#composers.get(place);
  }

  /** The threads, the newest first, each with its comments, the oldest first. */
  #gather(itemId) {
    const threads = new Map();
    for (const comment of this.#view.store.documents("comment")) {
      if ((comment.item_id ?? null) !== itemId) continue;
      if (!threads.has(comment.thread_id)) threads.set(comment.thread_id, []);
      threads.get(comment.thread_id).push(comment);
    }
    return [...threads]
      .map(([id, comments]) => ({ id, comments: comments.sort(byTime) }))
      .filter(({ comments }) => comments.some((comment) => !comment.deleted_at))
      .sort((a, b) => byTime(b.comments[0], a.comments[0]));
  }
}

/** Versions of one content in several languages have one name. */
function itemTitle(item) {
  if (!item) return "This item was removed";
  return item.language ? `${item.name} (${item.language})` : item.name;
}

function byTime(a, b) {
  return a.created_at.localeCompare(b.created_at) || (a.id < b.id ? -1 : 1);
}

/** One thread. A resolved one is folded, unless it was opened or somebody is writing in it. */
class Thread {
  #page;
  #view;
  #id;
  #unfolded = false;
  #last = null;
  #comments;
  #parts;
  #composer;

  constructor(page, view, id, composer) {
    this.#page = page;
    this.#view = view;
    this.#id = id;
    this.#composer = composer;
    this.#parts = {
      resolution: h("p", { class: "hint" }),
      fold: h("button", { type: "button", class: "quiet", click: () => this.#toggle() }),
      resolve: h("button", { type: "button", class: "quiet", click: () => this.#resolve() }),
      problem: h("p", { class: "problem", role: "alert" }),
      list: h("ol", { class: "comments" }),
    };
    const { resolution, fold, resolve, problem, list } = this.#parts;
    this.#comments = new Keyed(list, () => commentRow(view));
    this.element = h(
      "article",
      { class: "thread" },
      list,
      this.#composer.element,
      problem,
      h("footer", {}, resolution, fold, resolve),
    );
  }

  update({ comments, may }) {
    this.#last = { comments, may };
    const first = this.#first;
    const { resolution, fold, resolve } = this.#parts;
    const resolved = first?.resolved;
    const folded = Boolean(resolved) && !this.#unfolded && !this.#composer.inUse;
    const shown = folded ? comments.slice(0, 1) : comments;
    const hidden = comments.length - shown.length;
    this.#comments.update(shown.map((comment) => [comment.id, comment]));
    setAttribute(this.element, "data-resolved", Boolean(resolved));
    setAttribute(this.element, "aria-label", `Thread by ${this.#view.nameOf(comments[0].author)}`);
    setAttribute(this.#composer.element, "hidden", !may || folded);
    resolution.replaceChildren(...(resolved ? [`resolved by ${this.#view.nameOf(resolved.by)} `, timeElement(resolved.at)] : []));
    fold.hidden = !resolved || this.#composer.inUse;
    setText(fold, folded ? (hidden ? `Show ${hidden} more` : "Unfold") : "Fold");
    setAttribute(fold, "aria-expanded", String(!folded));
    resolve.hidden = !may || !first || Boolean(first.deleted_at);
    setText(resolve, resolved ? "Reopen" : "Resolve");
  }

  /** The thread's first comment; undefined where another program left only replies. */
  get #first() {
    return this.#last.comments.find(({ id }) => id === this.#id);
  }

  #toggle() {
    this.#unfolded = !this.#unfolded;
    this.update(this.#last);
  }

  async #resolve() {
    const { problem } = this.#parts;
    const path = `/projects/${encodeURIComponent(this.#view.projectId)}/comments/${encodeURIComponent(this.#id)}`;
    setText(problem, "");
    try {
      await this.#page.change("PATCH", path, { body: { resolved: !this.#first.resolved } }, this.#view.store);
    } catch (error) {
      setText(problem, `Nothing was changed. ${error.message}`);
    }
  }
}

function commentRow(view) {
  const author = h("b", { class: "author" });
  const at = h("span", { class: "hint" });
  const body = h("p", { class: "body" });
  const quote = h("blockquote");
  const element = h("li", { class: "comment" }, h("p", {}, author, " ", at), quote, body);
  let shown = null;
  return {
    element,
    update(comment) {
      setText(author, view.nameOf(comment.author));
      setAttribute(element, "data-fresh", view.isFresh("comment", comment.id));
      if (comment === shown) return;
      shown = comment;
      at.replaceChildren(timeElement(comment.created_at), comment.edited_at && !comment.deleted_at ? " (edited)" : "");
      quote.hidden = !comment.anchor?.quote;
      setText(quote, comment.anchor?.quote ?? "");
      setAttribute(element, "data-deleted", Boolean(comment.deleted_at));
      setText(body, comment.body ?? "This comment was deleted.");
    },
  };
}
