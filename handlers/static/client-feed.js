// The lower rungs: topics that come as one stream, or by one question after another, with one position for all of them.

import { Stream } from "./client-stream.js";

// A held question is answered after so many seconds at the latest; the server allows no more.
const HOLD_SECONDS = 25;
const GRACE_MS = 10_000;
// So many held questions that broke, where one that is not held was answered: something cuts what takes long.
const CUT_AFTER = 2;
// A stream that has not begun by then may never do so; until it is known, REST shows what there is.
const READ_ANYWAY_MS = 1500;

/**
 * One connection over Server-Sent Events (`sse`) or by polling (`poll`). It lives once, as a `Link` does.
 *
 * `source` is the client: `cursor`, a position up to which it has everything about all topics that are not `behind`;
 * `topics()`; `update(topic, act)`; `read(topic)`, which reads a topic over REST; `receive(push)`.
 * A topic that is behind is read after the cursor was taken, and what happened since is told once more: the copy drops
 * what it knows. So nothing is missed whichever way the topics came.
 */
export class Feed {
  #rest;
  #source;
  #handlers;
  #config;
  #stream = null;
  // What runs now; whoever finds another one here has been overtaken.
  #run = null;
  #asking = null;
  #wake = null;
  #holding = true;
  #cut = 0;
  #farewell = null;
  #ready = false;
  #over = false;
  #sees;

  /** `onready()`: it works. `onend({problem, held, ready, farewell})`: see `Stream`; `ready`: whether it ever worked. */
  constructor(rung, rest, source, config, handlers) {
    this.#rest = rest;
    this.#source = source;
    this.#config = config;
    this.#handlers = handlers;
    // What was not to be had before may be now, and is asked for once more.
    this.#sees = new Set(source.topics());
    this.start = rung === "sse" ? () => this.#follow() : () => this.#poll();
    this.start();
  }

