// One field of an editor, with the two versions of it where somebody else changed it meanwhile.

import { h, setAttribute, setText } from "./page-dom.js";

export class EditorField {
  #input;
  // What the server has, as far as we know.
  #base;
  // `{who, theirs, mine, choice}`; `choice` is null until one of the versions was chosen, then "mine" or "theirs".
  #conflict = null;
  #typed;
  #parts;

  /**
   * `spec`: `{name, label, read(document), write(text), required, kind, options, list, maxlength}`. `read` makes text of
   * what a document has, `write` makes of text what is sent. `typed()` is called when the user changed something.
   */
  constructor(spec, document, { mine, base, typed }) {
    this.spec = spec;
    this.#base = base ?? spec.read(document);
    this.#typed = typed;
    const looks = { required: spec.required, maxlength: spec.maxlength ?? null, list: spec.list ?? null, autocomplete: "off" };
    if (spec.options) this.#input = h("select", { change: () => this.#changed() }, ...spec.options());
    else if (spec.kind === "long") this.#input = h("textarea", { ...looks, rows: 2, input: () => this.#changed() });
    else this.#input = h("input", { ...looks, type: spec.kind ?? "text", input: () => this.#changed() });
    this.#input.value = mine ?? this.#base;
    this.#parts = {
      note: h("p", { class: "hint" }),
      problem: h("p", { class: "problem", role: "alert" }),
      said: h("p", { role: "alert" }),
      theirs: h("dd"),
      mine: h("dd"),
      keep: h("button", { type: "button", class: "quiet", click: () => this.#choose("mine") }),
      take: h("button", { type: "button", class: "quiet", click: () => this.#choose("theirs") }),
    };
    const { note, problem, said, theirs, mine: own, keep, take } = this.#parts;
    this.#parts.conflict = h(
      "div",
      { class: "conflict", role: "group", "aria-label": `Two versions of ${spec.label}` },
      said,
      h("dl", {}, h("dt", {}, "Theirs"), theirs, h("dt", {}, "Yours"), own),
      h("div", { class: "buttons" }, keep, take),
    );
    const label = h("label", {}, h("span", {}, spec.label), this.#input);
    this.element = h("div", { class: "field", "data-kind": spec.kind }, label, note, problem);
    this.meanwhile(document, null);
  }

  get name() {
    return this.spec.name;
  }

  get text() {
    return this.#input.value;
  }

  get base() {
    return this.#base;
  }

  /** Whether the user wants something else than what the server has. */
  get touched() {
    return this.#input.value !== this.#base;
  }

  /** Whether there are two versions and the user has chosen neither. */
  get undecided() {
    return this.#conflict !== null && this.#conflict.choice === null;
  }

  focus() {
    if (this.undecided) this.#parts.keep.focus();
    else this.#input.focus();
  }

  complain(text) {
    setText(this.#parts.problem, text);
    setAttribute(this.#input, "aria-invalid", text ? "true" : null);
  }

  set readOnly(yes) {
    // A list cannot be read only; what is chosen while it is being saved is another change.
    if (!this.spec.options) this.#input.readOnly = yes;
  }

  /** What the document is now. `who` changed it, null where nobody needs to be told. */
  meanwhile(document, who) {
    const theirs = this.spec.read(document);
    if (theirs === this.#base) return;
    const { touched } = this;
    this.#base = theirs;
    if (!touched) {
      this.#input.value = theirs;
      setText(this.#parts.note, who ? `${who} changed this just now.` : "");
    } else if (this.touched) {
      this.#conflict = { who: who ?? "Somebody", theirs, mine: this.#input.value, choice: null };
    }
    this.#show();
  }

  #changed() {
    this.complain("");
    setText(this.#parts.note, "");
    if (this.#conflict?.choice === null) this.#conflict.mine = this.#input.value;
    // Both say the same now, or a third version came of the two.
    if (!this.touched && this.#conflict?.choice !== "theirs") this.#conflict = null;
    else if (this.#conflict?.choice === "theirs") this.#conflict.choice = "mine";
    this.#show();
    this.#typed();
  }

  #choose(choice) {
    this.#conflict.choice = choice;
    this.#input.value = choice === "mine" ? this.#conflict.mine : this.#conflict.theirs;
    this.#show();
    this.#input.focus();
    this.#typed();
  }

  #show() {
    const { conflict, said, theirs, mine, keep, take } = this.#parts;
    if (!this.#conflict) {
      conflict.remove();
      return;
    }
    if (!conflict.isConnected) this.element.append(conflict);
    const { who, choice } = this.#conflict;
    const question = `${who} changed this meanwhile. Which one is to stay?`;
    setText(said, { mine: "Yours will be saved.", theirs: "Theirs stays." }[choice] ?? question);
    setText(theirs, this.#shown(this.#conflict.theirs));
    setText(mine, this.#shown(this.#conflict.mine));
    setText(keep, choice === "theirs" ? "Put mine back" : "Keep mine");
    setText(take, "Take theirs");
    keep.hidden = choice === "mine";
    take.hidden = choice === "theirs";
  }

  /** A value as people know it. */
  #shown(value) {
    const option = this.spec.options && [...this.#input.options].find((entry) => entry.value === value);
    return option?.textContent || value || "(empty)";
  }
}

/** A time of the API as an input for local time has it, and back. Empty is none. */
export function localTime(iso) {
  if (!iso) return "";
  const time = new Date(iso);
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

export function apiTime(text) {
  return text ? new Date(text).toISOString() : null;
}
