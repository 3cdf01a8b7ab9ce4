// One project: its items and their statuses, and the conversation about one of them or about all of it.

import { Keyed, h, setAttribute, setText } from "./page-dom.js";
import { ItemRow, STATUSES } from "./page-items.js";
import { aboutProject, showLabels } from "./page-projects.js";
import { Conversation } from "./page-threads.js";

// How long what somebody else changed stays marked.
const FRESH_MS = 10_000;

const SILENCE = { comments: 0, open: 0 };

/** What a screen reader is told of somebody else's change, by kind and change. */
const SENTENCES = {
  "comment enter": (view, { by, doc }) => {
    const about = doc.item_id ? itemName(view, doc.item_id) : "the project";
    return `${actorName(view, by)} commented on ${about}.`;
  },
  "item enter": (view, { id, by }) => `${actorName(view, by)} added ${itemName(view, id)}.`,
  "item update": (view, { id, by, doc }) =>
    `${actorName(view, by)} changed ${itemName(view, id)}: ${STATUSES[doc.status]}.`,
};

function actorName(view, by) {
  return by ? view.nameOf(by) : "Somebody";
}

function itemName(view, id) {
  return view.store.get("item", id)?.name ?? "an item";
}

export class ProjectView {
  #page;
  #store;
  #itemId = null;
  #can = new Set();
  #rightsRead = null;
  #names = new Map();
  #namesRead = false;
  #fresh = new Map();
  #frame = null;
  // What is to have the focus once there is something to see.
  #focusNext = null;
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
      empty: h("p", { class: "empty" }),
      list: h("ul", { class: "items" }),
      header: h("header", { hidden: true }),
      body: h("div", { class: "columns", hidden: true }),
    };
    const { title, description, labels, about, counters, hint, empty, list, header, body } = this.#parts;
    this.#items = new Keyed(list, ({ item }) => new ItemRow(page, this, item.id));
    this.#conversation = new Conversation(page, this);
    header.append(title, description, labels, counters, about);
    body.append(
      h("section", { class: "content", "aria-labelledby": "items" }, h("h2", { id: "items" }, "Items"), empty, list),
      this.#conversation.element,
    );
    this.element = h(
      "article",
      { class: "project" },
      h("nav", { "aria-label": "Breadcrumb" }, h("a", { href: "#/" }, "All projects")),
      header,
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

  /** A user's name; their id where there is none, or until the server has told. */
  nameOf(userId) {
    if (!this.#names.has(userId)) {
      this.#names.set(userId, userId);
      if (this.#namesRead) this.#readNames(userId);
    }
    return this.#names.get(userId);
  }

  isFresh(kind, id) {
    return this.#fresh.has(`${kind} ${id}`);
  }

  /** Shows the conversation about an item, or with null the one about the project. */
  choose(itemId, { moved }) {
    if (moved) this.#focusNext = itemId === this.#itemId ? this.#parts.title : this.#conversation.heading;
    this.#itemId = itemId;
    this.#show();
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
      const sentence = SENTENCES[`${event.kind} ${event.change}`];
      // Only then are the names known of colleagues who are met for the first time.
      if (sentence) this.#page.announce(() => sentence(this, event));
    }
    this.#showSoon();
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

  /** The names of those who may see the project, or of the one whose id begins so. */
  async #readNames(beginning = "") {
    const query = new URLSearchParams({ project_id: this.projectId, limit: 200, ...(beginning && { q: beginning }) });
    try {
      const { body } = await this.#page.request("GET", `/users?${query}`);
      for (const { id, name } of body.items) this.#names.set(id, name);
    } catch {
      return; // Ids are readable enough.
    } finally {
      this.#namesRead = true;
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
    const { hint, header, body, title, description, labels, about, empty } = this.#parts;
    const project = this.#store.get("project", this.projectId);
    setAttribute(header, "hidden", !project);
    setAttribute(body, "hidden", !project);
    if (!project) {
      if (this.#store.state === "gone") this.#showGone();
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
    this.#items.update(items.map((item) => [item.id, { item, talk: talk.get(item.id) ?? SILENCE }]));
    this.#conversation.show(talk.get(undefined));
    this.#focusNext?.focus();
    this.#focusNext = null;
  }

  /** Deleted, or not for this user any more: nothing of it stays on the page. */
  #showGone() {
    const { hint, title, description } = this.#parts;
    setText(hint, "This project does not exist, or you may not see it.");
    setText(title, "");
    setText(description, "");
    this.#items.update([]);
    this.#conversation.clear();
    this.#page.setTitle("");
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
}
