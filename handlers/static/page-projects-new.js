// Making a project.

import { idempotencyKey } from "./client.js";
import { field, foldedForm, h, setAttribute, setText } from "./page-dom.js";
import { visibilityOptions } from "./page-projects-edit.js";

const PLACE = "new project";

export class NewProject {
  #page;
  #sending = false;
  #parts;

  constructor(page) {
    this.#page = page;
    const typed = () => this.#typed();
    this.#parts = {
      opener: h("button", { type: "button", click: () => this.#toggle() }, "New project"),
      name: h("input", { required: true, maxlength: 255, autocomplete: "off", input: typed }),
      description: h("textarea", { rows: 2, maxlength: 2000, input: typed }),
      visibility: h("select", { change: typed }, ...visibilityOptions()),
      problem: h("p", { class: "problem", role: "alert" }),
      send: h("button", { type: "submit" }, "Create"),
      close: h("button", { type: "button", class: "quiet", click: () => this.#toggle() }, "Cancel"),
    };
    const { opener, name, description, visibility, problem, send, close } = this.#parts;
    this.#parts.form = foldedForm(
      { label: "New project", looks: "card-like", send: () => this.#send(), leave: () => this.#toggle() },
      h("div", { class: "fields" }, field("Name of the project", name), field("Who may see it", visibility), field("Description", description)),
      problem,
      h("div", { class: "buttons" }, send, close),
    );
    this.opener = opener;
    this.element = this.#parts.form;
    this.#restore();
  }

  /** Opens the form. */
  open() {
    if (this.#parts.form.hidden) this.#toggle();
    else this.#parts.name.focus();
  }

  #toggle() {
    const { form, opener, name } = this.#parts;
    form.hidden = !form.hidden;
    setAttribute(opener, "aria-expanded", String(!form.hidden));
    (form.hidden ? opener : name).focus();
  }

  #values() {
    const { name, description, visibility } = this.#parts;
    return { name: name.value.trim(), description: description.value.trim(), visibility: visibility.value };
  }

  #typed() {
    const values = this.#values();
    // Another text is another project: the server would refuse it under the old key.
    const text = values.name || values.description ? JSON.stringify(values) : "";
    this.#page.drafts.set(PLACE, { text, key: null });
    setText(this.#parts.problem, "");
  }

  #restore() {
    const { text } = this.#page.drafts.get(PLACE);
    if (!text) return;
    const { form, opener, ...inputs } = this.#parts;
    for (const [name, value] of Object.entries(JSON.parse(text))) inputs[name].value = value;
    form.hidden = false;
    setAttribute(opener, "aria-expanded", "true");
  }

  async #send() {
    const { name, problem, send } = this.#parts;
    const values = this.#values();
    if (this.#sending) return;
    if (!values.name) {
      setText(problem, "A project needs a name.");
      name.focus();
      return;
    }
    if (!values.description) delete values.description;
    const { drafts } = this.#page;
    const key = drafts.get(PLACE).key ?? idempotencyKey();
    drafts.set(PLACE, { text: JSON.stringify(this.#values()), key });
    this.#sending = true;
    setText(send, "Creating");
    setText(problem, "");
    try {
      const { body } = await this.#page.request("POST", "/projects", { body: values, idempotencyKey: key });
      drafts.set(PLACE, { text: "", key: null });
      // Whoever makes a project wants to fill it.
      location.hash = `#/projects/${encodeURIComponent(body.id)}`;
    } catch (error) {
      setText(problem, `The project was not created. ${error.message}`);
    }
    this.#sending = false;
    setText(send, problem.textContent ? "Try again" : "Create");
  }
}
