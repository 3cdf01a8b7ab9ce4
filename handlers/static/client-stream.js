// Server-Sent Events read by `fetch`: EventSource can send no token, and tells nobody why it failed.

// The server says something at once. Whoever hears nothing has something in between that keeps it back.
const FIRST_BYTE_MS = 8000;
// So long may it take from one byte to the next until every topic has begun.
const BEGINNING_MS = 20_000;

/** Takes text apart into events, as the HTML standard says. Pure. */
export class EventParser {
  #rest = "";
  #fields = {};

  /** The events that are complete with this piece: `[{event, data, id}]`. */
  feed(text) {
    const found = [];
    // A piece may end between the two characters of a line's end.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (this.#fields.data !== undefined) found.push(this.#fields);
        this.#fields = {};
        continue;
      }
      const [, name, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
      if (name === "data" && this.#fields.data !== undefined) this.#fields.data += `\n${value ?? ""}`;
      else if (name !== "") this.#fields[name] = value ?? "";
    }
    return found;
  }
}

/** One stream that lives once. `onend` is called exactly once, unless `close` was called before. */
export class Stream {
  #handlers;
  #abort = new AbortController();
  #timer = null;
  #heard = Date.now();
  #silence = FIRST_BYTE_MS;
  #lasting;
  #begun = false;
  #over = false;

  /**
   * `silence`: milliseconds without a byte after which a stream that has begun is broken. `onpush(push, id)`.
   * `onend({problem, held})`: `problem` is what went wrong, null where it just ended; `held`: nothing got through.
   */
  constructor(rest, path, silence, { onpush, onend }) {
    this.#handlers = { onpush, onend };
    this.#lasting = silence;
    this.#watch();
    this.#run(rest, path);
  }

  /** Every topic has begun: from here on the server speaks at every ping only. */
  begun() {
    this.#begun = true;
    this.#silence = this.#lasting;
    this.#watch();
  }

  close() {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  /** Looks at once whether it has been silent for too long: timers stand still while a computer sleeps. */
  check() {
    if (this.#over || Date.now() - this.#heard < this.#silence) return;
    this.#end({ problem: null, held: !this.#begun });
  }

  async #run(rest, path) {
    try {
      const response = await rest.open(path, this.#abort.signal);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new EventParser();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || this.#over) break;
        this.#hear();
        for (const { data, id } of parser.feed(value)) {
          this.#handlers.onpush(JSON.parse(data), id);
          if (this.#over) return;
        }
      }
      this.#end({ problem: null, held: false });
    } catch (error) {
      this.#end({ problem: error, held: false });
    }
  }

  #hear() {
    this.#heard = Date.now();
    if (!this.#begun) this.#silence = BEGINNING_MS;
  }

  #watch() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => {
        this.check();
        if (!this.#over) this.#watch();
      },
      Math.max(250, this.#heard + this.#silence - Date.now()),
    );
  }

  #end(end) {
    if (this.#over) return;
    this.close();
    this.#handlers.onend(end);
  }
}
