// Editing a comment in its place: nothing that anybody wrote is lost, whoever else changed the comment meanwhile.

import { writingField } from "./page-drafts.js";
import { h, setAttribute, setText } from "./page-dom.js";

// Each attempt that fails means that somebody resolved or reopened the thread in that very moment.
const ATTEMPTS = 3;

/**
 * The form in which one's own comment is edited.
 *
 * A draft knows the text that it began with (`base`). As long as the comment has that text, saving replaces it; else
 * both versions are shown, and the writer chooses. The text decides and not the version, which is raised by resolving
 * too; that nothing happens between looking and saving is what `If-Match` is for.
 */
export class EditForm {
  #drafts;
  #place;
  #page;
  #path;
  #store;
  #base;
  // What the comment says now, where that is neither what one began with nor what one wrote; null: it is deleted.
  #other = undefined;
  #saving = false;
  #problem = "";
  #closed;
  #parts;

  /**
   * `path` is the comment's, `store` what brings its changes; `place` names the draft. `closed(saved)` is called when
   * the form is done with, with the comment as it was saved, or null.
   */
  constructor({ page, store, path, place, comment, complete, closed }) {
    this.#page = page;
    this.#drafts = page.drafts;
    this.#store = store;
    this.#path = path;
    this.#place = place;
    this.#closed = closed;
    const draft = this.#drafts.get(place);
    this.#base = draft.text ? draft.base : comment.body;
    const button = (text, act) => h("button", { type: "button", class: "quiet", click: act }, text);
    const acts = { typed: () => this.#typed(), submit: () => this.#save() };
    const field = writingField({ label: "Edit your comment", rows: 2, ...acts });
    this.#parts = {
      field,
      problem: h("p", { class: "problem", role: "alert" }),
      what: h("p", {}),
      theirs: h("blockquote", { class: "theirs" }),
      conflict: h("div", { class: "conflict", role: "status" }),
      save: h("button", { type: "submit", title: "Ctrl+Enter" }),
      take: button("Keep the other", () => this.#close(null)),
      cancel: button("Cancel", () => this.#close(null)),
    };
    const { problem, what, theirs, conflict, save, take, cancel } = this.#parts;
    conflict.append(what, theirs);
    this.element = h(
      "form",
      {
        class: "composer edit",
        submit: (event) => {
          event.preventDefault();
          this.#save();
        },
        keydown: (event) => {
          // Only where nothing is lost by it.
          if (event.key === "Escape" && !this.changed && !this.#saving) this.#close(null);
        },
      },
      field,
      complete(field),
      conflict,
      problem,
      h("p", { class: "acts" }, cancel, take, save),
    );
    field.value = draft.text || comment.body;
    this.update(comment);
  }

  /** Whether the text is another one than the comment had. */
  get changed() {
    return this.#text !== plain(this.#base);
  }

  focus() {
    const { field } = this.#parts;
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  /** The comment as it is now. */
  update(comment) {
    const now = comment.deleted_at ? null : comment.body;
    // What is being saved arrives here as well, mostly before its answer.
    if (this.#saving) return;
    this.#compare(now);
    this.#show();
  }

  get #text() {
    return plain(this.#parts.field.value);
  }

  #compare(now) {
    if (now !== null && !this.changed) {
      // Nothing was written yet: there is nothing to choose between.
      this.#base = now;
      if (this.#text !== plain(now)) this.#parts.field.value = now;
    }
    const settled = now === this.#base || (now !== null && plain(now) === this.#text);
    this.#other = settled ? undefined : now;
  }

  #typed() {
    this.#problem = "";
    this.#keep();
    this.#show();
  }

  #keep() {
    this.#drafts.set(this.#place, this.changed ? { text: this.#parts.field.value, base: this.#base } : { text: "" });
  }

  async #save() {
    if (this.#saving || this.#other === null) return;
    if (!this.#text.trim()) {
      this.#parts.field.focus();
      return;
    }
    if (!this.changed && this.#other === undefined) {
      this.#close(null);
      return;
    }
    // The other version is on the screen, and was decided against.
    if (this.#other !== undefined) this.#base = this.#other;
    this.#other = undefined;
    this.#keep();
    this.#saving = true;
    this.#problem = "";
    this.#show();
    let saved = null;
    try {
      saved = await this.#replace(this.#text);
    } catch (error) {
      this.#problem = `Not saved. ${error.message}`;
    }
    this.#saving = false;
    if (saved) this.#close(saved);
    else this.#show();
  }

  /** Puts the text in the place of `base`, and answers the comment; null where there is another text by now. */
  async #replace(text) {
    for (let attempt = 1; ; attempt += 1) {
      const { body: now, etag } = await this.#page.request("GET", this.#path);
      // An attempt whose answer was lost may have arrived.
      if (!now.deleted_at && plain(now.body) === text) return now;
      this.#compare(now.deleted_at ? null : now.body);
      if (this.#other !== undefined) return null;
      try {
        const options = { body: { body: text }, ifMatch: etag };
        return (await this.#page.change("PATCH", this.#path, options, this.#store)).body;
      } catch (error) {
        if (error.code !== "stale_version" || attempt === ATTEMPTS) throw error;
      }
    }
  }

  #close(saved) {
    this.#drafts.set(this.#place, { text: "" });
    this.#closed(saved);
  }

  #show() {
    const { field, conflict, what, theirs, save, take, cancel } = this.#parts;
    const conflicting = this.#other !== undefined;
    const deleted = this.#other === null;
    setText(this.#parts.problem, this.#problem);
    setAttribute(conflict, "data-empty", !conflicting);
    const gone = "It was deleted meanwhile. What you wrote is still here to be copied.";
    const changed = "It was changed meanwhile, and now says:";
    setText(what, !conflicting ? "" : deleted ? gone : changed);
    setText(theirs, this.#other ?? "");
    theirs.hidden = !this.#other;
    setText(save, this.#saving ? "Saving" : this.#problem ? "Retry" : conflicting ? "Save mine" : "Save");
    save.hidden = deleted;
    take.hidden = !conflicting || deleted;
    setText(cancel, deleted ? "Discard" : "Cancel");
    cancel.hidden = conflicting && !deleted;
    // Not `disabled`: that would throw the focus away.
    field.readOnly = this.#saving || deleted;
    setAttribute(save, "aria-disabled", this.#saving ? "true" : null);
  }
}

/** A text as a field holds it and the server keeps it: other programs may end their lines in other ways. */
function plain(text) {
  return text.replace(/\r\n?/g, "\n").normalize("NFC");
}
