// The list of projects, live.

import { Keyed, day, h, setAttribute, setText, timeElement } from "./page-dom.js";

export class ProjectsView {
  #page;
  #store;
  #list;
  #hint;

  constructor(page) {
    this.#page = page;
    this.#hint = h("p", { class: "empty", role: "status" });
    const list = h("ul", { class: "projects" });
    this.#list = new Keyed(list, projectRow);
    this.element = h("section", { class: "home", "aria-labelledby": "home" }, h("h1", { id: "home" }, "Projects"), this.#hint, list);
    page.setTitle("Projects");
    this.#store = page.client.subscribe("projects", () => this.#show());
    this.#store.on("state", () => this.#show());
    this.#store.on("error", (error) => setText(this.#hint, error.message));
    this.#show();
  }

  close() {
    this.#store.close();
  }

  #show() {
    const projects = this.#store.documents("project").sort(byAgeThenName);
    const nothing = "There are no projects that you may see. Programs create them over the REST API, see /docs.";
    setText(this.#hint, projects.length ? "" : this.#store.state === "loading" ? "Loading" : nothing);
    this.#list.update(projects.map((project) => [project.id, project]));
  }
}

/** Archived ones last; else the newest first. */
function byAgeThenName(a, b) {
  const archived = Number(a.archived_at !== undefined) - Number(b.archived_at !== undefined);
  return archived || (b.created_at ?? "").localeCompare(a.created_at ?? "") || a.name.localeCompare(b.name);
}

function projectRow() {
  const name = h("a", { class: "name" });
  const description = h("p", { class: "description" });
  const labels = h("p", { class: "labels" });
  const about = h("p", { class: "hint" });
  let shown;
  return {
    element: h("li", { class: "card" }, h("h2", {}, name), description, labels, about),
    update(project) {
      if (project === shown) return;
      shown = project;
      setText(name, project.name);
      setAttribute(name, "href", `#/projects/${encodeURIComponent(project.id)}`);
      setText(description, project.description ?? "");
      showLabels(labels, project);
      about.replaceChildren(...aboutProject(project));
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
