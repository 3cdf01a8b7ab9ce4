// One project: its items and their statuses, and the conversation about one of them or about all of it.

import { Keyed, count, h, setAttribute, setText, timeElement, webAddress } from "./page-dom.js";
import { aboutProject, showLabels } from "./page-projects.js";
import { Conversation } from "./page-threads.js";

// How long what somebody else changed stays marked.
const FRESH_MS = 10_000;

export class ProjectView {
  #page;
  #store;
  #itemId = null;
  #can = new Set();
  #rightsRead = null;
  #names = new Map();
  #fresh = new Map();
  // Statuses that were chosen here and have not come back as an event yet: item id -> {status, version}.
  #chosen = new Map();
  #frame = null;
  #items;
  #conversation;
  #parts;

  constructor(page, projectId) {
    this.#page = page;
    this.projectId = projectId;
    this.#parts = {
      title: h("h1", { tabindex: "-1" }),
      description: h("p", { class: "description" }),
      labels: h("p", { class: "labels" }),
      about: h("p", { class: "hint" }),
      counters: h("ul", { class: "counters", "aria-label": "Items by status" }),
      hint: h("p", { class: "empty", role: "status" }, "Loading"),
      problem: h("p", { class: "problem", role: "alert" }),
      empty: h("p", { class: "empty" }),
      list: h("ul", { class: "items" }),
      body: h("div", { class: "columns", hidden: true }),
    };
    const { title, description, labels, about, counters, hint, problem, empty, list, body } = this.#parts;
    this.#items = new Keyed(list, (row) => this.#itemRow(row.item.id));
    this.#conversation = new Conversation(page, this);
    body.append(
      h("section", { class: "content", "aria-labelledby": "items" }, h("h2", { id: "items" }, "Items"), problem, empty, list),
      this.#conversation.element,
    );
    this.element = h(
      "article",
      { class: "project" },
      h("nav", { "aria-label": "Breadcrumb" }, h("a", { href: "#/" }, "All projects")),
      h("header", {}, title, description, labels, counters, about),
      hint,
      body,
    );
    this.#store = page.client.subscribe(`project:${projectId}`, (change) => this.#changed(change));
    this.#store.on("state", (state) => {
      // Roles may have changed while nobody told us.
      if (state === "live" && this.#can.size) this.#readRights();
      this.#showSoon();
    });
    this.#store.on("error", (error) => setText(hint, error.message));
    this.#readNames();
    this.#show();
  }

  get store() {
    return this.#store;
  }

  get itemId() {
    return this.#itemId;
  }

  may(action) {
    return this.#can.has(action);
  }

  nameOf(userId) {
    return this.#names.get(userId) ?? userId;
  }

  isFresh(kind, id) {
    return this.#fresh.has(`${kind} ${id}`);
  }

  /** Shows the conversation about an item, or with null the one about the project. */
  choose(itemId, { moved }) {
    const changed = itemId !== this.#itemId;
    this.#itemId = itemId;
    this.#show();
    if (!moved) return;
    if (changed) this.#conversation.focus();
    else this.#parts.title.focus();
  }

  close() {
    cancelAnimationFrame(this.#frame);
    for (const timer of this.#fresh.values()) clearTimeout(timer);
    this.#store.close();
  }

  #changed({ snapshot, events }) {
    if (snapshot) this.#readRights();
    for (const event of events) {
      if (event.kind === "project") this.#readRights();
      if (event.by === this.#page.user.id) continue;
      this.#markFresh(`${event.kind} ${event.id}`);
      const sentence = this.#sentence(event);
      if (sentence) this.#page.announce(sentence);
    }
    this.#showSoon();
  }

  /** What a screen reader is told of somebody else's change. */
  #sentence({ kind, change, id, by, doc }) {
    const who = by ? this.nameOf(by) : "Somebody";
    const itemName = (itemId) => this.#store.get("item", itemId)?.name ?? "an item";
    if (kind === "comment" && change === "enter") {
      return `${who} commented on ${doc?.item_id ? itemName(doc.item_id) : "the project"}.`;
    }
    if (kind === "item" && change === "update") return `${who} changed ${itemName(id)} to ${STATUSES[doc?.status]}.`;
    if (kind === "item" && change === "enter") return `${who} added ${itemName(id)}.`;
    return null;
  }

  #markFresh(key) {
    clearTimeout(this.#fresh.get(key));
    this.#fresh.set(
      key,
      setTimeout(() => {
        this.#fresh.delete(key);
        this.#showSoon();
      }, FRESH_MS),
    );
  }

  /** What the caller may do here stands in no document, because documents are the same for everybody. */
  async #readRights() {
    if (this.#store.state === "gone") return;
    const read = (this.#rightsRead = {});
    try {
      const { body } = await this.#page.request("GET", `${this.#path}/overview`);
      // A later question is answered from a later state.
      if (read === this.#rightsRead) this.#can = new Set(body.me.can);
    } catch {
      return; // The store says what is wrong with the project; without an answer the rights stay as they were.
    }
    this.#showSoon();
  }

  async #readNames() {
    try {
      const { body } = await this.#page.request("GET", `/users?limit=200&project_id=${encodeURIComponent(this.projectId)}`);
      for (const { id, name } of body.items) this.#names.set(id, name);
    } catch {
      return; // Ids are readable enough.
    }
    this.#showSoon();
  }

  get #path() {
    return `/projects/${encodeURIComponent(this.projectId)}`;
  }

  #showSoon() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#show();
    });
  }

  #show() {
    const { hint, body, title, description, labels, about, empty } = this.#parts;
    const project = this.#store.get("project", this.projectId);
    setAttribute(body, "hidden", !project);
    if (!project) {
      if (this.#store.state === "gone") setText(hint, "This project does not exist, or you may not see it.");
      return;
    }
    setText(hint, "");
    setText(title, project.name);
    setText(description, project.description ?? "");
    showLabels(labels, project);
    about.replaceChildren(...aboutProject(project, (id) => this.nameOf(id)));
    this.#page.setTitle(project.name);
    const items = this.#store.documents("item").sort((a, b) => a.rank - b.rank || (a.id < b.id ? -1 : 1));
    const talk = this.#countComments();
    this.#showCounters(items);
    setText(empty, items.length ? "" : "This project has no items yet.");
    this.#items.update(items.map((item) => [item.id, { item, talk: talk.get(item.id) }]));
    this.#conversation.show(talk.get(undefined));
  }

  #showCounters(items) {
    const numbers = new Map();
    for (const { status } of items) numbers.set(status, (numbers.get(status) ?? 0) + 1);
    const words = Object.keys(STATUSES)
      .filter((status) => numbers.has(status))
      .map((status) => h("li", { class: "status", "data-status": status }, `${numbers.get(status)} ${STATUSES[status].toLowerCase()}`));
    this.#parts.counters.replaceChildren(...words);
  }

  /** Item id (undefined: the project) -> {comments, open}: as the overview counts, tombstones left out. */
  #countComments() {
    const found = new Map();
    const comments = this.#store.documents("comment");
    const resolved = new Set(comments.filter((comment) => comment.resolved).map(({ id }) => id));
    const open = new Set();
    for (const { item_id: itemId, thread_id: thread, deleted_at: deleted } of comments) {
      if (deleted) continue;
      if (!found.has(itemId)) found.set(itemId, { comments: 0, open: 0 });
      const entry = found.get(itemId);
      entry.comments += 1;
      if (resolved.has(thread) || open.has(thread)) continue;
      open.add(thread);
      entry.open += 1;
    }
    return found;
  }

  async #choose(id, status) {
    const { problem } = this.#parts;
    // No version is known yet: it stays chosen until the answer names one.
    this.#chosen.set(id, { status, version: Infinity });
    setText(problem, "");
    try {
      const path = `${this.#path}/items/${encodeURIComponent(id)}`;
      const { body } = await this.#page.change("PATCH", path, { body: { status } }, this.#store);
      this.#chosen.set(id, { status: body.status, version: body.version });
    } catch (error) {
      this.#chosen.delete(id);
      setText(problem, `The status was not changed. ${error.message}`);
    }
    this.#showSoon();
  }
}
