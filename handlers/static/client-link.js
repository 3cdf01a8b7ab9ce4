// One WebSocket: says hello, matches replies to commands, answers pings, notices silence. It never reconnects.

const PATH = "/api/v1/realtime";
const SUBPROTOCOL = "copydesk.v1";
const NAME = "copydesk-client/1";
// The server pings every 25 s; whoever is not heard for 10 s more is not there.
const SILENCE_MS = 35_000;
// Something in between may swallow a handshake whole.
const OPENING_MS = 15_000;
const GRACE_MS = 10_000;

/** A connection that lives once. `onend` is called exactly once, unless `close` was called before. */
export class Link {
  #socket;
  #handlers;
  #replies = new Map();
  #nextId = 1;
  #heard = Date.now();
  #silence = OPENING_MS;
  #timer;
  #opened = false;
  #farewell = null;

  /**
   * `onready(hello)`: the server knows who we are. `onpush(push)`. `onend({code, opened, silent, farewell})`:
   * `opened` says whether the handshake succeeded, `silent` whether it was given up here because nothing was heard;
   * `farewell` is the `error` push that came before the end.
   */
  constructor(origin, token, { onready, onpush, onend }) {
    this.#handlers = { onready, onpush, onend };
    this.#socket = new WebSocket(origin.replace(/^http/, "ws") + PATH, [SUBPROTOCOL]);
    this.#socket.onopen = () => {
      this.#opened = true;
      this.send("hello", { ...(token && { token }), client: NAME }, (hello) => {
        this.#silence = Math.max(SILENCE_MS, hello.ping_seconds * 1000 + GRACE_MS);
        this.#handlers.onready(hello);
      });
    };
    this.#socket.onmessage = ({ data }) => this.#hear(data);
    this.#socket.onclose = ({ code }) => this.#end(code);
    this.#watch();
  }

  /** Sends a command; `onok(ok)` or `onerror(error)` gets its reply. */
  send(op, fields, onok, onerror) {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const id = this.#nextId++;
    this.#replies.set(id, { onok, onerror });
    this.#socket.send(JSON.stringify({ op, id, ...fields }));
  }

  /** Ends it without a word to anybody here. */
  close() {
    this.#let();
    this.#socket.close(1000);
  }

  /** Looks at once whether the server has been silent for too long: timers stand still while a computer sleeps. */
  check() {
    if (Date.now() - this.#heard < this.#silence) return;
    this.close();
    this.#handlers.onend({ code: 1006, opened: this.#opened, silent: true, farewell: this.#farewell });
  }

  #watch() {
    this.#timer = setTimeout(
      () => {
        this.#watch();
        this.check();
      },
      Math.max(1000, this.#heard + this.#silence - Date.now()),
    );
  }

  #hear(data) {
    this.#heard = Date.now();
    const message = JSON.parse(data);
    if (message.push === undefined) {
      const reply = this.#replies.get(message.id);
      this.#replies.delete(message.id);
      if (message.error) reply?.onerror?.(message.error);
      else reply?.onok?.(message.ok);
      return;
    }
    if (message.push === "ping") this.#socket.send(JSON.stringify({ op: "pong" }));
    if (message.push === "error") this.#farewell = message;
    this.#handlers.onpush(message);
  }

  #end(code) {
    this.#let();
    this.#handlers.onend({ code, opened: this.#opened, farewell: this.#farewell });
  }

  #let() {
    clearTimeout(this.#timer);
    // A closing handshake with a peer that is gone takes long; nothing that still comes is of interest.
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
  }
}
