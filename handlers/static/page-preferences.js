// The preferences page: which notifications come by which way, and when not.

import { TYPES } from "./page-bell-words.js";
import { h, setAttribute, setText } from "./page-dom.js";

const EMAIL = { off: "Never", now: "At once", hourly: "Once an hour", daily: "Once a day" };
// Whoever switches quiet hours on for the first time finds these.
const NIGHT = { from: "20:00", to: "07:00" };
const BROWSER_ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

const EXPLAINED = {
  mention: "Somebody names you, or a group of yours, in a comment.",
  reply: "Somebody answers in a thread that you wrote in.",
  comment: "Somebody comments on what you follow.",
  assigned: "Somebody gives you an item.",
  item_status: "The status of your item, or of one that you follow, changes.",
  publish_result: "Publishing something succeeded or failed.",
  custom: "Other programs tell you something.",
};

export class PreferencesView {
  #page;
  #closed = false;
  // The path of a value, as the server names it -> {control, problem}.
  #fields = new Map();
  #quiet;
  #quietTimes;
  #parts;

  constructor(page) {
    this.#page = page;
    const names = Intl.supportedValuesOf("timeZone").map((value) => h("option", { value }));
    this.#quiet = h("input", { type: "checkbox", change: () => this.#showQuiet() });
    this.#quietTimes = h(
      "div",
      { class: "pair" },
      this.#field("quiet_hours.from", "From", h("input", { type: "time", required: true })),
      this.#field("quiet_hours.to", "To", h("input", { type: "time", required: true })),
    );
    const zone = h("input", { list: "zones", required: true, autocomplete: "off", spellcheck: "false" });
    this.#parts = {
      status: h("p", { class: "empty", role: "status" }, "Loading"),
      again: h("button", { type: "button", hidden: true, click: () => this.#load() }, "Try again"),
      problem: h("p", { class: "problem", role: "alert" }),
      result: h("p", { class: "result", role: "status" }),
      save: h("button", { type: "submit" }, "Save"),
      useZone: h("button", { type: "button", class: "quiet", click: () => this.#useZone() }, `Use ${BROWSER_ZONE}`),
    };
    const { status, again, problem, result, save, useZone } = this.#parts;
    const input = () => this.#changed();
    const submit = (event) => this.#save(event);
    this.#parts.form = h(
      "form",
      { class: "preferences", hidden: true, novalidate: true, input, submit },
      this.#table(),
      h(
        "fieldset",
        {},
        h("legend", {}, "When e-mail may come"),
        h("label", { class: "choice" }, this.#quiet, "Quiet hours"),
        h("p", { class: "hint" }, "What comes in quiet hours is sent when they are over. The bell shows it at once."),
        this.#quietTimes,
        this.#problem("quiet_hours"),
        h("div", { class: "pair" }, this.#field("time_zone", "Time zone", zone), useZone),
        h("datalist", { id: "zones" }, ...names),
      ),
      problem,
      h("div", { class: "pair" }, save, result),
    );
    this.element = h(
      "section",
      { class: "home", "aria-labelledby": "home" },
      h("nav", { "aria-label": "Breadcrumb" }, h("a", { href: "#/" }, "All projects")),
      h("h1", { id: "home" }, "Notification preferences"),
      status,
      again,
      this.#parts.form,
    );
    page.setTitle("Preferences");
    this.#load();
  }

  close() {
    this.#closed = true;
  }

  async #load() {
    const { status, again, form } = this.#parts;
    setText(status, "Loading");
    again.hidden = true;
    try {
      const { body } = await this.#page.request("GET", "/preferences");
      if (this.#closed) return;
      this.#fill(body);
      setText(status, "");
      form.hidden = false;
    } catch (error) {
      setText(status, `The preferences could not be read. ${error.message}`);
      again.hidden = false;
    }
  }

  #fill({ types, quiet_hours: quiet, time_zone: zone }) {
    for (const type of Object.keys(TYPES)) {
      this.#control(`types.${type}.in_app`).checked = types[type].in_app;
      this.#control(`types.${type}.email`).value = types[type].email;
    }
    this.#quiet.checked = quiet !== undefined;
    this.#control("quiet_hours.from").value = (quiet ?? NIGHT).from;
    this.#control("quiet_hours.to").value = (quiet ?? NIGHT).to;
    this.#control("time_zone").value = zone;
    this.#showQuiet();
  }

  #read() {
    const types = Object.keys(TYPES).map((type) => [
      type,
      { in_app: this.#control(`types.${type}.in_app`).checked, email: this.#control(`types.${type}.email`).value },
    ]);
    const quiet = { from: this.#control("quiet_hours.from").value, to: this.#control("quiet_hours.to").value };
    return {
      types: Object.fromEntries(types),
      ...(this.#quiet.checked && { quiet_hours: quiet }),
      time_zone: this.#control("time_zone").value.trim(),
    };
  }

  async #save(event) {
    event.preventDefault();
    const { result, save, problem } = this.#parts;
    if (save.getAttribute("aria-disabled")) return;
    this.#clearProblems();
    setAttribute(save, "aria-disabled", "true");
    setText(result, "Saving");
    try {
      const { body } = await this.#page.request("PUT", "/preferences", { body: this.#read() });
      this.#fill(body);
      setText(result, "Saved.");
    } catch (error) {
      setText(result, "");
      const rest = this.#showProblems(error.errors ?? []);
      const reason = rest.length ? rest.join(" ") : error.status === 422 ? "See above." : error.message;
      setText(problem, `Nothing was saved. ${reason}`);
    }
    setAttribute(save, "aria-disabled", null);
  }

  /** Shows each error at its field, and goes to the first; answers the messages that belong to none. */
  #showProblems(errors) {
    const rest = [];
    let first = null;
    for (const { path, message } of errors) {
      const found = this.#fields.get(path.replace(/^\$\.?/, ""));
      if (!found) {
        rest.push(message);
        continue;
      }
      setText(found.problem, message);
      if (found.control) setAttribute(found.control, "aria-invalid", "true");
      first ??= found.control;
    }
    first?.focus();
    return rest;
  }

  #clearProblems() {
    setText(this.#parts.problem, "");
    for (const { control, problem } of this.#fields.values()) {
      setText(problem, "");
      if (control) setAttribute(control, "aria-invalid", null);
    }
  }

  #changed() {
    setText(this.#parts.result, "");
    this.#showZone();
  }

  #useZone() {
    this.#control("time_zone").value = BROWSER_ZONE;
    this.#control("time_zone").focus();
    this.#changed();
  }

  #showQuiet() {
    this.#quietTimes.hidden = !this.#quiet.checked;
    this.#showZone();
  }

