// Changing a document in place. A change of somebody else in between is shown beside one's own; neither gets lost.

import { form, h, setAttribute, setText } from "./page-dom.js";
import { EditorField, apiTime, localTime } from "./page-item-field.js";

// Somebody may change it again and again just then; that is no reason to go on for ever.
const ATTEMPTS = 5;

/** A form for some fields of one document, kept through events, a reload and a new sign-in until it is saved. */
export class DocumentEditor {
  #page;
  #options;
  #fields;
  // Belongs to the version that `#fields` know; null where that is not certain.
  #etag = null;
  #reading = null;
  #saving = false;
  #gone = false;
  #parts;

  /**
   * `options`: `{path, store, label, specs, place, who(document), saved(document), close()}`. `specs` are those of
   * `EditorField`, `place` names the draft, `who` answers the name of whoever changed the document last.
   */
  constructor(page, document, options) {
    this.#page = page;
    this.#options = options;
    const draft = readDraft(page, options.place);
    const typed = () => this.#typed();
    this.#fields = options.specs.map((spec) => new EditorField(spec, document, { ...draft[spec.name], typed }));
    this.#parts = {
      problem: h("p", { class: "problem", role: "alert" }),
      save: h("button", { type: "submit" }, "Save"),
      cancel: h("button", { type: "button", class: "quiet", click: () => this.#cancel() }),
    };
    const { problem, save, cancel } = this.#parts;
    this.element = form(
      { label: options.label, send: () => this.#save(), pressed: (event) => this.#pressed(event) },
      h("div", { class: "fields" }, ...this.#fields.map(({ element }) => element)),
      problem,
      h("div", { class: "buttons" }, save, cancel),
    );
    this.#show();
    // A failure now is none yet: what is needed is asked for again with the first attempt to save.
    this.#read().catch(() => {});
  }

  focus() {
    this.#fields[0].focus();
  }

  /** The document as it is now. */
  meanwhile(document) {
    this.#gone = false;
    this.#etag = null;
    for (const field of this.#fields) field.meanwhile(document, this.#options.who(document));
    this.#show();
  }

  /** The document is no more; what was typed can still be copied. */
  gone(who) {
    this.#gone = true;
    this.#show(`${who} removed this meanwhile, so it cannot be saved. What you typed stays here until you close it.`);
  }

  get #touched() {
    return this.#fields.filter((field) => field.touched);
  }

  #typed() {
    const entries = this.#touched.map(({ name, text, base }) => [name, { mine: text, base }]);
    this.#keep(entries.length ? JSON.stringify(Object.fromEntries(entries)) : "");
    this.#show();
  }

  #keep(text) {
    this.#page.drafts?.set(this.#options.place, { text, key: null });
  }

  #pressed(event) {
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      if (!this.#touched.length) this.#cancel();
      else this.#show("There is something that is not saved. Save it or discard it.");
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.#save();
    }
  }

