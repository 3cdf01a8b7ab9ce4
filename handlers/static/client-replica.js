// What the client knows of one topic: a snapshot, kept current by events. Pure: no network, no timers, no page.

/** For each kind of topic: the names of a snapshot's parts, and the kind that the documents of each part are. */
const SHAPES = {
  project: { project: "project", items: "item", comments: "comment" },
  projects: { projects: "project" },
  inbox: { notifications: "notification", counts: "counts" },
};

/**
 * The copy of one topic's documents, and how far it is.
 *
 * Every method that takes something in answers with what follows from it:
 * `{snapshot, events, fetch, gap}`: whether everything was replaced, the events that were applied, the documents
 * to fetch over REST (`[{kind, id}]`), and whether pushes went missing, so that the topic must be asked for again.
 */
export class Replica {
  #documents;
  // By kind and id. Apart from the documents: counts carry no version, and an archived entry is known and not held.
  #versions = new Map();
  #loaded = false;
  // idle: nothing asked for on this connection. asked: pushes still belong to an earlier question.
  // snapshot: parts are coming in. replay: events up to `live` are coming in. live.
  #phase = "idle";
  #parts = null;
  #early = [];
  #seq = null;
  #fetching = new Map();

  constructor(topic) {
    this.topic = topic;
    this.kinds = SHAPES[topic.split(":", 1)[0]];
    if (!this.kinds) throw new TypeError(`There is no topic "${topic}".`);
    /** Where to resume; undefined until the first `live`, because positions count only from there. */
    this.position = undefined;
    /** Why the topic is not to be had: `{code, detail}`. */
    this.problem = null;
    /** Raised whenever everything was replaced, so that a slower read of all can see that it is late. */
    this.generation = 0;
    this.#replace([]);
  }