  /** Another topic is wanted, or one has to be read again. */
  changed() {
    if (this.#over) return;
    this.#stream?.close();
    this.#stream = null;
    this.#asking?.abort();
    this.#wake?.();
    // Several topics that begin at once are one change.
    const run = (this.#run = {});
    queueMicrotask(() => run === this.#run && !this.#over && this.start());
  }

  /** Somebody wants to know now. */
  now() {
    this.#wake?.();
  }

  check() {
    this.#stream?.check();
  }

  close() {
    this.#over = true;
    this.#run = null;
    this.#stream?.close();
    this.#asking?.abort();
    this.#wake?.();
  }

  #topics() {
    return this.#source.topics().filter((topic) => !topic.replica.problem || this.#sees.has(topic));
  }

  #path(path, topics, fields) {
    const names = topics.map(({ replica }) => replica.topic).join(",");
    return `${path}?${new URLSearchParams({ topics: names, ...fields })}`;
  }

  // -- Server-Sent Events ---------------------------------------------------------------------------------------------

  async #follow() {
    const run = (this.#run = {});
    try {
      if (this.#source.cursor !== undefined) {
        await this.#read(run);
        this.#sees.clear();
      }
    } catch (error) {
      this.#end(run, { problem: error, held: false });
    }
    if (run !== this.#run) return;
    const topics = this.#topics();
    this.#sees.clear();
    if (topics.length === 0) {
      this.#works();
      return;
    }
    const { cursor } = this.#source;
    for (const topic of topics) this.#begin(topic, cursor !== undefined);
    const waiting = new Set(topics.map(({ replica }) => replica.topic));
    const anyway = setTimeout(() => this.#readAnyway(run, topics), READ_ANYWAY_MS);
    const path = this.#path("/events/stream", topics, cursor !== undefined && { since: cursor });
    this.#stream = new Stream(this.#rest, path, this.#config.ping_seconds * 1000 + GRACE_MS, {
      onpush: (push, id) => {
        this.#take(push);
        if (push.push === "live" || push.push === "unsubscribed") waiting.delete(push.topic);
        if (waiting.size === 0 && run === this.#run) {
          clearTimeout(anyway);
          this.#stream.begun();
          this.#works();
        }
        if (id !== undefined) this.#source.cursor = id;
      },
      onend: (end) => {
        clearTimeout(anyway);
        this.#end(run, end);
      },
    });
  }

  async #readAnyway(run, topics) {
    for (const topic of topics) {
      if (run !== this.#run || topic.replica.state !== "loading") continue;
      await this.#source.read(topic).catch(() => {}); // Whether it works is for the stream to say.
    }
  }

  // -- polling --------------------------------------------------------------------------------------------------------

  async #poll() {
    const run = (this.#run = {});
    try {
      while (run === this.#run) await this.#round(run);
    } catch (error) {
      this.#end(run, { problem: error, held: false });
    }
  }

  async #round(run) {
    const begun = Date.now();
    const topics = this.#topics();
    if (topics.length === 0) {
      this.#works();
      await this.#pause(run, Infinity);
      return;
    }
    if (this.#source.cursor === undefined) {
      for (const topic of topics) topic.behind = true;
      const { body } = await this.#rest.request("GET", this.#path("/events", topics, {}));
      if (run !== this.#run) return;
      this.#source.cursor = body.position;
    }
    await this.#read(run);
    if (run !== this.#run) return;
    this.#sees.clear();
    const asked = this.#topics();
    if (asked.length === 0) return;
    for (const topic of asked) if (!topic.replica.expecting) this.#begin(topic, true);
    const answer = await this.#ask(asked);
    if (run !== this.#run) return;
    this.#apply(asked, answer);
    this.#works();
    if (!answer.more) await this.#pause(run, begun + this.#config.poll_seconds * 1000 - Date.now());
  }

  async #ask(topics) {
    // The first answer says whether it works at all, and is not to be waited for.
    const hold = this.#holding && this.#ready ? HOLD_SECONDS : 0;
    const fields = { since: this.#source.cursor, ...(hold && { wait: hold }) };
    const asking = (this.#asking = new AbortController());
    const ask = (given) =>
      this.#rest.request("GET", this.#path("/events", topics, given), { signal: asking.signal });
    try {
      const { body } = await ask(fields);
      if (hold) this.#cut = 0;
      return body;
    } catch (error) {
      if (!hold || asking.signal.aborted || error.status === 401) throw error;
      const { body } = await ask({ since: fields.since });
      this.#cut += 1;
      if (this.#cut >= CUT_AFTER) this.#holding = false;
      return body;
    }
  }

  #apply(topics, { position, pushes, more }) {
    for (const push of pushes) {
      if (push.push === "reset") topics.find(({ replica }) => replica.topic === push.topic).behind = true;
      else this.#take(push);
    }
    this.#source.cursor = position;
    if (more) return;
    for (const topic of topics) {
      if (topic.behind || !topic.replica.expecting) continue;
      const live = { push: "live", topic: topic.replica.topic, position };
      this.#source.update(topic, (replica) => replica.receive(live));
    }
  }

  #pause(run, milliseconds) {
    if (run !== this.#run || milliseconds <= 0) return null;
    return new Promise((resolve) => {
      const timer = milliseconds === Infinity ? null : setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  // -- both -----------------------------------------------------------------------------------------------------------

  /** Reads what is behind. The cursor stands still meanwhile, and so leads to what is read. */
  async #read(run) {
    for (const topic of this.#topics()) {
      if (run !== this.#run || !topic.behind) continue;
      this.#source.update(topic, (replica) => replica.disconnected());
      await this.#source.read(topic);
      topic.behind = topic.replica.problem !== null;
    }
  }

  #begin(topic, resumed) {
    this.#source.update(topic, (replica) => {
      replica.asked();
      return replica.accepted({ resumed });
    });
  }

  #take(push) {
    if (push.push === "error") this.#farewell = push;
    this.#source.receive(push);
  }

  #works() {
    if (this.#ready || this.#over) return;
    this.#ready = true;
    this.#handlers.onready();
  }

  #end(run, end) {
    if (run !== this.#run || this.#over) return;
    this.close();
    this.#handlers.onend({ ...end, ready: this.#ready, farewell: this.#farewell });
  }
}
