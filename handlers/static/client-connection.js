// When to connect, how long to wait, and when to stop trying: the client rules of docs/protocol.md.

import { Link } from "./client-link.js";

const BASE_MS = 1000;
const CAP_MS = 30_000;
// Random waits may come out at nothing, and nothing is what a loop is made of.
const FLOOR_MS = 200;
// A connection that ended sooner than this counts as one more failure.
const STABLE_MS = 10_000;
// So many handshakes that fail while REST works: something in between does not let WebSockets through.
const BLOCKED_AFTER = 3;
const MOST_DOUBLINGS = 16;

const SWITCHED_OFF = { code: "websockets_disabled", detail: "Live updates are switched off on this server." };
const LOST = { code: "lost", detail: "The live connection was lost." };
const NOT_OPENED = { code: "unreachable", detail: "The live connection could not be opened." };
const BLOCKED = { code: "handshake_failed", detail: "The server answers, but live connections to it do not open." };
const CLOSED_HERE = { code: "closed", detail: "This client was closed." };
const BY_CLOSE_CODE = {
  4000: { code: "drain", detail: "The server is restarting." },
  4101: { code: "token_expired", detail: "The sign-in has expired." },
  4401: { code: "unauthenticated", detail: "Sign in again." },
  4403: { code: "forbidden", detail: "Live updates are not allowed for this user." },
  4406: { code: "protocol", detail: "This page does not speak the server's language. Load it again." },
  4409: SWITCHED_OFF,
};

/** Full jitter: a random part of a wait that doubles, so that those who left together do not come back together. */
export function backoff(failures) {
  return Math.max(FLOOR_MS, Math.random() * Math.min(CAP_MS, BASE_MS * 2 ** Math.min(failures, MOST_DOUBLINGS)));
}

/** Keeps one link open for ever. Its `state` is connecting, ready, offline or disabled; `reason` says why. */
export class Connection {
  #origin;
  #rest;
  #credentials;
  #handlers;
  #link = null;
  // The running attempt to connect; whoever comes back to find another one here has been overtaken.
  #attempt = null;
  #askConfig = true;
  #failures = 0;
  #refusedHandshakes = 0;
  #dialledAt = 0;
  #readyAt = 0;
  #notBefore = 0;
  #timer = null;
  #wake = () => this.#reconsider();

  /** `onstate()` after every change of state or reason; `onready(hello)` before it; `onpush(push)`. */
  constructor(origin, rest, credentials, handlers) {
    this.#origin = origin;
    this.#rest = rest;
    this.#credentials = credentials;
    this.#handlers = handlers;
    this.state = "connecting";
    this.reason = null;
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
    globalThis.addEventListener?.("online", this.#wake);
  }

  /** Whether topics have to be read over REST: sockets are switched off, or do not get through. */
  get withoutSockets() {
    return this.state === "disabled" || this.#refusedHandshakes > 0;
  }

  /** Makes the first attempt. */
  start() {
    this.#dial();
  }

  send(op, fields, onok, onerror) {
    this.#link?.send(op, fields, onok, onerror);
  }

  /** Somebody wants to know now: ask the server again what it offers, and connect where that is possible. */
  retryNow() {
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
    try {
      link?.send("refresh", { token: await this.#credentials.current() });
    } catch {
      // Then the server ends this connection in a minute, and the next attempt asks again and says what is wrong.
    }
  }

  close() {
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
    globalThis.removeEventListener?.("online", this.#wake);
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#link?.close();
    this.#link = null;
    this.#attempt = {}; // Never finished, so that nothing starts another one.
    this.#become("offline", CLOSED_HERE);
  }

  async #dial() {
    const attempt = (this.#attempt = {});
    this.#timer = null;
    this.#dialledAt = Date.now();
    let token;
    try {
      const offered = !this.#askConfig || (await this.#rest.request("GET", "/config")).body.transports.includes("websocket");
      token = await this.#credentials.current();
      if (attempt !== this.#attempt) return;
      if (!offered) {
        this.#stop(SWITCHED_OFF);
        return;
      }
    } catch (error) {
      if (attempt !== this.#attempt) return;
      const reason = { code: error.code ?? "unreachable", detail: error.message };
      if (error.status === 401) this.#stop(reason);
      else this.#retry(reason);
      return;
    }
    this.#askConfig = false;
    this.#link = new Link(this.#origin, token, {
      onready: (hello) => this.#welcome(hello),
      onpush: (push) => this.#handlers.onpush(push),
      onend: (end) => this.#ended(end),
    });
  }

  #welcome(hello) {
    this.#readyAt = Date.now();
    this.#refusedHandshakes = 0;
    this.#handlers.onready(hello);
    this.#become("ready", null);
  }

  #ended({ code, opened, farewell }) {
    this.#link = null;
    if (this.state === "ready" && Date.now() - this.#readyAt >= STABLE_MS) this.#failures = 0;
    if (farewell?.retry_after_ms) this.postpone(farewell.retry_after_ms);
    if (!opened) {
      // A browser does not say why. The configuration may: sockets may have been switched off.
      this.#askConfig = true;
      this.#refusedHandshakes += 1;
      this.#retry(this.#refusedHandshakes < BLOCKED_AFTER ? NOT_OPENED : BLOCKED);
      return;
    }
    const reason = BY_CLOSE_CODE[code] ?? (farewell ? { code: farewell.code, detail: farewell.detail } : LOST);
    if (code >= 4400 && code <= 4499) this.#stop(reason);
    else this.#retry(reason);
  }

  #retry(reason) {
    this.#attempt = null;
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
    if (state === this.state && reason?.code === this.reason?.code) return;
    this.state = state;
    this.reason = reason;
    this.#handlers.onstate();
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
