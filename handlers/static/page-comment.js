// One comment of a thread: who wrote what and when, and what its author and the project's owners may do with it.

import { h, setAttribute, setText, timeElement, when } from "./page-dom.js";
import { withMentions } from "./page-mention.js";

export class CommentRow {
  #page;
  #view;
  #forms;
  #redraw;
  #comment = null;
  // The comment and the names in it, as they stand on the page.
  #drawn = null;
  #form = null;
  #asking = false;
  #parts;

  /** `redraw()` has the thread shown again, because it depends on what is done here. */
  constructor(page, view, forms, redraw) {
    this.#page = page;
    this.#view = view;
    this.#forms = forms;
    this.#redraw = redraw;
    const button = (text, act, looks = "quiet") => h("button", { type: "button", class: looks, click: act }, text);
    this.#parts = {
      author: h("b", { class: "author" }),
      at: h("span", { class: "hint" }),
      quote: h("blockquote"),
      body: h("p", { class: "body" }),
      edit: button("Edit", () => this.#edit()),
      remove: button("Delete", () => this.#ask(true)),
      keep: button("Keep it", () => this.#ask(false)),
      confirm: button("Delete for everybody", () => this.#delete(), "danger"),
      problem: h("p", { class: "problem", role: "alert" }),
      acts: h("span", { class: "acts" }),
      question: h("div", { class: "question", role: "group", hidden: true }),
      editing: h("div"),
    };
    const { author, at, quote, body, edit, remove, keep, confirm, problem, acts, question, editing } = this.#parts;
    acts.append(edit, remove);
    setAttribute(question, "aria-label", "Delete this comment?");
    const warning = h("p", {}, "Its text goes for everybody, and cannot be brought back.");
    question.append(warning, h("p", { class: "acts" }, keep, confirm));
    question.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#ask(false);
    });
    this.element = h(
      "li",
      { class: "comment", tabindex: "-1" },
      h("p", { class: "line" }, h("span", {}, author, " ", at), acts),
      quote,
      body,
      editing,
      question,
      problem,
    );
  }

  /** `may`: whether the reader may comment here at all. */
  update({ comment: reported, may }) {
    const comment = (this.#comment = this.#forms.newest(reported));
    const { body, quote, acts, edit, remove, question } = this.#parts;
    const deleted = Boolean(comment.deleted_at);
    const mine = comment.author === this.#page.user.id;
    setAttribute(this.element, "data-fresh", this.#view.isFresh("comment", comment.id));
    setAttribute(this.element, "data-deleted", deleted);
    this.#draw();
    this.#showForm();
    if (deleted && this.#asking) {
      if (question.contains(document.activeElement)) this.element.focus({ preventScroll: true });
      this.#asking = false;
    }
    const editing = this.#form !== null;
    body.hidden = editing && !deleted;
    quote.hidden = !comment.anchor?.quote;
    edit.hidden = !mine || editing;
    remove.hidden = editing || !(mine || this.#view.may("manage"));
    acts.hidden = !may || deleted || this.#asking || (edit.hidden && remove.hidden);
    question.hidden = !this.#asking;
  }

  #draw() {
    const comment = this.#comment;
    const { author, at, quote, body, edit, remove } = this.#parts;
    const { created_at: created, edited_at: edited, deleted_at: deleted, deleted_by: by, mentions = [] } = comment;
    const nameOf = (id) => this.#view.nameOf(id);
    const names = [comment.author, ...(by ? [by] : []), ...mentions].map(nameOf).join("\n");
    if (comment === this.#drawn?.comment && names === this.#drawn.names) return;
    this.#drawn = { comment, names };
    setText(author, nameOf(comment.author));
    // Several buttons of one name would be hard to tell apart by ear.
    const mine = comment.author === this.#page.user.id;
    const which = `what ${mine ? "you" : nameOf(comment.author)} wrote, ${when(created)}`;
    setAttribute(edit, "aria-label", `Edit ${which}`);
    setAttribute(remove, "aria-label", `Delete ${which}`);
    const edition = edited && !deleted ? [" · ", timeElement(edited, `edited ${when(edited)}`)] : [];
    at.replaceChildren(timeElement(created), ...edition);
    setText(quote, comment.anchor?.quote ?? "");
    const who = by ? ` by ${nameOf(by)}` : "";
    if (deleted) body.replaceChildren(`This comment was deleted${who}, `, timeElement(deleted), ".");
    else body.replaceChildren(...withMentions(comment, nameOf, this.#page.user.id));
  }

  #showForm() {
    const { editing } = this.#parts;
    const form = this.#forms.editing(this.#comment);
    if (form !== this.#form) {
      const left = editing.contains(document.activeElement);
      this.#form = form;
      editing.replaceChildren(...(form ? [form.element] : []));
      if (left) this.#focusAfter();
    }
    form?.update(this.#comment);
  }

  /** Whoever ends an edit goes on from where it began. */
  #focusAfter() {
    const { acts, edit } = this.#parts;
    acts.hidden = edit.hidden = false;
    (this.#comment.deleted_at ? this.element : edit).focus();
  }

  #edit() {
    const form = this.#forms.edit(this.#comment);
    this.#redraw();
    form.focus();
  }

  #ask(asking) {
    const { keep, remove, problem } = this.#parts;
    this.#asking = asking;
    setText(problem, "");
    this.#redraw();
    (asking ? keep : remove).focus();
  }

  async #delete() {
    const { confirm, problem } = this.#parts;
    if (confirm.getAttribute("aria-disabled")) return;
    setAttribute(confirm, "aria-disabled", "true");
    setText(problem, "");
    try {
      await this.#page.change("DELETE", this.#forms.pathOf(this.#comment.id), {}, this.#view.store);
      // The buttons are about to go, and the focus is not to go with them.
      this.element.focus({ preventScroll: true });
      this.#asking = false;
    } catch (error) {
      setText(problem, `It was not deleted. ${error.message}`);
    }
    setAttribute(confirm, "aria-disabled", null);
    this.#redraw();
  }
}
