// One project: its items and their statuses, and the conversation about one of them or about all of it.

import { h, setAttribute, setText } from "./page-dom.js";
import { FollowButtons } from "./page-follow.js";
import { ItemsTable } from "./page-items.js";
import { ProjectActions } from "./page-projects-edit.js";
import { deed } from "./page-project-words.js";
import { aboutProject, showLabels } from "./page-projects.js";
import { Conversation } from "./page-threads.js";

// How long what somebody else changed stays marked.
const FRESH_MS = 10_000;

export class ProjectView {
  #page;
  #store;
  #itemId = null;
  // What is said of these is shown. The same array as long as they are the same.
  #itemIds = [];
  #can = new Set();
  #rightsRead = null;
  #fresh = new Map();
  // Comments by id as they were before the latest event: what was done to one is seen only by comparing.
  #said = new Map();
  // Counted anew only when a comment came: events of items are many.
  #talk = null;
  #frame = null;
  // What is to have the focus once there is something to see.
  #focusNext = null;
  // The thread that the address names, until it is known where it is.
  #threadId = null;
  #items;
  #conversation;
  #follow;
  #actions;
  #offs;
  #parts;

  constructor(page, projectId) {
    this.#page = page;
    this.projectId = projectId;
    this.#parts = {
      title: h("h1", { tabindex: "-1" }),
      description: h("p", { class: "description" }),
      labels: h("p", { class: "labels" }),
      about: h("p", { class: "hint" }),
      none: h("h1", { hidden: true }, "Nothing to see here"),
      hint: h("p", { class: "empty", role: "status" }, "Loading"),
      problem: h("p", { class: "problem", role: "alert" }),
      again: h("button", { type: "button", class: "quiet", hidden: true, click: () => this.#readRights() }, "Try again"),
      header: h("header", { hidden: true }),
      body: h("div", { class: "columns", hidden: true }),
    };
    const { title, description, labels, about, none, hint, problem, again, header, body } = this.#parts;
    this.#store = page.client.subscribe(`project:${projectId}`, (change) => this.#changed(change));
    this.#items = new ItemsTable(page, this);
    this.#conversation = new Conversation(page, this);
    this.#follow = new FollowButtons(page, "project");
    this.#actions = new ProjectActions(page, this.#store);
    const buttons = h("div", { class: "project-buttons" }, this.#follow.element, this.#actions.element);
    header.append(title, description, labels, about, buttons, problem, again);
    body.append(this.#items.element, this.#conversation.element);
    this.element = h(
      "article",
      { class: "project" },
      h("nav", { "aria-label": "Breadcrumb" }, h("a", { href: "#/" }, "All projects")),
      header,
      none,
      hint,
      body,
    );
    this.#store.on("state", (state) => {
      // Roles may have changed while nobody told us.
      if (state === "live" && this.#can.size) this.#readRights();
      this.#showSoon();
    });
    this.#store.on("error", (error) => setText(hint, error.message));
    this.#offs = [page.people.on(() => this.#showSoon()), page.subscriptions.on(() => this.#showSoon())];
    page.subscriptions.read();
    this.#show();
  }

  get store() {
    return this.#store;
  }

  get itemId() {
    return this.#itemId;
  }

  /** The items that the conversation is about; none: the project. */
  get itemIds() {
    return this.#itemIds;
  }

  may(action) {
    return this.#can.has(action);
  }

  nameOf(userId) {
    return this.#page.people.nameOf(userId);
  }

  isFresh(kind, id) {
    return this.#fresh.has(`${kind} ${id}`);
  }

  /** Shows the conversation about an item, or with null the one about the project. */
  choose(itemId, { moved }) {
    const leftItem = itemId !== null || this.#itemIds.length > 0;
    if (moved) this.#focusNext = leftItem ? this.#conversation.heading : this.#parts.title;
    this.#threadId = null;
    this.#itemId = itemId;
    this.#turnTo(itemId === null ? [] : [itemId]);
    if (itemId !== null) this.#page.bell.looking({ item_id: itemId });
    this.#show();
  }

  /** Turns to an item while the list goes on having the focus. */
  #lookAt(itemId) {
    const address = `#/projects/${encodeURIComponent(this.projectId)}/items/${encodeURIComponent(itemId)}`;
    // Not a step to go back to: one may look at many.
    if (location.hash !== address) history.replaceState(null, "", address);
    this.#threadId = null;
    this.#itemId = itemId;
    this.#page.bell.looking({ item_id: itemId });
  }

  /** Somebody selected other items, perhaps by a click on one: what is said of all of them stands beside the list. */
  selected(ids, clicked) {
    const at = ids.length === 1 ? ids[0] : ids.length === 0 || ids.includes(clicked) ? clicked : undefined;
    if (at !== undefined && (at !== this.#itemId || ids.length < 2)) this.#lookAt(at);
    this.#turnTo(ids.length > 1 || this.#itemId === null ? ids : [this.#itemId]);
    this.#showSoon();
  }

  /** Shows one thread among those that it belongs to. */
  openThread(threadId) {
    this.#threadId = threadId;
    this.#page.bell.looking({ thread_id: threadId });
    this.#show();
  }

  close() {
    for (const off of this.#offs) off();
    this.#conversation.close();
    cancelAnimationFrame(this.#frame);
    for (const timer of this.#fresh.values()) clearTimeout(timer);
    this.#items.close();
    this.#store.close();
  }

  #turnTo(ids) {
    const before = new Set(this.#itemIds);
    if (ids.length !== before.size || ids.some((id) => !before.has(id))) this.#itemIds = ids;
  }

  #changed({ snapshot, events }) {
    if (snapshot) this.#readRights();
    if (snapshot || events.some(({ kind }) => kind === "comment")) this.#talk = null;
    // What comes with a snapshot may be in it already, and is old news.
    if (snapshot) this.#said = new Map(this.#store.documents("comment").map((comment) => [comment.id, comment]));
    const items = new Map(events.map(({ kind, id }) => [id, kind === "item" ? this.#items.get(id) : undefined]));
    this.#items.take({ snapshot, events });
    for (const event of events) {
      const before = items.get(event.id) ?? this.#said.get(event.id);
      if (event.kind === "comment") this.#remember(event);
      if (event.kind === "project") this.#readRights();
      if (event.by === this.#page.user.id) {
        // Whoever writes or adds something follows it from then on.
        if (event.change === "enter") this.#page.subscriptions.readSoon();
        continue;
      }
      this.#markFresh(`${event.kind} ${event.id}`);
      const names = {
        nameOf: (id) => this.nameOf(id),
        nameOfItem: (id) => this.#store.get("item", id)?.name ?? "an item",
      };
      // Only when it is said are the names known of colleagues who are met for the first time.
      if (deed(event, before, names)) this.#page.announce(() => deed(event, before, names));
    }
    this.#showSoon();
  }

  #remember({ id, doc }) {
    if (doc) this.#said.set(id, doc);
    else this.#said.delete(id);
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
    } catch (error) {
      // The store says what is wrong with the project; without an answer the rights stay as they were.
      const unknown = read === this.#rightsRead && !this.#can.size && error.status !== 404;
      if (unknown) this.#showUnknownRights(error.message);
      return;
    }
    this.#showUnknownRights(null);
    this.#showSoon();
  }

  /** Otherwise a page on which nothing can be changed would seem to be meant so. */
  #showUnknownRights(reason) {
    const { problem, again } = this.#parts;
    setText(problem, reason === null ? "" : `What you may do here could not be found out, so that you can only read. ${reason}`);
    setAttribute(again, "hidden", reason === null);
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
    const { none, hint, header, body, title, description, labels, about } = this.#parts;
    const project = this.#store.get("project", this.projectId);
    setAttribute(header, "hidden", !project);
    setAttribute(body, "hidden", !project);
    setAttribute(none, "hidden", this.#store.state !== "gone");
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
    this.#follow.show(`project:${this.projectId}`);
    this.#findThread();
    this.#actions.show(project, (action) => this.may(action));
    this.#talk ??= this.#countComments();
    this.#items.show(this.#talk);
    this.#conversation.show(this.#talk.get(undefined));
    this.#focusNext?.focus();
    this.#focusNext = null;
  }

  /** Turns to what the thread of the address is about, once that is known. */
  #findThread() {
    if (this.#threadId === null) return;
    const comment = this.#store.documents("comment").find(({ thread_id: id }) => id === this.#threadId);
    this.#itemId = comment?.item_id ?? null;
    this.#turnTo(this.#itemId === null ? [] : [this.#itemId]);
    if (comment) this.#conversation.open(this.#threadId);
    else this.#focusNext = this.#parts.title;
    this.#threadId = null;
  }

  /** Deleted, or not for this user any more: nothing of it stays on the page. */
  #showGone() {
    const { hint, title, description, labels, about } = this.#parts;
    const advice = "Ask whoever gave you the address to make you a member, or choose another of all projects.";
    setText(hint, `This project does not exist, or you may not see it. ${advice}`);
    setText(title, "");
    setText(description, "");
    labels.replaceChildren();
    about.replaceChildren();
    this.#items.take({ snapshot: true, events: [] });
    this.#items.show(new Map());
    this.#conversation.clear();
    this.#page.setTitle("");
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