  #cancel() {
    this.#keep("");
    this.#options.close();
  }

  /** Reads the document with its entity tag, once for all who ask at the same time. */
  async #read() {
    this.#reading ??= this.#page.request("GET", this.#options.path).finally(() => (this.#reading = null));
    const { body, etag } = await this.#reading;
    for (const field of this.#fields) field.meanwhile(body, this.#options.who(body));
    this.#etag = etag;
    this.#show();
  }

  async #save() {
    if (this.#saving || this.#gone || !this.#mayBeSent()) return;
    this.#saving = true;
    this.#show();
    let problem = "";
    try {
      const body = await this.#send();
      if (body) {
        this.#keep("");
        this.#options.saved(body);
        this.#options.close();
        return;
      }
    } catch (error) {
      problem = this.#explain(error);
    } finally {
      this.#saving = false;
    }
    this.#show(problem);
    this.#mayBeSent();
  }

  /** Whether nothing is left to be decided or filled in; otherwise goes to where it is. */
  #mayBeSent() {
    const undecided = this.#fields.find((field) => field.undecided);
    const empty = this.#fields.find(({ spec, text }) => spec.required && !text.trim());
    empty?.complain("This must not be empty.");
    (undecided ?? empty)?.focus();
    return !undecided && !empty;
  }

  /** The document as saved; undefined where there are two versions to choose from. */
  async #send() {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      if (!this.#etag) await this.#read();
      if (this.#fields.some((field) => field.undecided)) return undefined;
      const body = Object.fromEntries(this.#touched.map(({ name, spec, text }) => [name, spec.write(text)]));
      const options = { body, ifMatch: this.#etag };
      try {
        return (await this.#page.change("PATCH", this.#options.path, options, this.#options.store)).body;
      } catch (error) {
        if (error.status !== 412) throw error;
        this.#etag = null;
      }
    }
    throw new Error("Others keep changing it at this moment. Try again.");
  }

  #explain(error) {
    for (const { path, message } of error.errors ?? []) {
      this.#fields.find(({ name }) => path === `$.${name}` || path.startsWith(`$.${name}.`))?.complain(message);
    }
    if (error.status === 404) return "It is not there any more, so it cannot be saved. What you typed stays here until you close it.";
    return `Not saved. ${error.message}`;
  }

  #show(problem = "") {
    const { problem: element, save, cancel } = this.#parts;
    const undecided = this.#fields.some((field) => field.undecided);
    setText(element, problem);
    setText(save, this.#saving ? "Saving" : problem ? "Try again" : "Save");
    setAttribute(save, "hidden", this.#gone);
    setAttribute(save, "aria-disabled", this.#saving || undecided ? "true" : null);
    setText(cancel, this.#gone ? "Close" : this.#touched.length ? "Discard" : "Cancel");
    for (const field of this.#fields) field.readOnly = this.#saving || this.#gone;
  }
}

function readDraft(page, place) {
  try {
    return JSON.parse(page.drafts.get(place).text || "{}");
  } catch {
    return {};
  }
}

const optional = (field) => ({ read: (document) => document[field] ?? "", write: (text) => text.trim() || null });
const TYPES = ["page", "block", "media", "product"];

/** What of an item can be changed beside its status, which has its own list. */
const ITEM = [
  { name: "name", label: "Name", required: true, maxlength: 255, read: ({ name }) => name, write: (text) => text.trim() },
  {
    name: "type",
    label: "Type",
    required: true,
    maxlength: 255,
    list: "item-types",
    read: ({ type }) => type,
    write: (text) => text.trim(),
  },
  { name: "assignee", label: "Assigned to", maxlength: 64, list: "project-people", ...optional("assignee") },
  { name: "publish_at", label: "Goes out at", kind: "datetime-local", read: (item) => localTime(item.publish_at), write: apiTime },
  { name: "path", label: "Path", maxlength: 2000, ...optional("path") },
  { name: "url", label: "Address in the CMS", maxlength: 2000, ...optional("url") },
];

/** Changes an item; the lists that its fields suggest from are those of `suggestions`. */
export class ItemEditor extends DocumentEditor {
  constructor(page, view, item, { saved, close }) {
    const project = encodeURIComponent(view.projectId);
    super(page, item, {
      path: `/projects/${project}/items/${encodeURIComponent(item.id)}`,
      store: view.store,
      label: `Edit ${item.name}`,
      specs: ITEM,
      place: draftOfItem(view.projectId, item.id),
      who: ({ changed_by: by }) => (!by ? "Somebody" : by === page.user?.id ? "You, elsewhere," : view.nameOf(by)),
      saved,
      close,
    });
  }
}

export function draftOfItem(projectId, itemId) {
  return `${projectId}/edit/${itemId}`;
}

/** The lists that fields of items suggest from. */
export function suggestions(page, projectId) {
  const people = h("datalist", { id: "project-people" });
  const types = h("datalist", { id: "item-types" }, ...TYPES.map((value) => h("option", { value })));
  const element = h("div", { hidden: true }, types, people);
  let asked = false;
  return {
    element,
    /** Asks once who may be given an item; without an answer an id can still be typed. */
    async read() {
      if (asked) return;
      asked = true;
      try {
        const { body } = await page.request("GET", `/users?${new URLSearchParams({ project_id: projectId, limit: 200 })}`);
        people.replaceChildren(...body.items.map(({ id, name }) => h("option", { value: id }, name)));
      } catch {
        asked = false;
      }
    },
  };
}
