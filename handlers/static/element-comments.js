// <copydesk-comments project="..." item="...">: what is said about an item, or without one about the project.

import { idempotencyKey } from "./client.js";
import { ProjectElement } from "./element-project.js";
import { Keyed, h, setAttribute, setText, timeElement } from "./page-dom.js";

export class CopydeskComments extends ProjectElement {
  static observedAttributes = ["project", "item"];
  #threads;
  #parts;

  build() {
    const list = h("div", { part: "threads" });
    this.#threads = new Keyed(list, () => threadRow(this));
    this.#parts = {
      form: writingForm("Write a comment", "Comment", (body, key) =>
        this.write({ body, ...(this.item && { item_id: this.item }) }, key),
      ),
      hint: h("p", { class: "hint" }),
      list,
    };
    return Object.values(this.#parts);
  }

  get item() {
    return this.getAttribute("item") || null;
  }

  get mayWrite() {
    return this.may("comment");
  }

  write(body, key) {
    return this.change("POST", `${this.path}/comments`, { body, idempotencyKey: key }, this.store);
  }

  resolve(comment, resolved) {
    const path = `${this.path}/comments/${encodeURIComponent(comment.id)}`;
    return this.change("PATCH", path, { body: { resolved } }, this.store);
  }

  show() {
    const { form, hint } = this.#parts;
    const threads = new Map();
    for (const comment of this.store?.documents("comment") ?? []) {
      if ((comment.item_id ?? null) !== this.item) continue;
      if (!threads.has(comment.thread_id)) threads.set(comment.thread_id, []);
      threads.get(comment.thread_id).push(comment);
    }
    const entries = [...threads]
      .map(([id, comments]) => [id, comments.sort(byTime)])
      .filter(([, comments]) => comments.some((comment) => !comment.deleted_at))
      .sort(([, [a]], [, [b]]) => byTime(b, a));
    form.hidden = !this.mayWrite;
    this.#threads.update(entries);
    if (!this.project) setText(hint, "No project is named.");
    else if (this.store.state === "gone") setText(hint, "This project does not exist, or you may not see it.");
    else setText(hint, this.store.state === "loading" ? "Loading." : entries.length ? "" : "No comments yet.");
  }
}

function byTime(a, b) {
  return a.created_at.localeCompare(b.created_at) || (a.id < b.id ? -1 : 1);
}

function threadRow(view) {
  let first = null;
  const list = h("ol");
  const comments = new Keyed(list, () => commentRow(view));
  const problem = h("p", { class: "problem", role: "alert" });
  const resolve = h("button", { type: "button", click: () => act() });
  const reply = writingForm("Reply", "Reply", (body, key) => view.write({ body, thread_id: first.thread_id }, key));
  const element = h("article", { class: "thread", part: "thread" }, list, reply, resolve, problem);
  const act = async () => {
    setText(problem, "");
    try {
      await view.resolve(first, !first.resolved);
    } catch (error) {
      setText(problem, `Nothing was changed. ${error.message}`);
    }
  };
  return {
    element,
    update(given) {
      [first] = given;
      comments.update(given.map((comment) => [comment.id, comment]));
      setAttribute(element, "aria-label", `Thread by ${view.nameOf(first.author)}`);
      setAttribute(element, "data-resolved", Boolean(first.resolved));
      reply.hidden = !view.mayWrite || Boolean(first.resolved);
      // A thread is resolved at its first comment, and another program may have left only replies.
      resolve.hidden = !view.mayWrite || first.id !== first.thread_id || Boolean(first.deleted_at);
      setText(resolve, first.resolved ? "Reopen" : "Resolve");
    },
  };
}

function commentRow(view) {
  const author = h("b");
  const at = h("span", { class: "hint" });
  const body = h("p", { class: "body", part: "body" });
  let shown = null;
  return {
    element: h("li", { part: "comment" }, h("p", {}, author, " ", at), body),
    update(comment) {
      setText(author, view.nameOf(comment.author));
      if (comment === shown) return;
      shown = comment;
      at.replaceChildren(timeElement(comment.created_at), comment.edited_at && !comment.deleted_at ? " (edited)" : "");
      setText(body, comment.body ?? "This comment was deleted.");
    },
  };
}

/** A field and a button. What could not be sent stays, and is sent again under the same key. */
function writingForm(label, verb, send) {
  let key = null;
  const field = h("textarea", { "aria-label": label, placeholder: label, rows: 1, maxlength: 10_000, input: () => (key = null) });
  const button = h("button", { type: "submit", class: "primary" }, verb);
  const problem = h("p", { class: "problem", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    const body = field.value.trim();
    if (!body || button.disabled) return;
    button.disabled = true;
    setText(problem, "");
    key ??= idempotencyKey();
    try {
      await send(body, key);
      if (field.value.trim() === body) field.value = "";
      key = null;
    } catch (error) {
      setText(problem, `Not sent, and kept here. ${error.message}`);
    }
    button.disabled = false;
  };
  const keys = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.requestSubmit();
  };
  return h("form", { part: "form", submit, keydown: keys }, field, button, problem);
}

customElements.define("copydesk-comments", CopydeskComments);
