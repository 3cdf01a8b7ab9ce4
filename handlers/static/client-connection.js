// When to connect, by which rung, how long to wait, and when to stop trying: the client rules of docs/protocol.md.

import { trySocket, tryStream } from "./client-climb.js";
import { Feed } from "./client-feed.js";
import { Ladder, lastingMemory } from "./client-ladder.js";
import { Link } from "./client-link.js";
import * as reasons from "./client-reasons.js";

const BASE_MS = 1000;
const CAP_MS = 30_000;
// Random waits may come out at nothing, and nothing is what a loop is made of.
const FLOOR_MS = 200;
// A connection that ended sooner than this counts as one more failure.
const STABLE_MS = 10_000;
// So many handshakes that fail while REST works: something in between does not let WebSockets through.
const BLOCKED_AFTER = 3;
// So many connections in a row that were cut before a second ping could come: something does not let them live.
const CUT_AFTER = 3;
const SHORT_LIFE_MS = 30_000;
// An interface that goes up and down must not start a climb each time.
const CLIMB_APART_MS = 10_000;
const MOST_DOUBLINGS = 16;

/** Full jitter: a random part of a wait that doubles, so that those who left together do not come back together. */
export function backoff(failures) {
  return Math.max(FLOOR_MS, Math.random() * Math.min(CAP_MS, BASE_MS * 2 ** Math.min(failures, MOST_DOUBLINGS)));
}

/** Keeps one connection open for ever. Its `state` is connecting, ready, offline or disabled; `reason` says why. */
export class Connection {
  #origin;
  #rest;
  #credentials;
  #source;
  #handlers;
  #ladder;
  #config = { ping_seconds: 25, poll_seconds: 10 };
  #link = null;
  // The running attempt to connect; whoever comes back to find another one here has been overtaken.
  #attempt = null;
  #askConfig = true;
  #failures = 0;
  #refusedHandshakes = 0;
  #socketsWorked = false;
  #cuts = 0;
  #dialledAt = 0;
  #readyAt = 0;
  #notBefore = 0;
  #timer = null;
  #climbTimer = null;
  #climbedAt = 0;
  #shown = "";
  #wake = () => this.#reconsider();
  #online = () => {
    this.#reconsider();
    if (Date.now() - this.#climbedAt > CLIMB_APART_MS) this.#climbIn(BASE_MS);
  };

