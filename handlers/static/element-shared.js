// What the custom elements of one page share: one connection, the names of people, one look, and how they begin and end.

import { connect } from "./client.js";
import { h, setAttribute, setText } from "./page-dom.js";
import { People } from "./page-people.js";

// The server that these modules came from, unless the page says another.
const OWN = new URL(import.meta.url).origin;
// Shorter interruptions are nobody's business.
const NOTE_AFTER_MS = 2500;

const NOTES = {
  offline: "No connection. What you see may be out of date.",
  disabled: "Updates are not live.",
};

let configured = null;
const waiting = new Set();
let shared = null;

/** Says where the server is and where tokens come from; see docs/embedding.md. Once a page, before or after elements. */
export function useCopydesk({ url = OWN, token } = {}) {
  if (shared) throw new Error("The elements are connected already.");
  configured = { url: new URL(url).origin, token };
  for (const begin of waiting) begin();
  waiting.clear();
}

/** One client for all elements; closed when the last of them has left the page. */
class Shared {
  #users = 0;

  constructor({ url, token }) {
    this.origin = url;
    this.client = connect({ url, token });
    this.people = new People((...call) => this.client.request(...call));
  }

  use() {
    this.#users += 1;
  }

  /** Moving an element takes it off the page for a moment. */
  leave() {
    this.#users -= 1;
    setTimeout(() => {
      if (this.#users > 0 || shared !== this) return;
      this.client.close();
      shared = null;
    });
  }
}

// Light or dark is what the page is where the element stands (`color-scheme`), not what the system prefers: a page that
// is always light stays light. Text takes the page's colour; what has a ground of its own brings the colour for it.
const LOOK = `
:host {
  --sheet: var(--copydesk-sheet, Canvas);
  --on-sheet: var(--copydesk-ink, CanvasText);
  --faint: var(--copydesk-faint, color-mix(in srgb, currentcolor 72%, transparent));
  --line: var(--copydesk-line, color-mix(in srgb, currentcolor 18%, transparent));
  --edge: var(--copydesk-line, color-mix(in srgb, currentcolor 55%, transparent));
  --accent: var(--copydesk-accent, light-dark(#1a5d8f, #7cbcea));
  --on-accent: var(--copydesk-on-accent, light-dark(#fff, #0c1a26));
  --bad: var(--copydesk-bad, light-dark(#b3261e, #ff9a90));
  --fresh: var(--copydesk-fresh, color-mix(in srgb, gold 22%, transparent));
  --gap: var(--copydesk-gap, 0.75rem);
  display: block;
  color: var(--copydesk-ink, inherit);
  font: var(--copydesk-font, inherit);
  line-height: 1.45;
  overflow-wrap: anywhere;
}
:host([hidden]), [hidden] { display: none !important; }
*, *::before { box-sizing: border-box; }
ul, ol { list-style: none; margin: 0; padding: 0; }
h2, h3, p { margin: 0; font-size: inherit; }
h2 { font-size: 1.15em; }
.hint, .note { color: var(--faint); font-size: 0.9em; }
.problem { flex-basis: 100%; color: var(--bad); }
.problem:empty, .note:empty, .hint:empty { display: none; }
[part="items"]:not(:empty) { margin-top: calc(var(--gap) / 2); border-top: 1px solid var(--line); }
.row { display: flex; flex-wrap: wrap; gap: 0.25rem var(--gap); align-items: center; padding: 0.4rem 0;
  border-bottom: 1px solid var(--line); }
.row > :first-child { flex: 1 1 10rem; }
.row > select { flex: 0 1 12rem; min-width: 0; }
.thread { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: calc(var(--gap) / 2) 0.5rem; align-items: end;
  margin-top: var(--gap); padding: var(--gap); border: 1px solid var(--line); border-radius: 0.5rem; }
.thread > :is(ol, .problem) { grid-column: 1 / -1; }
.thread > button { grid-column: 2; }
.thread > form { grid-column: 1; }
.thread li + li { margin-top: calc(var(--gap) / 2); }
.thread[data-resolved] ol { color: var(--faint); }
form { display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: end; }
.body { white-space: pre-wrap; }
[data-fresh] { background: var(--fresh); }
a { color: var(--accent); text-underline-offset: 0.15em; }
button, select, textarea { min-height: 2.25rem; font: inherit; color: var(--on-sheet); background: var(--sheet);
  border: 1px solid var(--edge); border-radius: 0.4rem; padding: 0.25rem 0.7rem; }
button { cursor: pointer; }
button.primary { background: var(--accent); border-color: transparent; color: var(--on-accent); font-weight: 600; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
textarea { display: block; flex: 1 1 12rem; min-width: 0; padding-block: 0.4rem; resize: vertical; field-sizing: content;
  max-height: 50vh; }
::placeholder { color: inherit; opacity: 0.72; }
.icon { width: 1.25rem; height: 1.25rem; fill: none; stroke: currentColor; stroke-width: 1.8; vertical-align: middle; }
`;
const look = new CSSStyleSheet();
look.replaceSync(LOOK);

/** The base of the elements: they show themselves anew when an attribute, their topic or the connection changes. */
export class CopydeskElement extends HTMLElement {
  #shared = null;
  #offs = [];
  #frame = null;
  #noteTimer = null;
  #note = h("p", { class: "note", role: "status" });
  #begin = () => this.#connect();

