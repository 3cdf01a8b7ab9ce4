// The list of projects, live: searched, filtered, ordered; and what one may do with each.

import { Keyed, count, day, h, setAttribute, setText, timeElement } from "./page-dom.js";
import { ProjectActions } from "./page-projects-edit.js";
import { NewProject } from "./page-projects-new.js";
import { isMine, mayIn } from "./page-projects-rights.js";

// More are shown when asked for: nobody reads thousands of cards.
const AT_FIRST = 60;
const PLACE = "projects";

const COLLATOR = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const byName = (a, b) => COLLATOR.compare(a.name, b.name);
const newest = (field) => (a, b) => (b[field] ?? "").localeCompare(a[field] ?? "") || byName(a, b);
const SORTS = {
  created_at: ["Newest first", newest("created_at")],
  updated_at: ["Last changed first", newest("updated_at")],
  name: ["By name", byName],
};
const SHOWN = { active: "Active", archived: "Archived", all: "All" };

export class ProjectsView {
  #page;
  #store;
  #offs;
  #me;
  #wishes = { query: "", shown: "active", mine: false, sort: "created_at" };
  #limit = AT_FIRST;
  #problem = "";
  #list;
  #create;
  #buttons;
  #parts;

  constructor(page) {
    this.#page = page;
    // Until the server says which roles there are, only what everybody may is offered.
    this.#me = { id: page.user.id, roles: [] };
    this.#readWishes();
    this.#create = new NewProject(page);
    const list = h("ul", { class: "projects" });
    this.#list = new Keyed(list, () => this.#row());
    this.#buttons = Object.entries(SHOWN).map(([shown, label]) =>
      h("button", { type: "button", class: "quiet", value: shown, click: () => this.#wish({ shown }) }, label),
    );
    const options = Object.entries(SORTS).map(([value, [label]]) => h("option", { value }, label));
    this.#parts = {
      query: h("input", {
        type: "search",
        "aria-label": "Search projects",
        placeholder: "Search by name or label",
        autocomplete: "off",
        input: ({ target }) => this.#wish({ query: target.value }),
      }),
      mine: h("button", { type: "button", class: "quiet", click: () => this.#wish({ mine: !this.#wishes.mine }) }, "Only mine"),
      sort: h("select", { "aria-label": "Order", change: ({ target }) => this.#wish({ sort: target.value }) }, ...options),
      told: h("div", { class: "told", role: "status" }),
      hint: h("p", { role: "status" }),
      next: h("button", { type: "button", class: "quiet" }),
      more: h("button", { type: "button", class: "quiet", click: () => this.#more() }),
    };
    const { query, mine, sort, told, hint, next, more } = this.#parts;
    query.value = this.#wishes.query;
    sort.value = this.#wishes.sort;
    next.addEventListener("click", () => this.#doNext());
    const group = h("div", { class: "switch", role: "group", "aria-label": "Which projects" }, ...this.#buttons);
    this.#parts.tools = h("div", { class: "filter" }, query, group, mine, sort);
    this.#parts.empty = h("div", { class: "empty" }, hint, next);
    this.element = h(
      "section",
      { class: "home", "aria-labelledby": "home" },
      h("header", { class: "home-head" }, h("h1", { id: "home" }, "Projects"), this.#create.opener),
      this.#create.element,
      this.#parts.tools,
      told,
      this.#parts.empty,
      list,
      more,
    );
    page.setTitle("Projects");
    this.#store = page.client.subscribe("projects", () => this.#show());
    this.#store.on("state", () => this.#show());
    this.#store.on("error", (error) => {
      this.#problem = error.message;
      this.#show();
    });
    this.#offs = [page.people.on(() => this.#show())];
    this.#show();
    this.#readRoles();
  }

  close() {
    for (const off of this.#offs) off();
    this.#store.close();
  }

  async #readRoles() {
    try {
      const { body } = await this.#page.request("GET", "/session");
      this.#me = { id: body.user.id, roles: body.roles };
      this.#show();
    } catch {
      // What only some may stays away; the rest works.
    }
  }

  #readWishes() {
    const { text } = this.#page.drafts.get(PLACE);
    if (text) this.#wishes = { ...this.#wishes, ...JSON.parse(text) };
  }

  #wish(wishes) {
    this.#wishes = { ...this.#wishes, ...wishes };
    this.#limit = AT_FIRST;
    // Whoever comes back from a project finds the list as it was.
    this.#page.drafts.set(PLACE, { text: JSON.stringify(this.#wishes), key: null });
    this.#parts.told.replaceChildren();
    this.#show();
  }

  #row() {
    return projectRow({
      actions: () => new ProjectActions(this.#page, this.#store, (project, did) => this.#tellArchived(project, did)),
      may: (project) => (action) => mayIn(project, this.#me, action),
      nameOf: (id) => this.#page.people.nameOf(id),
    });
  }

  #show() {
    const { query, shown, mine, sort } = this.#wishes;
    const all = this.#store.documents("project");
    const words = query.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const found = all
      .filter((project) => shown === "all" || (shown === "archived") === (project.archived_at !== undefined))
      .filter((project) => !mine || isMine(project, this.#me))
      .filter((project) => words.every((word) => textOf(project).includes(word)))
      .sort(SORTS[sort][1]);
    for (const button of this.#buttons) setAttribute(button, "aria-pressed", String(button.value === shown));
    setAttribute(this.#parts.mine, "aria-pressed", String(mine));
    setAttribute(this.#parts.tools, "hidden", all.length === 0);
    this.#list.update(found.slice(0, this.#limit).map((project) => [project.id, project]));
    const rest = found.length - this.#limit;
    setAttribute(this.#parts.more, "hidden", rest <= 0);
    setText(this.#parts.more, `Show ${count(Math.min(rest, AT_FIRST), "more project")} of ${rest}`);
    this.#showEmpty(all.length, found.length);
  }

  #showEmpty(all, found) {
    const { hint, next, empty } = this.#parts;
    const loading = this.#store.state === "loading";
    setAttribute(empty, "hidden", found > 0);
    setAttribute(next, "hidden", loading && !this.#problem);
    if (found) return;
    if (loading) {
      setText(hint, this.#problem ? `The projects cannot be read. ${this.#problem}` : "Loading");
      setText(next, "Try again");
    } else if (all) {
      setText(hint, "No project matches.");
      setText(next, "Show all projects");
    } else {
      setText(hint, "There are no projects that you may see. Create the first one, or let programs do it over the REST API, see /docs.");
      setText(next, "Create a project");
    }
  }

  #doNext() {
    if (this.#store.state === "loading") {
      this.#problem = "";
      this.#show();
      this.#page.client.refresh().catch((error) => {
        this.#problem = error.message;
        this.#show();
      });
    } else if (this.#store.documents("project").length) {
      this.#parts.query.value = "";
      this.#wish({ query: "", shown: "all", mine: false });
      this.#parts.query.focus();
    } else this.#create.open();
  }

  #more() {
    this.#limit += AT_FIRST;
    this.#show();
  }

  /** What was archived is out of sight: it is said, and can be taken back at once. */
  #tellArchived({ id, name }, archived) {
    const { told } = this.#parts;
    const path = `/projects/${encodeURIComponent(id)}`;
    const problem = h("span", { class: "problem", role: "alert" });
    const back = async () => {
      try {
        await this.#page.change("PATCH", path, { body: { archived: !archived } }, this.#store);
        told.replaceChildren(h("p", {}, `${name} is ${archived ? "active" : "archived"} again.`));
        this.#parts.query.focus();
      } catch (error) {
        setText(problem, `Nothing was changed. ${error.message}`);
      }
    };
    const undo = h("button", { type: "button", class: "quiet", click: back }, "Undo");
    told.replaceChildren(h("p", {}, archived ? `${name} is archived.` : `${name} is active again.`), undo, problem);
    // The button that was pressed goes with its project.
    undo.focus();
  }
}

function textOf({ name, labels }) {
  return [name, ...labels].join(" ").toLocaleLowerCase();
}

function projectRow({ actions, may, nameOf }) {
  const name = h("a", { class: "name" });
  const description = h("p", { class: "description" });
  const labels = h("p", { class: "labels" });
  const about = h("p", { class: "hint" });
  const buttons = actions();
  return {
    element: h("li", { class: "card" }, h("h2", {}, name), description, labels, about, buttons.element),
    update(project) {
      setText(name, project.name);
      setAttribute(name, "href", `#/projects/${encodeURIComponent(project.id)}`);
      setText(description, project.description ?? "");
      showLabels(labels, project);
      about.replaceChildren(...aboutProject(project, nameOf));
      buttons.show(project, may(project));
    },
  };
}

/** Labels, and what kind of project it is where that is worth a word. */
export function showLabels(element, project) {
  const words = [...project.labels.map((label) => h("span", { class: "label" }, label))];
  if (project.visibility === "private") words.push(h("span", { class: "label plain" }, "private"));
  if (project.archived_at) words.push(h("span", { class: "label plain" }, "archived"));
  element.replaceChildren(...words);
}

/** "due 3 May 2026 · changed by bob 14:05" as nodes. */
export function aboutProject(project, nameOf = (id) => id) {
  const nodes = [];
  if (project.due_at) nodes.push(`due ${day(project.due_at)}`);
  if (project.updated_at) {
    if (nodes.length) nodes.push(" · ");
    nodes.push(project.updated_by ? `changed by ${nameOf(project.updated_by)} ` : "changed ", timeElement(project.updated_at));
  }
  return nodes;
}
