// Which threads have something new for the reader: those of unread entries in the inbox. Nothing is counted here.

export class Unread {
  #page;
  #inbox;
  // Threads about the item that is open. Opening it marks them as read, before anybody can have seen what was new.
  #kept = new Set();
  // What was unread when it was first known. An item is asked for before its project is there to be shown.
  #early = null;
  #itemIds = [];

  /** `changed()` is called when something was marked, here or anywhere else. The bell listens to the same inbox. */
  constructor(page, changed) {
    this.#page = page;
    this.#inbox = page.client.subscribe("inbox", () => {
      this.#keep();
      changed();
    });
    this.#keep();
  }

  close() {
    this.#inbox.close();
  }

  /** Another conversation is opened: what is unread about its items now stays marked until one has been there. */
  turnTo(itemIds) {
    this.#kept.clear();
    this.#itemIds = itemIds;
    this.#keepFrom([...(this.#early ?? []), ...this.#entries()]);
    if (this.#early) this.#early = [];
  }

  /** The ids of the threads to mark. */
  get threads() {
    const unread = this.#entries().map(({ subject }) => subject.thread_id);
    return new Set([...this.#kept, ...unread]);
  }

  /** Whether something was said about the project as a whole. */
  aboutProject(projectId) {
    const about = ({ subject }) => subject.project_id === projectId && subject.thread_id && !subject.item_id;
    return this.#entries().some(about);
  }

  /** Somebody is in a thread, and has seen what is new. Answers whether the marks changed by that at once. */
  looked(threadId) {
    this.#page.bell?.looking({ thread_id: threadId });
    return this.#kept.delete(threadId);
  }

  /** The bell is told of the inbox first, but its marking takes a while: what is unread is still known here. */
  #keep() {
    if (this.#early !== null || this.#inbox.state === "loading") return;
    this.#early = this.#entries();
    this.#keepFrom(this.#early);
  }

  #keepFrom(entries) {
    const wanted = new Set(this.#itemIds);
    for (const { subject } of entries) {
      if (wanted.has(subject.item_id) && subject.thread_id) this.#kept.add(subject.thread_id);
    }
  }

  #entries() {
    return this.#inbox.documents("notification").filter((entry) => !entry.read_at && !entry.archived_at);
  }
}
