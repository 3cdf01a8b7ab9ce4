// What users are called: asked for when first needed, and kept for all views.

// More than most teams have: then one question answers everything.
const FIRST = 200;

/** Names by user id. Until the server has told a name, and where there is none, the id stands for it. */
export class People {
  #request;
  #names = new Map();
  #listeners = new Set();
  #first = null;

  /** `request` is the page's. */
  constructor(request) {
    this.#request = request;
  }

  nameOf(userId) {
    if (!this.#names.has(userId)) {
      this.#names.set(userId, userId);
      this.#ask(userId);
    }
    return this.#names.get(userId);
  }

  /** Calls `listener()` when names became known; answers a function that stops that. */
  on(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #ask(userId) {
    this.#first ??= this.#read({});
    await this.#first;
    if (this.#names.get(userId) === userId) await this.#read({ q: userId });
  }

  async #read(query) {
    try {
      const { body } = await this.#request("GET", `/users?${new URLSearchParams({ limit: FIRST, ...query })}`);
      for (const { id, name } of body.items) this.#names.set(id, name);
    } catch {
      return; // Ids are readable enough.
    }
    for (const listener of this.#listeners) listener();
  }
}
