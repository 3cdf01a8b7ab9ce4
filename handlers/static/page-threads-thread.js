// One thread: its comments, the form to reply, and what is done with the whole of it.

import { CommentRow } from "./page-comment.js";
import { Keyed, h, setAttribute, setText, timeElement } from "./page-dom.js";
import { FollowButtons } from "./page-follow.js";

/** A resolved one is folded, unless it was opened or somebody is writing in it. */
export class Thread {
  #page;
  #view;
  #id;
  #forms;
  #unfolded = false;
  #last = null;
  #comments;
  #parts;
  #composer;
  #follow;

  /** `looked(id)` is called when somebody is in it. */
  constructor(page, view, id, { forms, looked }) {
    this.#page = page;
    this.#view = view;
    this.#id = id;
    this.#forms = forms;
    this.#composer = forms.reply(id);
    this.#follow = new FollowButtons(page, "thread", { small: true });
    this.#parts = {
      mark: h("p", { class: "mark" }, "New"),
      about: h("a", { class: "about" }),
      over: h("p", { class: "hint" }),
      resolution: h("p", { class: "hint" }),
      fold: h("button", { type: "button", class: "quiet", click: () => this.#toggle() }),
      resolve: h("button", { type: "button", class: "quiet", click: () => this.#resolve() }),
      problem: h("p", { class: "problem", role: "alert" }),
      list: h("ol", { class: "comments" }),
    };
    const { mark, about, over, resolution, fold, resolve, problem, list } = this.#parts;
    const again = () => this.update(this.#last);
    this.#comments = new Keyed(list, () => new CommentRow(page, view, forms, again));
    this.element = h(
      "article",
      // Whoever clicks or writes in it has read it.
      { class: "thread", tabindex: "-1", focusin: () => looked(id) },
      about,
      this.#follow.element,
      mark,
      list,
      over,
      this.#composer.element,
      problem,
      h("footer", {}, resolution, fold, resolve),
    );
  }

  /** Whether somebody is in it, or has left something half done: then it stays where it is. */
  get inUse() {
    return this.#writing || this.element.contains(document.activeElement);
  }

  get #writing() {
    return this.#forms.filledIn({ id: this.#id, comments: this.#last.comments });
  }

  /**
   * `opened`: to be unfolded; `unread`: something in it is new for the reader; `about`: the item, `{id, title}`, where
   * threads about several stand together.
   */
  update({ comments, may, unread, about, opened = false }) {
    this.#last = { comments, may, unread, about };
    if (opened) this.#unfolded = true;
    this.#follow.show(`thread:${this.#id}`);
    const first = this.#first;
    const { mark, over, resolution, fold, resolve } = this.#parts;
    const resolved = first?.resolved;
    const writing = this.#writing || this.#composer.inUse;
    const folded = Boolean(resolved) && !this.#unfolded && !writing;
    const shown = folded ? comments.slice(0, 1) : comments;
    const hidden = comments.length - shown.length;
    this.#comments.update(shown.map((comment) => [comment.id, { comment, may }]));
    this.#showAbout(about);
    const author = this.#view.nameOf(comments[0].author);
    setAttribute(this.element, "data-resolved", Boolean(resolved));
    setAttribute(this.element, "data-unread", unread);
    setAttribute(this.element, "aria-label", `Thread by ${author}${about ? ` on ${about.title}` : ""}${unread ? ", something is new" : ""}`);
    mark.hidden = !unread;
    // The server takes no reply to what is deleted; what is half written is not hidden for that.
    const beheaded = Boolean(first?.deleted_at);
    setText(over, may && beheaded ? "The comment that began this was deleted, so nobody can reply any more." : "");
    setAttribute(this.#composer.element, "hidden", !this.#composer.inUse && (!may || folded || beheaded));
    resolution.replaceChildren(...(resolved ? [`resolved by ${this.#view.nameOf(resolved.by)} `, timeElement(resolved.at)] : []));
    fold.hidden = !resolved || writing;
    setText(fold, folded ? (hidden ? `Show ${hidden} more` : "Unfold") : "Fold");
    setAttribute(fold, "aria-expanded", String(!folded));
    resolve.hidden = !may || !first || beheaded;
    setText(resolve, resolved ? "Reopen" : "Resolve");
  }

  /** The thread's first comment; undefined where another program left only replies. */
  get #first() {
    return this.#last.comments.find(({ id }) => id === this.#id);
  }

  #showAbout(about) {
    const { about: link } = this.#parts;
    const project = `#/projects/${encodeURIComponent(this.#view.projectId)}`;
    setAttribute(link, "hidden", !about);
    setAttribute(link, "href", about && `${project}/items/${encodeURIComponent(about.id)}`);
    setText(link, about?.title ?? "");
  }

  #toggle() {
    this.#unfolded = !this.#unfolded;
    this.update(this.#last);
  }

  async #resolve() {
    const { problem } = this.#parts;
    setText(problem, "");
    try {
      const body = { resolved: !this.#first.resolved };
      await this.#page.change("PATCH", this.#forms.pathOf(this.#id), { body }, this.#view.store);
    } catch (error) {
      setText(problem, `Nothing was changed. ${error.message}`);
    }
  }
}