  #showZone() {
    this.#parts.useZone.hidden = this.#control("time_zone").value === BROWSER_ZONE;
  }

  #table() {
    const head = ["Notification", "In the bell", "By e-mail"].map((text) => h("th", { scope: "col" }, text));
    const rows = Object.entries(TYPES).map(([type, { label }]) => this.#row(type, label));
    return h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows));
  }

  #row(type, label) {
    const shown = h("input", { type: "checkbox", "aria-label": `${label} in the bell` });
    const options = Object.entries(EMAIL).map(([value, text]) => h("option", { value }, text));
    const mailed = h("select", { "aria-label": `${label} by e-mail` }, ...options);
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, label, h("p", { class: "hint" }, EXPLAINED[type]), this.#problem(`types.${type}`)),
      h("td", {}, h("label", {}, shown, h("span", {}, "In the bell")), this.#problem(`types.${type}.in_app`, shown)),
      h("td", {}, h("label", {}, h("span", {}, "By e-mail"), mailed), this.#problem(`types.${type}.email`, mailed)),
    );
  }

  #field(path, label, control) {
    return h("label", {}, label, control, this.#problem(path, control));
  }

  /** Where is said what is wrong with the value at `path`; without a control, with a group of them. */
  #problem(path, control = null) {
    const id = `problem-${path.replaceAll(".", "-")}`;
    const problem = h("p", { id, class: "problem" });
    if (control) setAttribute(control, "aria-describedby", id);
    this.#fields.set(path, { control, problem });
    return problem;
  }

  #control(path) {
    return this.#fields.get(path).control;
  }
}
