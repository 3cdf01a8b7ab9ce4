// Adding an item: which version of which content, and what it is called.

import { idempotencyKey } from "./client.js";
import { field, foldedForm, h, setAttribute, setText } from "./page-dom.js";
import { FOR_PUBLISHERS, statusOptions } from "./page-item-words.js";

const FIELDS = [
  { path: "content.id", label: "Content id in the CMS", required: true, maxlength: 255 },
  { path: "content.version", label: "Version", required: true, maxlength: 255, first: "1" },
  { path: "language", label: "Language", maxlength: 35, hint: "such as en; empty for any" },
  { path: "name", label: "Name", required: true, maxlength: 255 },
  { path: "type", label: "Type", required: true, maxlength: 255, first: "page", list: "item-types" },
  { path: "path", label: "Path", maxlength: 2000 },
  { path: "url", label: "Address in the CMS", maxlength: 2000, hint: "https://" },
];
// The next item is mostly of the same kind; these are what tells it from this one.
const OWN = ["content.id", "name", "path", "url"];

export class AddItem {
  #page;
  #view;
  #table;
  #open = false;
  #sending = false;
  // The key of an attempt of which nobody knows how it ended, and what was sent with it.
  #attempt = null;
  #fields = new Map();
  #parts;

  constructor(page, view, table) {
    this.#page = page;
    this.#view = view;
    this.#table = table;
    const status = h("select", {}, ...statusOptions(h));
    status.value = "draft";
    this.#parts = {
      opener: h("button", { type: "button", class: "quiet", click: () => this.#toggle() }, "Add item"),
      status,
      held: h("p", { class: "hint", role: "status" }),
      problem: h("p", { class: "problem", role: "alert" }),
      result: h("p", { class: "result", role: "status" }),
      send: h("button", { type: "submit" }, "Add"),
      close: h("button", { type: "button", class: "quiet", click: () => this.#toggle() }, "Close"),
    };
    const { opener, held, problem, result, send, close } = this.#parts;
    const fields = FIELDS.map((spec) => this.#field(spec));
    this.#parts.form = foldedForm(
      { label: "Add an item", looks: "add", send: () => this.#send(), leave: () => this.#toggle() },
      h("div", { class: "fields" }, ...fields, field("Status", status)),
      held,
      problem,
      h("div", { class: "buttons" }, send, close, result),
    );
    this.opener = opener;
    this.element = this.#parts.form;
  }

  show() {
    const may = this.#table.may("edit");
    const { opener, form, status, send } = this.#parts;
    setAttribute(opener, "hidden", !may && !this.#open);
    setAttribute(opener, "aria-expanded", String(this.#open));
    setAttribute(form, "hidden", !this.#open);
    setAttribute(send, "aria-disabled", this.#sending || !may ? "true" : null);
    for (const option of status.options) option.disabled = FOR_PUBLISHERS.has(option.value) && !this.#table.may("publish");
  }

  #field({ path, label, required = false, maxlength, first = "", hint = null, list = null }) {
    const looks = { required, maxlength, list, placeholder: hint, autocomplete: "off", spellcheck: path === "name" ? null : "false" };
    const input = h("input", { ...looks, input: () => setText(problem, "") });
    const problem = h("p", { class: "problem", role: "alert" });
    input.value = first;
    if (path === "content.id") input.addEventListener("change", () => this.#findHolders());
    this.#fields.set(path, { input, problem, required });
    return field(label, input, problem);
  }

  #toggle() {
    this.#open = !this.#open;
    this.show();
    if (this.#open) this.#fields.get("content.id").input.focus();
    else this.#parts.opener.focus();
  }

  /** Says early where a content stands already: only one project can have a version of it. */
  async #findHolders() {
    const { held } = this.#parts;
    const id = this.#text("content.id");
    setText(held, "");
    if (!id) return;
    try {
      const { body } = await this.#page.request("GET", `/items?${new URLSearchParams({ content_id: id, limit: 5 })}`);
      if (id !== this.#text("content.id") || !body.items.length) return;
      const places = body.items.map(({ content, language, project_id: project }) => {
        const version = `version ${content.version}${language ? ` (${language})` : ""}`;
        return `${version} in ${project === this.#view.projectId ? "this project" : "another project"}`;
      });
      setText(held, `There already: ${places.join(", ")}.`);
    } catch {
      // The server says so in any case when it is added.
    }
  }

  async #send() {
    if (this.#sending || !this.#table.may("edit") || !this.#isComplete()) return;
    const { problem, result } = this.#parts;
    const typed = JSON.stringify(this.#body());
    // The server may have added it and the answer got lost: with the same key and body it is added once.
    if (this.#attempt?.typed !== typed) {
      // Behind all others in the project's own order, as far as it goes.
      const rank = Math.min(2 ** 53, this.#table.lastRank + 1);
      this.#attempt = { typed, body: { ...this.#body(), rank }, key: idempotencyKey() };
    }
    const { body, key } = this.#attempt;
    this.#sending = true;
    setText(problem, "");
    setText(result, "");
    this.show();
    try {
      const path = `/projects/${encodeURIComponent(this.#view.projectId)}/items`;
      const answer = await this.#page.change("POST", path, { body, idempotencyKey: key }, this.#view.store);
      this.#table.put(answer.body);
      setText(result, `${answer.body.name} was added.`);
      for (const own of OWN) this.#fields.get(own).input.value = "";
      this.#attempt = null;
      this.#fields.get("content.id").input.focus();
    } catch (error) {
      this.#explain(error);
    }
    this.#sending = false;
    this.show();
  }

  #explain({ status, message, errors = [] }) {
    // Under the same key the server would say the same again.
    if (status === 409 || status === 422) this.#attempt = null;
    for (const { path, message: words } of errors) {
      const field = this.#fields.get(path.replace("$.", ""));
      if (field) setText(field.problem, words);
    }
    setText(this.#parts.problem, `Not added. ${message}`);
  }

  #isComplete() {
    const missing = [...this.#fields.values()].filter(({ input, required }) => required && !input.value.trim());
    for (const { problem } of missing) setText(problem, "This must not be empty.");
    missing[0]?.input.focus();
    return missing.length === 0;
  }

  #text(path) {
    return this.#fields.get(path).input.value.trim();
  }

  #body() {
    const body = {
      content: { id: this.#text("content.id"), version: this.#text("content.version") },
      name: this.#text("name"),
      type: this.#text("type"),
      language: this.#text("language"),
      status: this.#parts.status.value,
    };
    for (const path of ["path", "url"]) if (this.#text(path)) body[path] = this.#text(path);
    return body;
  }
}
