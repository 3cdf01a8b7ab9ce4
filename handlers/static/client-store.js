// A topic as the client's user sees it: the documents to read, and who is told when they change.

/** Functions to call when something happens. One that throws is reported and does not keep the others from hearing. */
export class Listeners {
  #byName = new Map();

  /** Registers a function; returns one that takes it off again. */
  on(name, listener) {
    const entry = { listener };
    if (!this.#byName.has(name)) this.#byName.set(name, new Set());
    this.#byName.get(name).add(entry);
    return () => this.#byName.get(name).delete(entry);
  }

  emit(name, ...values) {
    for (const { listener } of [...(this.#byName.get(name) ?? [])]) {
      try {
        listener(...values);
      } catch (error) {
        reportError(error);
      }
    }
  }
}

/** What `client.subscribe` returns. The documents are shared with everybody who reads them: do not change them. */
export class Store {
  #replica;
  #listeners;
  #leave;
  #offs = [];

  constructor(replica, listeners, leave) {
    this.#replica = replica;
    this.#listeners = listeners;
    this.#leave = leave;
  }

  get topic() {
    return this.#replica.topic;
  }

  get state() {
    return this.#replica.state;
  }

  get problem() {
    return this.#replica.problem;
  }

  get(kind, id) {
    return this.#replica.get(kind, id);
  }

  documents(kind) {
    return this.#replica.documents(kind);
  }

  on(name, listener) {
    const off = this.#listeners.on(name, (...values) => listener(...values, this));
    this.#offs.push(off);
    return off;
  }

  close() {
    this.#offs.forEach((off) => off());
    this.#leave?.();
    this.#leave = null;
  }
}
