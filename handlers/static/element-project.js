// The base of elements that show something of one project, named by the attribute `project`.

import { CopydeskElement } from "./element-shared.js";

/** Its topic, and what the user may do in it. */
export class ProjectElement extends CopydeskElement {
  #store = null;
  #can = new Set();

  get project() {
    return this.getAttribute("project") ?? "";
  }

  /** Null before there is a project, or a connection. */
  get store() {
    return this.#store;
  }

  /** Where the project is in the REST API. */
  get path() {
    return `/projects/${encodeURIComponent(this.project)}`;
  }

  may(action) {
    return this.#can.has(action);
  }

  open() {
    if (!this.project) return;
    this.#store = this.client.subscribe(`project:${this.project}`, ({ snapshot, events }) => {
      if (snapshot || events.some(({ kind }) => kind === "project")) this.#readRights();
      this.showSoon();
    });
    this.#store.on("state", () => this.showSoon());
  }

  shut() {
    this.#store?.close();
    this.#store = null;
    this.#can = new Set();
  }

  async #readRights() {
    const store = this.#store;
    try {
      const { body } = await this.client.request("GET", `${this.path}/overview`);
      if (store !== this.#store) return;
      this.#can = new Set(body.me.can);
      this.showSoon();
    } catch {
      // Then nothing is offered that may not be allowed.
    }
  }
}
