// <copydesk-overview project="...">: the items of a project, how many stand where, and their status.

import { ProjectElement } from "./element-project.js";
import { Keyed, count, h, setAttribute, setText, webAddress } from "./page-dom.js";
import { FOR_PUBLISHERS, STATUSES } from "./page-item-words.js";

export class CopydeskOverview extends ProjectElement {
  static observedAttributes = ["project"];
  #parts;
  #rows;

  build() {
    this.#parts = {
      title: h("h2", { part: "title" }),
      counters: h("p", { class: "hint", part: "counters" }),
      list: h("ul", { part: "items" }),
      empty: h("p", { class: "hint" }),
    };
    this.#rows = new Keyed(this.#parts.list, () => itemRow(this));
    return Object.values(this.#parts);
  }

  setStatus(item, status) {
    const path = `${this.path}/items/${encodeURIComponent(item.id)}`;
    return this.change("PATCH", path, { body: { status } }, this.store);
  }

  show() {
    const { title, counters, empty } = this.#parts;
    const project = this.store?.get("project", this.project);
    const items = (this.store?.documents("item") ?? []).sort((a, b) => a.rank - b.rank || (a.id < b.id ? -1 : 1));
    const byStatus = new Map();
    for (const { status } of items) byStatus.set(status, (byStatus.get(status) ?? 0) + 1);
    const talk = new Map();
    for (const { item_id: id, deleted_at: deleted } of this.store?.documents("comment") ?? []) {
      if (id && !deleted) talk.set(id, (talk.get(id) ?? 0) + 1);
    }
    setText(title, project?.name ?? "");
    const words = Object.keys(STATUSES).filter((status) => byStatus.has(status));
    setText(counters, words.map((status) => `${byStatus.get(status)} ${STATUSES[status].toLowerCase()}`).join(" · "));
    setText(empty, project ? (items.length ? "" : "No items yet.") : this.#without());
    this.#rows.update(items.map((item) => [item.id, { item, comments: talk.get(item.id) ?? 0 }]));
  }

  #without() {
    if (!this.project) return "No project is named.";
    return this.store.state === "gone" ? "This project does not exist, or you may not see it." : "Loading.";
  }

  /** What the reader may do stands in no document, because documents are the same for everybody. */
}

function itemRow(view) {
  let item = null;
  let chosen = null;
  const name = h("a", { part: "name", click: (event) => view.tell("copydesk-open", { item }) || event.preventDefault() });
  const facts = h("span", { class: "hint" });
  const talk = h("span", { class: "hint" });
  const options = Object.entries(STATUSES).map(([value, label]) => h("option", { value }, label));
  const select = h("select", { change: () => choose() }, ...options);
  const badge = h("span", { part: "status" });
  const problem = h("p", { class: "problem", role: "alert" });
  const element = h("li", { class: "row", part: "item" }, h("div", {}, name, " ", facts), talk, select, badge, problem);
  const show = () => {
    const status = chosen ?? item.status;
    select.hidden = !view.may("edit");
    badge.hidden = view.may("edit");
    setText(badge, STATUSES[status]);
    setAttribute(select, "aria-label", `Status of ${item.name}`);
    for (const option of select.options) {
      option.disabled = FOR_PUBLISHERS.has(option.value) && option.value !== status && !view.may("publish");
    }
    if (select.value !== status) select.value = status;
  };
  const choose = async () => {
    chosen = select.value;
    setText(problem, "");
    try {
      await view.setStatus(item, chosen);
    } catch (error) {
      setText(problem, `The status was not changed. ${error.message}`);
    }
    chosen = null;
    show();
  };
  return {
    element,
    update({ item: given, comments }) {
      item = given;
      setText(name, item.name);
      setAttribute(name, "href", webAddress(item.url) ?? `${view.server}/#/projects/${view.project}/items/${item.id}`);
      setText(facts, [item.type, item.language].filter(Boolean).join(" · "));
      setText(talk, comments ? count(comments, "comment") : "");
      setAttribute(element, "data-status", item.status);
      show();
    },
  };
}

customElements.define("copydesk-overview", CopydeskOverview);