  /** loading: nothing yet. live: current. stale: was current once. gone: not there, or not for this user. */
  get state() {
    if (this.problem) return "gone";
    if (this.#phase === "live") return "live";
    return this.#loaded ? "stale" : "loading";
  }

  /** Whether pushes about the topic are answers to the latest question. */
  get expecting() {
    return this.#phase !== "idle" && this.#phase !== "asked";
  }

  get(kind, id) {
    return this.#documents.get(kind)?.get(id);
  }

  documents(kind) {
    return [...(this.#documents.get(kind)?.values() ?? [])];
  }

  /** A `subscribe` is on its way: whatever comes before its reply belongs to what was before. */
  asked() {
    this.#phase = "asked";
  }

  /** The reply to `subscribe`. */
  accepted({ resumed }) {
    this.problem = null;
    this.#expect(resumed ? "replay" : "snapshot");
    if (!resumed) this.position = undefined;
  }

  /** The topic is not to be had, or not any more: nothing of it may stay on anybody's screen. */
  lost(problem) {
    this.#phase = "idle";
    this.#loaded = false;
    this.problem = problem;
    this.position = undefined;
    this.#replace([]);
    return outcome({ snapshot: true });
  }

  /** The connection is gone: what is here stays, and is resumed from `position`. */
  disconnected() {
    this.#phase = "idle";
  }

  /** Everything at once, as read over REST. It has no position: the next subscription starts with a snapshot. */
  load(data) {
    this.problem = null;
    this.position = undefined;
    this.#loaded = true;
    this.#replace([data]);
    return outcome({ snapshot: true });
  }

  /** Takes in one push about this topic. */
  receive(push) {
    if (!this.expecting) return outcome();
    switch (push.push) {
      case "snapshot":
        return this.#receivePart(push);
      case "events":
        return this.#receiveEvents(push);
      case "live":
        this.#phase = "live";
        this.#seq = push.seq ?? null;
        this.position = push.position;
        return outcome();
      case "reset":
        this.position = undefined;
        this.#expect("snapshot");
        return outcome();
      default:
        return outcome();
    }
  }

  /** A ping's position: everything up to it that concerns this connection has been sent. */
  reached(position) {
    if (this.#phase === "live") this.position = position;
  }

  /** Whether a document that `fetch` named is still wanted. Call it when the request starts. */
  fetchStarts(kind, id) {
    const wanted = this.#fetching.get(`${kind} ${id}`);
    if (wanted) wanted.again = false;
    return wanted !== undefined;
  }

  /** What the fetch brought; null where the document is not there. Newer full events win over it. */
  fetched(kind, id, document) {
    const key = `${kind} ${id}`;
    const wanted = this.#fetching.get(key);
    if (!wanted) return outcome();
    // The read was answered from a state before the change, or the document changed again meanwhile.
    // Counts carry no version: a read of them is as new as it is.
    const tooOld = document !== null && wanted.event.version !== null && document.version < wanted.event.version;
    if (wanted.again || tooOld) return outcome({ fetch: [{ kind, id }] });
    this.#fetching.delete(key);
    if (document === null) {
      this.#forget(kind, id);
      return outcome({ events: [{ ...wanted.event, change: "delete" }] });
    }
    this.#put(kind, id, document, wanted.event.version);
    return outcome({ events: [{ ...wanted.event, doc: document }] });
  }

  #expect(phase) {
    this.#phase = phase;
    this.#parts = phase === "snapshot" ? [] : null;
    this.#early = [];
    this.#seq = null;
  }

  #receivePart({ data, last }) {
    if (this.#phase !== "snapshot") return outcome();
    this.#parts.push(data);
    if (!last) return outcome();
    this.#loaded = true;
    this.#replace(this.#parts);
    const early = this.#early;
    this.#expect("replay");
    return outcome({ snapshot: true, ...this.#apply(early) });
  }

  #receiveEvents({ events, position, seq }) {
    if (this.#phase === "snapshot") {
      // Before the first part they are older than the snapshot. Between parts they may be newer.
      if (this.#parts.length) this.#early.push(...events);
      return outcome();
    }
    if (this.#phase !== "live") return outcome(this.#apply(events));
    if (seq !== undefined && this.#seq !== null && seq > this.#seq + 1) {
      this.#phase = "asked";
      return outcome({ gap: true });
    }
    if (seq !== undefined) this.#seq = seq;
    this.position = position;
    return outcome(this.#apply(events));
  }

  #apply(events) {
    const applied = [];
    const fetch = [];
    for (const event of events) {
      if (!this.#documents.has(event.kind)) applied.push(event);
      else if (this.#applyOne(event, fetch)) applied.push(event);
    }
    return { events: applied, fetch };
  }

  /** Applies an event unless its version is known; answers whether the documents changed. */
  #applyOne(event, fetch) {
    const { kind, change, version, doc } = event;
    const id = kind === "counts" ? kind : event.id;
    const key = `${kind} ${id}`;
    if (change === "leave" || change === "delete") {
      this.#fetching.delete(key);
      return this.#forget(kind, id);
    }
    // Null means that another program changed it without raising the version: always apply that.
    if (Number.isInteger(version) && version <= this.#versions.get(key)) return false;
    if (doc !== undefined) {
      this.#fetching.delete(key);
      this.#put(kind, id, doc, version);
      return true;
    }
    const wanted = this.#fetching.get(key);
    if (wanted) Object.assign(wanted, { event, again: true });
    else {
      this.#fetching.set(key, { event, again: false });
      fetch.push({ kind, id });
    }
    return false;
  }

  #put(kind, id, document, version) {
    const documents = this.#documents.get(kind);
    // An inbox holds what its snapshot would: an archived entry is put away, until it is taken out again.
    if (kind === "notification" && document.archived_at !== undefined) documents.delete(id);
    else documents.set(id, document);
    const known = document.version ?? version;
    if (Number.isInteger(known)) this.#versions.set(`${kind} ${id}`, known);
    else this.#versions.delete(`${kind} ${id}`);
  }

  /** Answers whether the document was there, or put away. */
  #forget(kind, id) {
    const known = this.#versions.delete(`${kind} ${id}`);
    return this.#documents.get(kind).delete(id) || known;
  }

  #replace(parts) {
    this.#documents = new Map(Object.values(this.kinds).map((kind) => [kind, new Map()]));
    this.#versions.clear();
    for (const part of parts) {
      for (const [name, kind] of Object.entries(this.kinds)) {
        for (const document of [part[name] ?? []].flat()) this.#put(kind, document.id ?? kind, document, null);
      }
    }
    this.#fetching.clear();
    this.generation += 1;
  }
}

function outcome(parts) {
  return { snapshot: false, events: [], fetch: [], gap: false, ...parts };
}
