// The public client module: live topics over one connection, and REST beside it. Described in docs/client.md.

import { Connection, backoff } from "./client-connection.js";
import { documentPath, readTopic } from "./client-reads.js";
import { DATABASE_AWAY } from "./client-reasons.js";
import { Replica } from "./client-replica.js";
import { Credentials, ProblemError, Rest, idempotencyKey } from "./client-rest.js";
import { Listeners, Store } from "./client-store.js";

export { ProblemError, idempotencyKey };

// Everybody gets the same event at the same moment; they need not all fetch at the same moment.
const SPREAD_MS = 300;

/** Connects, and stays connected until `close()`. Without a token the session cookie of this site is used. */
export function connect({ url = location.origin, token } = {}) {
  return new Client(new URL(url).origin, new Credentials(token));
}

/** One topic of this client: its copy, who listens, how many stores show it, and when it is to be asked for again. */
class Topic {
  constructor(name) {
    this.replica = new Replica(name);
    this.listeners = new Listeners();
    this.stores = 0;
    // On the lower rungs: whether it has to be read before it can be followed. See `Feed`.
    this.behind = true;
    this.failures = 0;
    this.timer = null;
  }
}

class Client {
  #rest;
  #connection;
  #topics = new Map();
  #listeners = new Listeners();
  #state = "connecting";
  #reason = null;
  #shown = "connecting undefined null undefined";
  #user = null;
  #origin;
  // A position up to which everything was told about every topic that is not behind.
  #cursor = undefined;
  // A ping said that what the server knows is old. The connection is fine then, and yet nothing is live.
  #databaseAway = false;

