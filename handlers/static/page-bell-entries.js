// Which entries the bell shows: those that are pushed, and older ones that are read page by page. No elements here.

const PAGE = 30;

/** Nothing chosen: whatever is not archived. */
export const EVERYTHING = { state: "", type: "", project_id: "" };

/**
 * What the list shows under a filter.
 *
 * The newest entries are pushed, whatever their state; older and archived ones come over REST. Both are put together
 * by `seq`, the newer one wins. Nothing older than the last page is shown, so that there is no hole above it.
 */
export class Entries {
  #request;
  #store;
  #filter = EVERYTHING;
  #read = new Map();
  // Deleted while a page was on its way, which may still name them.
  #deleted = new Set();
  #cursor = null;
  // The last entry of the last page, where more follow; null: nothing is held back.
  #floor = null;
  #reading = null;

  /** `request` is the page's, `store` the inbox. */
  constructor(request, store) {
    this.#request = request;
    this.#store = store;
  }

  get filter() {
    return this.#filter;
  }

  get filtered() {
    return Object.values(this.#filter).some((value) => value !== "");
  }

  get reading() {
    return this.#reading !== null;
  }

  get hasMore() {
    return this.#cursor !== null;
  }

  /** Every entry that is known, in whatever state. */
  known() {
    const found = new Map(this.#read);
    for (const entry of this.#store.documents("notification")) {
      if (!(found.get(entry.id)?.seq > entry.seq)) found.set(entry.id, entry);
    }
    return [...found.values()];
  }

  /** The entries to show, the newest first. */
  shown() {
    const found = this.known()
      .filter((entry) => this.#matches(entry) && (this.#floor === null || byTime(entry, this.#floor) <= 0))
      .sort(byTime);
    // Until the first page has come nobody knows whether there are more.
    return this.#floor === null && this.#reading !== null ? found.slice(0, PAGE) : found;
  }

  /** Shows what matches another filter, from its first page on. Throws `ProblemError`. */
  async choose(filter) {
    this.#filter = { ...EVERYTHING, ...filter };
    this.#read.clear();
    this.#cursor = null;
    this.#floor = null;
    await this.#readPage();
  }

  /** Reads the next page. Throws `ProblemError`. */
  async more() {
    if (this.#reading === null && this.#cursor !== null) await this.#readPage();
  }

  /** What became of an entry, as a mutation answers it. */
  learn(entry) {
    this.#read.set(entry.id, entry);
  }

  /** What the inbox reported. */
  take({ snapshot, events }) {
    // What was read before may be of projects that are lost by now.
    if (snapshot) this.#read.clear();
    for (const { kind, change, id, doc } of events) {
      if (kind !== "notification") continue;
      // The inbox does not hold what was archived.
      if (doc) this.#read.set(id, doc);
      else if (change === "delete" || change === "leave") {
        this.#read.delete(id);
        this.#deleted.add(id);
      }
    }
  }

  /** The reader lost a project: nothing of it may stay, not even what the inbox never held. */
  forgetProject(projectId) {
    for (const [id, { subject }] of this.#read) if (subject.project_id === projectId) this.#read.delete(id);
  }

  async #readPage() {
    const reading = (this.#reading = {});
    this.#deleted.clear();
    const wanted = Object.entries({ ...this.#filter, cursor: this.#cursor ?? "" }).filter(([, value]) => value !== "");
    try {
      const query = new URLSearchParams([["limit", PAGE], ...wanted]);
      const { body } = await this.#request("GET", `/notifications?${query}`);
      if (this.#reading !== reading) return; // Another filter was chosen meanwhile.
      for (const entry of body.items) if (!this.#deleted.has(entry.id)) this.#read.set(entry.id, entry);
      this.#cursor = body.next_cursor ?? null;
      this.#floor = this.#cursor === null ? null : (body.items.at(-1) ?? this.#floor);
    } finally {
      if (this.#reading === reading) this.#reading = null;
    }
  }

  #matches({ read_at: read, archived_at: archived, type, subject }) {
    const { state, type: wantedType, project_id: wantedProject } = this.#filter;
    if (Boolean(archived) !== (state === "archived")) return false;
    if (state === "unread" && read) return false;
    return (!wantedType || type === wantedType) && (!wantedProject || subject.project_id === wantedProject);
  }
}

/** The newest first, as the API lists them. */
function byTime(a, b) {
  return b.updated_at.localeCompare(a.updated_at) || (a.id < b.id ? 1 : -1);
}
