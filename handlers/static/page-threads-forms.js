// Where things are written in one conversation: each place has one form at most, with what was typed there.

import { EditForm } from "./page-comment-edit.js";
import { Composer } from "./page-drafts.js";
import { Candidates } from "./page-mention-people.js";
import { MentionCompletion } from "./page-mention.js";

export class Forms {
  #page;
  #view;
  #candidates;
  // Place -> composer: one that is sending must not meet a second one with the same text.
  #composers = new Map();
  // Id of a comment -> the form in which it is edited.
  #edits = new Map();
  // Id of a comment -> what it became by an edit here; its event may still be on its way.
  #saved = new Map();
  // Comments of which it is known whether a draft was left before a reload.
  #looked = new Set();
  #changed;

  /** `changed()` is called when something is edited, or not any more. */
  constructor(page, view, changed) {
    this.#page = page;
    this.#view = view;
    this.#changed = changed;
    this.#candidates = new Candidates(page, view);
  }

  /** To begin a thread about an item, or with null about the project. */
  begin(itemId) {
    const about = itemId === null ? {} : { item_id: itemId };
    return this.#composer(`item/${itemId}`, about, { label: "Write a comment", verb: "Comment", rows: 3 });
  }

  reply(threadId) {
    return this.#composer(`thread/${threadId}`, { thread_id: threadId }, { label: "Reply", verb: "Reply", rows: 1 });
  }

  /** The form in which a comment is being edited, or was before a reload; else null. */
  editing(comment) {
    const { id, author } = comment;
    if (author !== this.#page.user.id) return null;
    if (!this.#looked.has(id)) {
      this.#looked.add(id);
      if (this.#page.drafts.get(this.#editPlace(comment)).text) this.edit(comment);
    }
    return this.#edits.get(id) ?? null;
  }

  /** Whether something half written stands in a thread. */
  filledIn({ id, comments }) {
    return this.reply(id).filled || comments.some((comment) => this.editing(comment));
  }

  /** The newest that is known of a comment. */
  newest(comment) {
    const saved = this.#saved.get(comment.id);
    if (saved?.version > comment.version) return saved;
    this.#saved.delete(comment.id);
    return comment;
  }

  /** Begins to edit a comment. */
  edit(comment) {
    this.#looked.add(comment.id);
    const form = new EditForm({
      page: this.#page,
      store: this.#view.store,
      path: this.pathOf(comment.id),
      place: this.#editPlace(comment),
      comment,
      complete: (field) => this.#complete(field),
      closed: (saved) => {
        this.#edits.delete(comment.id);
        if (saved) this.#saved.set(comment.id, saved);
        this.#changed();
      },
    });
    this.#edits.set(comment.id, form);
    return form;
  }

  pathOf(commentId) {
    return `${this.#path}/${encodeURIComponent(commentId)}`;
  }

  get #path() {
    return `/projects/${encodeURIComponent(this.#view.projectId)}/comments`;
  }

  #editPlace({ id }) {
    return `${this.#view.projectId}/edit/${id}`;
  }

  /** The composer of a place; `about` says what its comments belong to. */
  #composer(place, about, looks) {
    if (!this.#composers.has(place)) {
      const send = (body, idempotencyKey) =>
        this.#page.change("POST", this.#path, { body: { ...about, body }, idempotencyKey }, this.#view.store);
      const composer = new Composer({
        drafts: this.#page.drafts,
        place: `${this.#view.projectId}/${place}`,
        send,
        complete: (field) => this.#complete(field),
        ...looks,
      });
      this.#composers.set(place, composer);
    }
    return this.#composers.get(place);
  }

  #complete(field) {
    return new MentionCompletion(field, this.#candidates).element;
  }
}