  /**
   * `source`: what a `Feed` follows. `onstate()` after every change of state, reason or rung; `onready(hello)` before
   * it, where `hello` is null on the lower rungs; `identify()` finds out there who we are; `onpush(push)`.
   */
  constructor(origin, rest, credentials, source, handlers) {
    this.#origin = origin;
    this.#rest = rest;
    this.#credentials = credentials;
    this.#source = source;
    this.#handlers = handlers;
    this.#ladder = new Ladder(lastingMemory(origin));
    this.state = "connecting";
    this.reason = null;
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
    globalThis.addEventListener?.("online", this.#online);
  }

  /** The rung that is stood on, or null. */
  get rung() {
    return this.state === "ready" ? this.#ladder.rung : null;
  }

  /** Why it is not the best rung, or null. */
  get why() {
    return this.#ladder.why;
  }

  /** Whether topics have to be read over REST: there is no connection, and one may not come. */
  get withoutSockets() {
    return this.state === "disabled" || this.#refusedHandshakes > 0;
  }

  /** Makes the first attempt. */
  start() {
    this.#dial();
  }

  /** Sends a command. The lower rungs have none: what is followed there is told by `changed`. */
  send(op, fields, onok, onerror) {
    this.#link?.send?.(op, fields, onok, onerror);
  }

  /** The topics are others than before. */
  changed() {
    this.#link?.changed?.();
  }

  /** Something was written: on a rung that asks now and then, ask now. */
  now() {
    this.#link?.now?.();
  }

  /** Somebody wants to know now: ask the server again what it offers, and connect where that is possible. */
  retryNow() {
    this.now();
    this.#askConfig = true;
    this.#dialSoon();
  }

  /** Not before so many milliseconds from now: the server said so. */
  postpone(milliseconds) {
    this.#notBefore = Math.max(this.#notBefore, Date.now() + milliseconds);
  }

  /** Tells the server of a newer token; without a function that makes one there is none. */
  async refreshToken() {
    if (!this.#credentials.renewable) return;
    const link = this.#link;
    this.#credentials.forget();
    // Nothing can be said on a stream: it ends with its token, and another one begins where it was.
    if (!link?.send) return;
    try {
      link.send("refresh", { token: await this.#credentials.current() });
    } catch {
      // Then the server ends this connection in a minute, and the next attempt asks again and says what is wrong.
    }
  }

  close() {
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
    globalThis.removeEventListener?.("online", this.#online);
    clearTimeout(this.#timer);
    clearTimeout(this.#climbTimer);
    this.#timer = null;
    this.#link?.close();
    this.#link = null;
    this.#attempt = {}; // Never finished, so that nothing starts another one.
    this.#become("offline", reasons.CLOSED_HERE);
  }

  async #dial() {
    const attempt = (this.#attempt = {});
    this.#timer = null;
    this.#dialledAt = Date.now();
    let token;
    try {
      if (this.#askConfig) await this.#askWhatIsOffered();
      token = await this.#credentials.current();
      if (this.#ladder.rung === "sse" || this.#ladder.rung === "poll") await this.#handlers.identify();
    } catch (error) {
      if (attempt !== this.#attempt) return;
      const reason = reasons.reasonOf(error);
      if (error.status === 401) this.#stop(reason);
      else this.#retry(reason);
      return;
    }
    if (attempt !== this.#attempt) return;
    if (this.#ladder.rung === null) {
      this.#stop(reasons.SWITCHED_OFF);
      return;
    }
    this.#askConfig = false;
    this.#link = this.#ladder.rung === "websocket" ? this.#socket(token) : this.#feed();
  }

  async #askWhatIsOffered() {
    const { body } = await this.#rest.request("GET", "/config");
    this.#config = { ...this.#config, ...body };
    this.#ladder.offer(body.transports, reasons.SOCKETS_OFF);
  }

  #socket(token) {
    return new Link(this.#origin, token, {
      onready: (hello) => this.#welcome(hello),
      onpush: (push) => this.#handlers.onpush(push),
      onend: (end) => this.#socketEnded(end),
    });
  }

  #feed() {
    return new Feed(this.#ladder.rung, this.#rest, this.#source, this.#config, {
      onready: () => this.#welcome(null),
      onend: (end) => this.#feedEnded(end),
    });
  }

  #welcome(hello) {
    this.#readyAt = Date.now();
    this.#refusedHandshakes = 0;
    this.#socketsWorked ||= hello !== null;
    this.#ladder.holds();
    this.#handlers.onready(hello);
    this.#become("ready", null);
    if (this.#ladder.higher.length) this.#climbIn(this.#ladder.nextClimb());
  }

  #socketEnded({ code, opened, silent, farewell }) {
    const ready = this.state === "ready";
    this.#left(farewell);
    if (!opened || (silent && !ready)) {
      // A browser does not say why. The configuration may: sockets may have been switched off.
      this.#askConfig = true;
      this.#refusedHandshakes += 1;
      // Where sockets got through a moment ago, it is rather the server that is busy with itself.
      const patient = this.#socketsWorked && this.#refusedHandshakes < BLOCKED_AFTER;
      if (this.#ladder.canFall && !patient) this.#fallBecauseOf({ silent, opened: false });
      else this.#retry(this.#refusedHandshakes < BLOCKED_AFTER ? reasons.NOT_OPENED : reasons.BLOCKED);
      return;
    }
    const told = farewell ? { code: farewell.code, detail: farewell.detail } : reasons.LOST;
    const reason = reasons.BY_CLOSE_CODE[code] ?? told;
    if (code === 4409 && this.#ladder.fall(reasons.SOCKETS_OFF)) this.#retry(reasons.SOCKETS_OFF, { ask: true });
    else if (code >= 4400 && code <= 4499) this.#stop(reason);
    else if (code === 1006 && this.#cutTooOften() && this.#ladder.canFall) this.#fallBecauseOf({ opened });
    else this.#retry(reason);
  }

  #feedEnded({ problem, held, ready, farewell }) {
    this.#left(farewell);
    if (problem?.status === 401) {
      this.#stop(reasons.reasonOf(problem));
      return;
    }
    if (problem?.retryAfter) this.postpone(problem.retryAfter * 1000);
    const told = farewell ? { code: farewell.code, detail: farewell.detail } : problem && reasons.reasonOf(problem);
    // What the server itself said for now, and what may be an outage, is no reason to go elsewhere.
    const passing = farewell || [0, 429, 502, 503, 504].includes(problem?.status);
    const broken = held || (problem?.status && !passing) || (!farewell && this.#cutTooOften());
    if (broken && this.#ladder.fall(reasons.whyNoStream({ problem, held, ready }))) this.#dialNow();
    else this.#retry(told ?? reasons.LOST, { ask: true });
  }

  /** A connection is over. */
  #left(farewell) {
    this.#link = null;
    clearTimeout(this.#climbTimer);
    if (this.state === "ready" && Date.now() - this.#readyAt >= STABLE_MS) this.#failures = 0;
    if (farewell?.retry_after_ms) this.postpone(farewell.retry_after_ms);
  }

  #cutTooOften() {
    const lived = this.state === "ready" ? Date.now() - this.#readyAt : 0;
    this.#cuts = lived < SHORT_LIFE_MS ? this.#cuts + 1 : 0;
    return this.#cuts >= CUT_AFTER;
  }

  /** Sockets do not open: finds out whether the server is there at all, and if it is, takes the next rung. */
  async #fallBecauseOf(end) {
    const attempt = (this.#attempt = {});
    try {
      await this.#askWhatIsOffered();
      const seen = end.opened || end.silent ? null : await this.#rest.probe("/realtime");
      if (attempt !== this.#attempt) return;
      const fell = this.#ladder.rung !== "websocket" || this.#ladder.fall(reasons.whyNoSocket({ ...end, seen }));
      if (fell) this.#dialNow();
      else this.#retry(reasons.NOT_OPENED);
    } catch (error) {
      if (attempt === this.#attempt) this.#retry(reasons.reasonOf(error));
    }
  }

  /** Another rung is tried without a wait: there are three, so this cannot become a loop. */
  #dialNow() {
    this.#cuts = 0;
    this.#askConfig = true;
    if (this.state === "ready") this.#become("offline", reasons.LOST);
    this.#dial();
  }

  #retry(reason, { ask = false } = {}) {
    this.#attempt = null;
    this.#askConfig ||= ask;
    // However long the wait was: a token may have ended meanwhile, and 4100 to 4199 want a new one.
    this.#credentials.forget();
    this.#timer = setTimeout(() => this.#dial(), Math.max(backoff(this.#failures), this.#notBefore - Date.now()));
    this.#failures += 1;
    this.#become("offline", reason);
  }

  /** No more attempts until `retryNow`. */
  #stop(reason) {
    this.#attempt = null;
    this.#become("disabled", reason);
  }

  #become(state, reason) {
    this.state = state;
    this.reason = reason;
    const shown = `${state} ${reason?.code} ${this.rung} ${this.why?.code}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#handlers.onstate();
  }

  // -- climbing -------------------------------------------------------------------------------------------------------

  #climbIn(milliseconds) {
    clearTimeout(this.#climbTimer);
    if (this.rung === null || this.rung === "websocket") return;
    this.#climbTimer = setTimeout(() => this.#climb(), milliseconds);
  }

  /** Looks whether a higher rung holds by now. What there is goes on until another one works. */
  async #climb() {
    const link = this.#link;
    const from = this.#ladder.rung;
    this.#climbedAt = Date.now();
    try {
      await this.#askWhatIsOffered();
      if (link !== this.#link) return;
      if (this.#ladder.rung !== from) {
        link.close();
        this.#link = null;
        this.#dialNow();
        return;
      }
      for (const rung of this.#ladder.higher) {
        if (rung === "websocket" ? await this.#climbToSocket(link) : await this.#climbToStream(link)) return;
      }
    } catch {
      // The rung that it stands on will notice by itself when the server is away.
    }
    if (link === this.#link) this.#climbIn(this.#ladder.nextClimb());
  }

  async #climbToSocket(current) {
    const found = await trySocket(this.#origin, await this.#credentials.current());
    if (current !== this.#link) {
      found.link?.close();
      return true;
    }
    if (!found.link) {
      const seen = found.end.opened ? null : await this.#rest.probe("/realtime");
      if (current === this.#link) this.#ladder.why = reasons.whyNoSocket({ ...found.end, seen });
      return false;
    }
    found.listen(
      (push) => this.#handlers.onpush(push),
      (end) => this.#socketEnded(end),
    );
    this.#climbTo("websocket", () => found.link);
    this.#welcome(found.hello);
    return true;
  }

  async #climbToStream(current) {
    const [topic] = this.#source.topics();
    const { cursor } = this.#source;
    if (!topic || cursor === undefined || !(await tryStream(this.#rest, topic, cursor))) return false;
    if (current === this.#link) this.#climbTo("sse", () => this.#feed());
    return true;
  }

  #climbTo(rung, connect) {
    this.#link.close();
    this.#cuts = 0;
    this.#ladder.climbTo(rung);
    this.#link = connect();
  }

  /** The tab is looked at again, or the network is back: do not sit out the rest of a long wait. */
  #reconsider() {
    if (globalThis.document?.visibilityState === "hidden") return;
    this.#link?.check();
    if (this.#timer !== null) this.#dialSoon();
  }

  /** Dials at once, but never within a second of the last time, nor before the server said. */
  #dialSoon() {
    if (this.#attempt) return;
    clearTimeout(this.#timer);
    const wait = Math.max(0, this.#dialledAt + BASE_MS - Date.now(), this.#notBefore - Date.now());
    this.#timer = setTimeout(() => this.#dial(), wait);
  }
}
