// Changing a project: its name and what else is said of it, and putting it into the archive and back.

import { h, setAttribute, setText } from "./page-dom.js";
import { DocumentEditor } from "./page-item-edit.js";
import { apiTime, localTime } from "./page-item-field.js";

const VISIBILITY = { public: "Public: everybody may edit", private: "Private: members only" };
const LIMIT_OF_LABELS = 20;

const FIELDS = [
  { name: "name", label: "Name", required: true, maxlength: 255, read: ({ name }) => name, write: (text) => text.trim() },
  {
    name: "description",
    label: "Description",
    kind: "long",
    maxlength: 2000,
    read: ({ description }) => description ?? "",
    write: (text) => text.trim() || null,
  },
  { name: "labels", label: "Labels, with commas between", read: ({ labels }) => labels.join(", "), write: splitLabels },
  { name: "due_at", label: "Due at", kind: "datetime-local", read: (project) => localTime(project.due_at), write: apiTime },
];
const FOR_OWNERS = [
  { name: "visibility", label: "Who may see it", options: visibilityOptions, read: ({ visibility }) => visibility, write: (text) => text },
];

export function visibilityOptions() {
  return Object.entries(VISIBILITY).map(([value, label]) => h("option", { value }, label));
}

function splitLabels(text) {
  return [...new Set(text.split(",").map((label) => label.trim()).filter(Boolean))].slice(0, LIMIT_OF_LABELS);
}

/** Buttons to edit and to archive one project, with the form for the former. */
export class ProjectActions {
  #page;
  #store;
  #archived;
  #project = null;
  #may = null;
  #editor = null;
  #parts;

  /** `archived(project, did)` hears that it was put into the archive (`did`) or taken back. */
  constructor(page, store, archived = () => {}) {
    this.#page = page;
    this.#store = store;
    this.#archived = archived;
    this.#parts = {
      edit: h("button", { type: "button", class: "quiet", click: () => this.#edit() }, "Edit"),
      archive: h("button", { type: "button", class: "quiet", click: () => this.#archive() }),
      problem: h("p", { class: "problem", role: "alert" }),
      editing: h("div", { class: "editing", hidden: true }),
    };
    const { edit, archive, problem, editing } = this.#parts;
    this.element = h("div", { class: "actions" }, h("div", { class: "buttons" }, edit, archive), problem, editing);
  }

  /** `may(action)` answers whether the user may `edit` or `manage` it. */
  show(project, may) {
    const { edit, archive } = this.#parts;
    if (this.#project && this.#project !== project) this.#editor?.meanwhile(project);
    const first = this.#project === null;
    this.#project = project;
    this.#may = may;
    setAttribute(edit, "hidden", !may("edit"));
    setAttribute(edit, "aria-label", `Edit ${project.name}`);
    setAttribute(edit, "aria-expanded", String(this.#editor !== null));
    setAttribute(archive, "hidden", !may("manage"));
    setText(archive, project.archived_at ? "Take back" : "Archive");
    setAttribute(archive, "aria-label", project.archived_at ? `Take ${project.name} back from the archive` : `Archive ${project.name}`);
    // What was typed before a reload is still to be saved.
    if (first && this.#page.drafts.get(this.#place).text) this.#open();
  }

  get #place() {
    return `${this.#project.id}/edit`;
  }

  get #path() {
    return `/projects/${encodeURIComponent(this.#project.id)}`;
  }

  #edit() {
    if (this.#editor) {
      this.#editor.focus();
      return;
    }
    this.#open();
    this.#editor.focus();
  }

  #open() {
    this.#editor = new DocumentEditor(this.#page, this.#project, {
      path: this.#path,
      store: this.#store,
      label: `Edit ${this.#project.name}`,
      specs: this.#may("manage") ? [...FIELDS, ...FOR_OWNERS] : FIELDS,
      place: this.#place,
      who: ({ updated_by: by }) => (!by ? "Somebody" : by === this.#page.user?.id ? "You, elsewhere," : this.#page.people.nameOf(by)),
      saved: () => {},
      close: () => this.#close(),
    });
    this.#parts.editing.replaceChildren(this.#editor.element);
    setAttribute(this.#parts.editing, "hidden", false);
    setAttribute(this.#parts.edit, "aria-expanded", "true");
  }

  #close() {
    this.#editor = null;
    this.#parts.editing.replaceChildren();
    setAttribute(this.#parts.editing, "hidden", true);
    setAttribute(this.#parts.edit, "aria-expanded", "false");
    this.#parts.edit.focus();
  }

  async #archive() {
    const { problem } = this.#parts;
    const project = this.#project;
    const archived = !project.archived_at;
    setText(problem, "");
    try {
      await this.#page.change("PATCH", this.#path, { body: { archived } }, this.#store);
      this.#archived(project, archived);
    } catch (error) {
      setText(problem, `Nothing was changed. ${error.message}`);
    }
  }
}
