// Above the items: how many stand where, what is shown of them, and in which order.

import { Keyed, count, h, setAttribute, setText } from "./page-dom.js";
import { SORTS, STATUSES } from "./page-item-words.js";

// Whoever has thousands of items types on while the list is being made.
const TYPING_MS = 120;

/** How a user looks at items, in this browser: the next project is shown in the same way. */
const placeOfWishes = (userId) => `copydesk items ${userId}`;

export function readWishes(userId) {
  try {
    const { sort, descending, grouped, closed } = JSON.parse(localStorage.getItem(placeOfWishes(userId)) ?? "{}");
    if (!(sort in SORTS)) return {};
    return { sort, descending: Boolean(descending), grouped: Boolean(grouped), closed: new Set(closed) };
  } catch {
    return {}; // Something else wrote there, or the browser forbids it.
  }
}

function keepWishes(userId, { sort, descending, grouped, closed }) {
  try {
    localStorage.setItem(placeOfWishes(userId), JSON.stringify({ sort, descending, grouped, closed: [...closed] }));
  } catch {
    // Then it holds for this page.
  }
}

const KEYS = {
  "\u2191 \u2193": "go from item to item",
  "Space": "select, or not any more",
  "Shift+\u2191 \u2193": "select a range",
  "Ctrl+A": "select all that are shown",
  "Esc": "select none",
  "Enter": "go to what is said about it",
  "F2": "edit",
  "Delete": "remove what is selected",
};

export class ItemTools {
  #table;
  #userId;
  #timer = null;
  #chips;
  #heads = new Map();
  #parts;

  constructor(table, userId) {
    this.#table = table;
    this.#userId = userId;
    const counters = h("ul", { class: "counters", "aria-label": "Items by status" });
    this.#chips = new Keyed(counters, (row) => this.#chip(row.status));
    this.#parts = {
      query: h("input", {
        type: "search",
        "aria-label": "Filter items",
        placeholder: "Filter by name, path, type, language",
        autocomplete: "off",
        input: () => this.#typed(),
      }),
      grouped: h("button", { type: "button", class: "quiet", click: () => this.#toggleGroups() }, "Group by status"),
      clear: h("button", { type: "button", class: "quiet", hidden: true, click: () => this.#clear() }, "Clear filter"),
      shown: h("p", { class: "hint", role: "status" }),
      all: h("input", { type: "checkbox", "aria-label": "Select all that are shown", click: () => this.#selectAll() }),
    };
    const { query, grouped, clear, shown, all } = this.#parts;
    this.element = h("div", { class: "item-tools" }, counters, h("div", { class: "filter" }, query, grouped, clear, keyHelp()));
    this.shown = shown;
    const columns = [["rank", "name"], ["status"], ["changed_at"]];
    const heads = columns.map((sorts) => h("div", { role: "columnheader" }, ...sorts.map((sort) => this.#head(sort))));
    const rest = ["Comments", "Tools"].map((word) => h("div", { role: "columnheader" }, h("span", { class: "unseen" }, word)));
    this.head = h("div", { class: "head", role: "row" }, h("div", { class: "check", role: "columnheader" }, all), ...heads, ...rest);
    setAttribute(this.head, "aria-rowindex", 1);
  }

  /** Does what the user wishes, and remembers it. */
  choose(wishes) {
    this.#table.choose(wishes);
    keepWishes(this.#userId, this.#table.choices);
  }

  /** `numbers`: status -> how many; `shown` of `total` pass the filter and stand in no closed group. */
  show({ numbers, shown, total }) {
    const { choices, selection } = this.#table;
    const { grouped, clear, shown: sentence, all } = this.#parts;
    const present = Object.keys(STATUSES).filter((status) => numbers.has(status) || choices.statuses.has(status));
    this.#chips.update(present.map((status) => [status, { status, number: numbers.get(status) ?? 0 }]));
    const filtered = choices.query !== "" || choices.statuses.size > 0;
    setAttribute(this.element, "hidden", total === 0 && !filtered);
    setAttribute(grouped, "aria-pressed", String(choices.grouped));
    // A button that vanished under the focus would throw it away.
    setAttribute(clear, "hidden", !filtered && document.activeElement !== clear);
    setText(sentence, shown === total ? count(total, "item") : `${shown} of ${count(total, "item")}`);
    for (const [sort, button] of this.#heads) this.#showHead(sort, button, choices);
    const marked = selection.size ? this.#table.shownIds.filter((id) => selection.has(id)).length : 0;
    setAttribute(all.parentElement, "data-none", !this.#table.may("edit"));
    setAttribute(all, "hidden", !this.#table.may("edit"));
    all.checked = marked > 0 && marked === shown;
    all.indeterminate = marked > 0 && marked < shown;
  }

  #chip(status) {
    const button = h("button", { type: "button", class: "status chip", "data-status": status, click: () => this.#toggleStatus(status) });
    return {
      element: h("li", {}, button),
      update: ({ number }) => {
        setText(button, `${number} ${STATUSES[status].toLowerCase()}`);
        setAttribute(button, "aria-pressed", String(this.#table.choices.statuses.has(status)));
        setAttribute(button, "title", `Show only ${STATUSES[status].toLowerCase()}`);
      },
    };
  }

  #head(sort) {
    const button = h("button", { type: "button", class: "sort", click: () => this.#sort(sort) }, SORTS[sort].label);
    this.#heads.set(sort, button);
    return button;
  }

  #showHead(sort, button, choices) {
    const chosen = choices.sort === sort;
    const direction = chosen ? (choices.descending ? "descending" : "ascending") : null;
    setAttribute(button, "data-direction", direction);
    setAttribute(button, "aria-pressed", String(chosen));
    if (sort !== "rank") setAttribute(button.parentElement, "aria-sort", direction);
  }

  #sort(sort) {
    const { sort: before, descending } = this.#table.choices;
    this.choose({ sort, descending: sort === before ? !descending : SORTS[sort].descending });
  }

  #toggleGroups() {
    this.choose({ grouped: !this.#table.choices.grouped });
  }

  #toggleStatus(status) {
    const statuses = new Set(this.#table.choices.statuses);
    if (!statuses.delete(status)) statuses.add(status);
    this.choose({ statuses });
  }

  #typed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.choose({ query: this.#parts.query.value.trim() }), TYPING_MS);
  }

  #clear() {
    clearTimeout(this.#timer);
    this.#parts.query.value = "";
    this.#parts.query.focus();
    this.choose({ query: "", statuses: new Set() });
  }

  #selectAll() {
    const { selection, shownIds } = this.#table;
    if (this.#parts.all.checked) selection.add(shownIds);
    else selection.remove(shownIds);
    this.#table.selected();
  }
}

function keyHelp() {
  const rows = Object.entries(KEYS).map(([key, meaning]) => h("div", {}, h("dt", {}, key), h("dd", {}, meaning)));
  return h("details", { class: "keys" }, h("summary", {}, "Keys"), h("dl", {}, ...rows));
}