  connectedCallback() {
    if (!this.shadowRoot) {
      const root = this.attachShadow({ mode: "open" });
      // Not a <style>: pages with a strict policy allow none that is inline.
      root.adoptedStyleSheets = [look, ...(this.constructor.look ?? [])];
      root.append(this.#note, ...this.build());
    }
    if (shared || configured || location.origin === OWN) queueMicrotask(this.#begin);
    else waiting.add(this.#begin);
  }

  disconnectedCallback() {
    waiting.delete(this.#begin);
    this.#disconnect();
  }

  attributeChangedCallback(_name, before, after) {
    if (before === after || !this.#shared) return;
    this.#disconnect();
    this.#connect();
  }

  /** Where the server is; null before the page has said so. */
  get server() {
    return this.#shared?.origin ?? null;
  }

  get client() {
    return this.#shared?.client ?? null;
  }

  nameOf(userId) {
    return this.#shared?.people.nameOf(userId) ?? userId;
  }

  /** Has `show` called soon, and once for many changes. */
  showSoon() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      if (this.#shared) this.show();
    });
  }

  /** A change by REST; where no live event will bring it, it is read back. */
  async change(method, path, given, store) {
    const answer = await this.client.request(method, path, given);
    if (store.state !== "live") await this.client.refresh().catch(() => {});
    return answer;
  }

  /** Tells the page of something: `event.detail`. Cancelled: the page does it in its own way. */
  tell(name, detail) {
    return this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true, cancelable: true }));
  }

  #connect() {
    if (!this.isConnected || this.#shared) return;
    shared ??= new Shared(configured ?? { url: OWN });
    this.#shared = shared;
    shared.use();
    const again = () => this.showSoon();
    this.#offs = [shared.people.on(again), shared.client.on("state", () => this.#say())];
    this.#say();
    this.open();
    this.showSoon();
  }

  #disconnect() {
    if (!this.#shared) return;
    for (const off of this.#offs) off();
    clearTimeout(this.#noteTimer);
    this.shut();
    this.#shared.leave();
    this.#shared = null;
  }

  #say() {
    const { state, reason } = this.client;
    setAttribute(this, "data-state", state);
    clearTimeout(this.#noteTimer);
    const text = state === "disabled" ? `${NOTES.disabled} ${reason?.detail ?? ""}` : (NOTES[state] ?? "");
    if (text === "") setText(this.#note, "");
    else this.#noteTimer = setTimeout(() => setText(this.#note, text), NOTE_AFTER_MS);
  }
}
