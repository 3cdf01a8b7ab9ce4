// One row of a project's items: what it is, where it stands, and how much is said about it.

import { count, h, setAttribute, setText, timeElement, webAddress } from "./page-dom.js";

/** What the statuses are called, in the order in which work goes through them. */
export const STATUSES = {
  not_created: "Not created",
  draft: "Draft",
  in_review: "In review",
  rejected: "Rejected",
  ready: "Ready",
  scheduled: "Scheduled",
  published: "Published",
  previously_published: "Previously published",
};
const FOR_PUBLISHERS = new Set(["scheduled", "published", "previously_published"]);

export class ItemRow {
  #page;
  #view;
  #id;
  #item = null;
  // What was chosen here and has not come back as an event yet: {status, version}.
  #chosen = null;
  #parts;

  constructor(page, view, id) {
    this.#page = page;
    this.#view = view;
    this.#id = id;
    const href = `#/projects/${encodeURIComponent(view.projectId)}/items/${encodeURIComponent(id)}`;
    const options = Object.entries(STATUSES).map(([value, label]) => h("option", { value }, label));
    this.#parts = {
      picture: h("img", { class: "picture", alt: "", loading: "lazy", referrerpolicy: "no-referrer", hidden: true }),
      name: h("a", { class: "name", href }),
      facts: h("span"),
      open: h("a", { class: "open", target: "_blank", rel: "noopener noreferrer" }, "Open"),
      changed: h("p", { class: "hint" }),
      problem: h("p", { class: "problem", role: "alert" }),
      select: h("select", { change: () => this.#choose() }, ...options),
      badge: h("span", { class: "status" }),
      talk: h("a", { class: "talk", href }),
      openThreads: h("b"),
      comments: h("span"),
    };
    const { picture, name, facts, open, changed, problem, select, badge, talk, openThreads, comments } = this.#parts;
    picture.addEventListener("error", () => (picture.hidden = true));
    talk.append(openThreads, comments);
    this.element = h(
      "li",
      { class: "item" },
      picture,
      h("div", {}, h("h3", {}, name), h("p", { class: "hint" }, facts, open), changed, problem),
      h("div", {}, select, badge),
      talk,
    );
  }

  /** `talk`: `{comments, open}`, how many comments and open threads there are about it. */
  update({ item, talk }) {
    this.#item = item;
    const { picture, name, facts, open, changed } = this.#parts;
    const assignee = item.assignee && `assigned to ${this.#view.nameOf(item.assignee)}`;
    const address = webAddress(item.url);
    setText(name, item.name);
    setText(facts, [item.type, item.language, item.path, assignee].filter(Boolean).join(" · "));
    setAttribute(open, "href", address);
    setAttribute(open, "hidden", !address);
    setAttribute(open, "aria-label", `Open ${item.name}`);
    changed.replaceChildren(...this.#lastChange());
    showPicture(picture, item.thumbnail_url);
    this.#showStatus();
    this.#showTalk(talk);
    setAttribute(name, "aria-current", this.#id === this.#view.itemId ? "true" : null);
    setAttribute(this.element, "data-chosen", this.#id === this.#view.itemId);
    setAttribute(this.element, "data-fresh", this.#view.isFresh("item", this.#id));
  }

  #lastChange() {
    const { changed_at: at, changed_by: by } = this.#item;
    if (!at) return [];
    return [by ? `changed by ${this.#view.nameOf(by)} ` : "changed ", timeElement(at)];
  }

  #showStatus() {
    const { select, badge } = this.#parts;
    const item = this.#item;
    if (this.#chosen && item.version >= this.#chosen.version) this.#chosen = null;
    const status = this.#chosen?.status ?? item.status;
    setAttribute(select, "hidden", !this.#view.may("edit"));
    setAttribute(badge, "hidden", this.#view.may("edit"));
    setText(badge, STATUSES[status]);
    setAttribute(badge, "data-status", status);
    setAttribute(select, "data-status", status);
    setAttribute(select, "aria-label", `Status of ${item.name}`);
    for (const option of select.options) {
      option.disabled = FOR_PUBLISHERS.has(option.value) && option.value !== status && !this.#view.may("publish");
    }
    if (select.value !== status) select.value = status;
  }

  #showTalk({ comments, open }) {
    const { talk, openThreads, comments: element } = this.#parts;
    const words = comments ? count(comments, "comment") : "No comments";
    setText(element, words);
    setText(openThreads, open ? `${open} open` : "");
    setAttribute(talk, "data-open", open > 0);
    setAttribute(talk, "aria-label", `${words}${open ? `, ${open} open,` : ""} on ${this.#item.name}`);
  }

  async #choose() {
    const { select, problem } = this.#parts;
    const path = `/projects/${encodeURIComponent(this.#view.projectId)}/items/${encodeURIComponent(this.#id)}`;
    // No version is known yet: the choice stands until the answer names one.
    const chosen = (this.#chosen = { status: select.value, version: Infinity });
    setText(problem, "");
    try {
      const { body } = await this.#page.change("PATCH", path, { body: { status: chosen.status } }, this.#view.store);
      chosen.version = body.version;
    } catch (error) {
      if (this.#chosen === chosen) this.#chosen = null;
      setText(problem, `The status was not changed. ${error.message}`);
    }
    this.#showStatus();
  }
}

/** Only what the content security policy lets through, so that no error is logged for the rest. */
function showPicture(picture, address) {
  const url = webAddress(address);
  const allowed = url && (url.startsWith("https:") || new URL(url).origin === location.origin);
  if (!allowed) picture.hidden = true;
  else if (picture.src !== url) {
    picture.src = url;
    picture.hidden = false;
  }
}