  constructor(origin, credentials) {
    this.#origin = origin;
    this.#rest = new Rest(origin, credentials);
    this.#connection = new Connection(origin, this.#rest, credentials, this.#followed(), {
      onready: (hello) => (this.#user = hello?.user ?? this.#user),
      identify: () => this.#identify(),
      onstate: () => this.#connectionChanged(),
      onpush: (push) => this.#receive(push),
    });
    this.#connection.start();
  }

  get state() {
    return this.#state;
  }

  get reason() {
    return this.#reason;
  }

  get user() {
    return this.#user;
  }

  get transport() {
    const { rung, why } = this.#connection;
    return { rung, why, diagnosis: `${this.#origin}/diagnosis` };
  }

  on(name, listener) {
    return this.#listeners.on(name, listener);
  }

  async request(method, path, options) {
    const answer = await this.#rest.request(method, path, options);
    if (method !== "GET") this.#connection.now();
    return answer;
  }

  subscribe(name, handler) {
    let topic = this.#topics.get(name);
    if (!topic) {
      topic = new Topic(name);
      this.#topics.set(name, topic);
      this.#join(topic);
      this.#settle();
    }
    topic.stores += 1;
    const store = new Store(topic.replica, topic.listeners, () => this.#leave(topic));
    if (handler) {
      store.on("change", handler);
      // Whoever comes second to a topic finds it loaded, and is told so like the first.
      if (topic.replica.state !== "loading") queueMicrotask(() => handler({ snapshot: true, events: [] }, store));
    }
    return store;
  }

  async refresh() {
    this.#connection.retryNow();
    if (this.#connection.state === "ready") return;
    await Promise.all([...this.#topics.values()].map((topic) => this.#read(topic)));
  }

  close() {
    this.#connection.close();
    for (const topic of this.#topics.values()) clearTimeout(topic.timer);
    this.#topics.clear();
  }

  /** What a `Feed` sees of this client. */
  #followed() {
    const client = this;
    return {
      get cursor() {
        return client.#cursor;
      },
      set cursor(position) {
        client.#cursor = position;
      },
      topics: () => [...this.#topics.values()],
      update: (topic, act) => this.#update(topic, act),
      receive: (push) => this.#receive(push),
      read: (topic) => this.#read(topic, { whatever: true }),
    };
  }

  async #identify() {
    this.#user ??= (await this.#rest.request("GET", "/session")).body.user;
  }

  #connectionChanged() {
    const { state, rung, withoutSockets } = this.#connection;
    this.#databaseAway = false;
    for (const topic of this.#topics.values()) {
      if (rung === "websocket") this.#join(topic);
      else if (state !== "ready") {
        clearTimeout(topic.timer);
        this.#update(topic, (replica) => replica.disconnected());
        if (withoutSockets && topic.replica.state === "loading") this.#readQuietly(topic);
      }
    }
    this.#settle();
  }

  #join(topic) {
    const { state, rung, withoutSockets } = this.#connection;
    const { replica } = topic;
    clearTimeout(topic.timer);
    if (rung !== "websocket") {
      this.#connection.changed();
      if (state !== "ready" && withoutSockets) this.#readQuietly(topic);
      return;
    }
    this.#update(topic, () => replica.asked());
    this.#connection.send(
      "subscribe",
      { topic: replica.topic, ...(replica.position && { since: replica.position }) },
      (ok) => this.#update(topic, () => replica.accepted(ok)),
      (error) => this.#refused(topic, error),
    );
  }

  #joinLater(topic, atLeast = 0) {
    clearTimeout(topic.timer);
    topic.timer = setTimeout(() => this.#join(topic), Math.max(backoff(topic.failures), atLeast));
    topic.failures += 1;
  }

  #leave(topic) {
    topic.stores -= 1;
    if (topic.stores) return;
    clearTimeout(topic.timer);
    this.#topics.delete(topic.replica.topic);
    this.#connection.send("unsubscribe", { topic: topic.replica.topic });
    this.#settle();
  }

  /** The server says no to a topic, or says not now. */
  #refused(topic, { code, detail, retry, retry_after_ms: after }) {
    topic.behind = true;
    if (retry || after !== undefined || code === "busy") {
      this.#update(topic, (replica) => replica.disconnected());
      this.#joinLater(topic, after);
    } else this.#update(topic, (replica) => replica.lost({ code, detail }));
  }

  #receive(push) {
    const topic = this.#topics.get(push.topic);
    switch (push.push) {
      case "ping":
        if (push.position) this.#reached(push.position);
        this.#databaseAway = push.stale === true;
        this.#settle();
        return;
      case "drain":
        this.#connection.postpone(push.reconnect_in_ms);
        return;
      case "token_expiring":
        this.#connection.refreshToken();
        return;
      case "unsubscribed":
        if (topic?.replica.expecting) this.#refused(topic, push);
        return;
      default:
        if (!topic) return;
        if (push.push === "events") this.#databaseAway = false;
        this.#update(topic, (replica) => replica.receive(push));
        if (push.push === "live") {
          topic.failures = 0;
          topic.behind = false;
        }
    }
  }

  /** A ping's position holds for all topics that are live; where all are, one has been found to go on from anywhere. */
  #reached(position) {
    const topics = [...this.#topics.values()];
    for (const { replica } of topics) replica.reached(position);
    if (topics.every(({ replica }) => replica.state === "live" || replica.state === "gone")) this.#cursor = position;
  }

  /** Does something to a topic's copy, and tells whom it concerns what came of it. */
  #update(topic, act) {
    const { replica, listeners } = topic;
    const before = replica.state;
    const { snapshot, events, fetch, gap } = act(replica) ?? {};
    if (snapshot || events?.length) listeners.emit("change", { snapshot, events });
    if (replica.state !== before) listeners.emit("state", replica.state);
    for (const wanted of fetch ?? []) this.#fetchLater(topic, wanted);
    if (gap) this.#joinLater(topic);
    this.#settle();
  }

  /** Works out the state in one word, and says so when it changed. */
  #settle() {
    const { state: connected, rung } = this.#connection;
    const behind = [...this.#topics.values()].some(({ replica }) => !["live", "gone"].includes(replica.state));
    const current = rung === "poll" ? "polling" : "live";
    const state = connected === "ready" ? (behind || this.#databaseAway ? "catching_up" : current) : connected;
    const { transport } = this;
    let { reason } = this.#connection;
    if (this.#databaseAway) reason = DATABASE_AWAY;
    else if (state === "polling") reason = transport.why;
    const shown = `${state} ${reason?.code} ${transport.rung} ${transport.why?.code}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#state = state;
    this.#reason = reason;
    this.#listeners.emit("state", state, reason, transport);
  }

  /** Reads a whole topic where there is no socket to bring it. */
  async #read(topic, { whatever = false } = {}) {
    const { replica } = topic;
    const { generation } = replica;
    try {
      const data = await readTopic(this.#rest, replica.topic);
      // A snapshot that came meanwhile is newer, and goes on by itself.
      if (!whatever && (replica.generation !== generation || replica.state === "live")) return;
      this.#update(topic, () => replica.load(data));
    } catch (error) {
      if (error.status !== 404) throw error;
      topic.behind = true;
      this.#update(topic, () => replica.lost({ code: error.code, detail: error.detail }));
    }
  }

  /** As `#read`, for when nobody waits for it: what went wrong is told to those who listen to the topic. */
  async #readQuietly(topic) {
    try {
      await this.#read(topic);
    } catch (error) {
      topic.listeners.emit("error", error);
    }
  }

  #fetchLater(topic, wanted, failures = 0) {
    setTimeout(() => this.#fetch(topic, wanted, failures), failures ? backoff(failures) : Math.random() * SPREAD_MS);
  }

  /** Gets a document that an event named without bringing it. */
  async #fetch(topic, wanted, failures) {
    const { replica } = topic;
    const { kind, id } = wanted;
    if (this.#topics.get(replica.topic) !== topic || !replica.fetchStarts(kind, id)) return;
    let document = null;
    try {
      document = (await this.#rest.request("GET", documentPath(replica.topic, kind, id))).body;
    } catch (error) {
      if (error.status !== 404) {
        this.#fetchLater(topic, wanted, failures + 1);
        return;
      }
    }
    this.#update(topic, () => replica.fetched(kind, id, document));
  }
}
