// What was typed and not sent yet: kept through events, through moving about the page, and through a reload.

import { idempotencyKey } from "./client.js";
import { h, setAttribute, setText } from "./page-dom.js";
import { whenReleased } from "./page-threads-press.js";

const PREFIX = "copydesk draft ";

/** The drafts of one user in this tab. `sessionStorage` ends with the tab, and a sign-out empties it. */
export class Drafts {
  #prefix;

  constructor(userId) {
    this.#prefix = `${PREFIX}${userId} `;
  }

  /** `{text, key}`; `key` is the idempotency key of a first attempt to send this very text. Edits keep other things. */
  get(place) {
    return JSON.parse(sessionStorage.getItem(this.#prefix + place) ?? '{"text": "", "key": null}');
  }

  set(place, draft) {
    if (draft.text) sessionStorage.setItem(this.#prefix + place, JSON.stringify(draft));
    else sessionStorage.removeItem(this.#prefix + place);
  }

  clear() {
    for (const name of Object.keys(sessionStorage)) {
      if (name.startsWith(this.#prefix)) sessionStorage.removeItem(name);
    }
  }
}

/** A field for the text of a comment. Ctrl+Enter submits, because Enter begins a new line. */
export function writingField({ label, rows, typed, submit }) {
  return h("textarea", {
    "aria-label": label,
    placeholder: label,
    rows,
    maxlength: 10_000,
    input: typed,
    keydown: (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      submit();
    },
  });
}

/** A text field with a button. What could not be sent stays, and Retry sends it with the same idempotency key. */
export class Composer {
  #drafts;
  #place;
  #send;
  #verb;
  #field;
  #button;
  #problem;
  #sending = false;

  /**
   * `send(text, key)` answers a promise; `place` names the draft; `verb` is what the button says. `complete(field)`
   * helps with writing, and answers the element that it shows below the field.
   */
  constructor({ drafts, place, label, verb, rows, send, complete }) {
    this.#drafts = drafts;
    this.#place = place;
    this.#send = send;
    this.#verb = verb;
    this.#field = writingField({ label, rows, typed: () => this.#typed(), submit: () => this.#submit() });
    this.#button = h("button", { type: "submit", title: "Ctrl+Enter" }, verb);
    this.#problem = h("p", { class: "problem", role: "alert" });
    this.element = h(
      "form",
      {
        class: "composer",
        submit: (event) => {
          event.preventDefault();
          this.#submit();
        },
        focusin: () => this.#showButton(),
        focusout: () => whenReleased(() => this.#showButton()),
      },
      this.#field,
      complete(this.#field),
      this.#problem,
      this.#button,
    );
    const { text, key } = drafts.get(place);
    this.#field.value = text;
    // With a key it was on its way when the page was left. Under that key it can be sent again without harm.
    this.#show(key ? "This may not have been sent." : "");
  }

  /** Whether something is written here that was not sent. */
  get filled() {
    return this.#sending || this.#field.value !== "";
  }

  /** Whether somebody is at it, so that it should stay where it is. */
  get inUse() {
    return this.filled || this.element.contains(document.activeElement);
  }

  #typed() {
    // Another text is another comment: the server would refuse it under the old key.
    this.#drafts.set(this.#place, { text: this.#field.value, key: null });
    this.#show();
  }

  async #submit() {
    const text = this.#field.value;
    if (this.#sending) return;
    if (!text.trim()) {
      this.#field.focus();
      return;
    }
    const key = this.#drafts.get(this.#place).key ?? idempotencyKey();
    this.#drafts.set(this.#place, { text, key });
    this.#sending = true;
    this.#show();
    let problem = "";
    try {
      await this.#send(text, key);
      this.#field.value = "";
      this.#drafts.set(this.#place, { text: "", key: null });
    } catch (error) {
      problem = `Not sent. ${error.message}`;
    }
    this.#sending = false;
    this.#show(problem);
  }

  #show(problem = "") {
    setText(this.#problem, problem);
    setText(this.#button, this.#sending ? "Sending" : problem ? "Retry" : this.#verb);
    // Not `disabled`: that would throw the focus away.
    this.#field.readOnly = this.#sending;
    setAttribute(this.#button, "aria-disabled", this.#sending ? "true" : null);
    this.#showButton();
  }

  /** The button only takes room where there is something to send, or about to be. */
  #showButton() {
    this.#button.hidden = !this.inUse;
  }
}
