// Mentions: completing a name that is typed after `@`, and showing who is named in a text.

import { count, h, setAttribute, setText } from "./page-dom.js";
import { whenReleased } from "./page-threads-press.js";

// Whoever types on knows the name; and each question costs the server something.
const WAIT_MS = 150;

// What stands between an `@` that begins a mention and the caret. Names of people may have letters that ids have not.
const TYPED = /(?<![\p{L}\p{N}_])@([\p{L}\p{N}._:-]{0,64})$/u;

// The server's rule: not after a word character, and a full stop or dash at the end is the sentence's.
const MENTION = /(?<![\p{L}\p{N}_])@(role:)?([A-Za-z0-9._-]{0,63}[A-Za-z0-9_])(?![A-Za-z0-9_])/gu;

let lists = 0;

/**
 * Completes mentions in one field: the listbox pattern, with the focus staying in the field.
 *
 * HTML does not allow `role="combobox"` on a field of several lines, so it stays a text box that has a listbox.
 */
export class MentionCompletion {
  #field;
  #candidates;
  #timer = null;
  #asked = null;
  // `{start, typed}` of a mention to leave alone: one that was completed, as long as it stays so, or with null for
  // `typed` one that Escape was pressed in, whatever is typed on.
  #dismissed = null;
  #found = [];
  #active = 0;
  #list;
  #status;

  /** `candidates`: see `Candidates`. `element` belongs below the field. */
  constructor(field, candidates) {
    this.#field = field;
    this.#candidates = candidates;
    const id = `mentions-${++lists}`;
    this.#list = h("ul", { id, class: "mentions", role: "listbox", "aria-label": "People and groups", hidden: true });
    // In place from the beginning: a screen reader does not speak what comes together with its region.
    this.#status = h("p", { class: "unseen", role: "status" });
    this.element = h("div", { class: "completion" }, this.#list, this.#status);
    setAttribute(field, "aria-autocomplete", "list");
    setAttribute(field, "aria-haspopup", "listbox");
    setAttribute(field, "aria-controls", id);
    field.addEventListener("input", () => this.#typed());
    field.addEventListener("keydown", (event) => this.#key(event));
    field.addEventListener("keyup", () => this.#moved());
    field.addEventListener("click", () => this.#moved());
    field.addEventListener("blur", () => whenReleased(() => document.activeElement === field || this.#close()));
  }

  /** `{start, typed}` of the mention before the caret, or null. */
  get #mention() {
    const { selectionStart: caret, selectionEnd: end, value } = this.#field;
    const found = caret === end && TYPED.exec(value.slice(0, caret));
    return found ? { start: found.index, typed: found[1] } : null;
  }

  #typed() {
    const mention = this.#mention;
    clearTimeout(this.#timer);
    if (!mention) this.#dismissed = null;
    const { start, typed = null } = this.#dismissed ?? {};
    if (!mention || (mention.start === start && (typed ?? mention.typed) === mention.typed)) this.#close();
    else this.#timer = setTimeout(() => this.#ask(mention.typed), WAIT_MS);
  }

  async #ask(typed) {
    const asked = (this.#asked = {});
    let found = [];
    try {
      found = await this.#candidates.find(typed);
    } catch {
      // Names can be written without help.
    }
    // Typed on, gone elsewhere, or gone away meanwhile.
    if (asked !== this.#asked || this.#mention?.typed !== typed || document.activeElement !== this.#field) return;
    this.#found = found;
    this.#list.replaceChildren(...found.map((candidate, index) => this.#option(candidate, index)));
    this.#list.hidden = found.length === 0;
    setText(this.#status, found.length ? `${count(found.length, "suggestion")}. Enter takes one, Escape none.` : "");
    this.#show(0);
    if (found.length) this.#list.scrollIntoView({ block: "nearest" });
  }

  #option({ text, name, what }, index) {
    return h(
      "li",
      {
        id: `${this.#list.id}-${index}`,
        role: "option",
        // The field would lose the focus, and the list would close before it is chosen from.
        pointerdown: (event) => event.preventDefault(),
        // Not on entering: the list may have come to where the pointer rests.
        pointermove: () => this.#show(index),
        click: () => this.#take(index),
      },
      h("b", {}, name),
      " ",
      h("span", { class: "hint" }, text),
      what ? h("span", { class: "hint" }, ` ${what}`) : null,
    );
  }

  /** Marks the option that Enter would take. */
  #show(index = this.#active) {
    this.#active = index;
    const options = [...this.#list.children];
    options.forEach((option, index) => setAttribute(option, "aria-selected", String(index === this.#active)));
    const active = this.#list.hidden ? null : options[this.#active];
    setAttribute(this.#field, "aria-activedescendant", active ? active.id : null);
    active?.scrollIntoView({ block: "nearest" });
  }

  #key(event) {
    // It is sent as it stands, also where the list is yet to come.
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#close();
    if (this.#list.hidden || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      this.#show((this.#active + step + this.#found.length) % this.#found.length);
    } else if (event.key === "Enter" || (event.key === "Tab" && !event.shiftKey)) this.#take(this.#active);
    else if (event.key === "Escape") {
      this.#dismissed = { start: this.#mention?.start, typed: null };
      this.#close();
    } else return;
    event.preventDefault();
    // What is around the field has its own use for Escape.
    event.stopPropagation();
  }

  /** The caret may have left the mention without anything being typed. */
  #moved() {
    if (!this.#list.hidden && !this.#mention) this.#close();
  }

  #take(index) {
    const { text } = this.#found[index];
    const mention = this.#mention;
    this.#close();
    if (!mention) return;
    const field = this.#field;
    const caret = field.selectionStart;
    const written = /^\s/u.test(field.value.slice(caret)) ? text : `${text} `;
    // Complete as it is, even where the caret still stands behind it.
    this.#dismissed = { start: mention.start, typed: text.slice(1) };
    field.setSelectionRange(mention.start, caret);
    // Deprecated and without a successor: nothing else leaves it to Ctrl+Z to take it back.
    if (document.execCommand("insertText", false, written)) return;
    field.setRangeText(written, mention.start, caret, "end");
    field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  }

  #close() {
    clearTimeout(this.#timer);
    this.#asked = null;
    this.#list.hidden = true;
    setText(this.#status, "");
    setAttribute(this.#field, "aria-activedescendant", null);
  }
}

/** The text of a comment as nodes, with those marked whom the server found mentioned in it. */
export function withMentions({ body, mentions = [], mention_groups: groups = [] }, nameOf, userId) {
  const nodes = [];
  let from = 0;
  for (const found of body.matchAll(MENTION)) {
    const [text, role, name] = found;
    if (!(role ? groups : mentions).includes(name)) continue;
    const title = role ? `The group ${name}` : nameOf(name);
    const mention = h("span", { class: "mention", title, "data-me": !role && name === userId }, text);
    nodes.push(body.slice(from, found.index), mention);
    from = found.index + text.length;
  }
  nodes.push(body.slice(from));
  return nodes;
}
