// REST calls: credentials, idempotency keys, and one kind of error for everything that can go wrong.

const BASE = "/api/v1";
const PATIENCE_MS = 30_000;
// Kept short, because requests wait for it in line; lists go on with `next_cursor`.
const PAGE = 200;

/** An answer that is not the one asked for: a problem+json of the server, or no usable answer at all. */
export class ProblemError extends Error {
  constructor({ code, detail, status = 0, errors = [], requestId = null, retryAfter = null }) {
    super(detail);
    this.name = "ProblemError";
    this.code = code;
    this.detail = detail;
    this.status = status;
    this.errors = errors;
    this.requestId = requestId;
    this.retryAfter = retryAfter;
  }
}

/** A fresh idempotency key. Not `randomUUID`: browsers have that only on https and localhost. */
export function idempotencyKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Where a bearer token comes from: nowhere (then the session cookie speaks), a fixed text, or a function. */
export class Credentials {
  #source;
  #token;
  #renewal = null;

  constructor(source) {
    this.#source = source;
    this.#token = typeof source === "string" ? source : undefined;
  }

  get byCookie() {
    return this.#source === undefined;
  }

  get renewable() {
    return typeof this.#source === "function";
  }

  /** The token at hand, or a new one; undefined with a cookie. */
  async current() {
    if (this.#token !== undefined || !this.renewable) return this.#token;
    this.#renewal ??= this.#ask();
    return this.#renewal;
  }

  /** Another token than `refused`, where there is a function to ask; several who ask at once cause one question. */
  async renew(refused) {
    if (refused === this.#token) this.forget();
    return this.current();
  }

  /** The token may be old by the time it is needed. */
  forget() {
    if (this.renewable) this.#token = undefined;
  }

  async #ask() {
    try {
      this.#token = await this.#source();
      return this.#token;
    } finally {
      this.#renewal = null;
    }
  }
}

/** The REST side of one server. */
export class Rest {
  #origin;
  #credentials;

  constructor(origin, credentials) {
    this.#origin = origin;
    this.#credentials = credentials;
  }

  /** See `request` in client.d.ts. */
  async request(method, path, options = {}) {
    // One key for both attempts: the server may have done its work before it said no.
    const key = method === "POST" ? (options.idempotencyKey ?? idempotencyKey()) : undefined;
    const token = await this.#credentials.current();
    try {
      return await this.#send(method, path, { ...options, key, token });
    } catch (error) {
      if (error.status !== 401 || !this.#credentials.renewable) throw error;
      return this.#send(method, path, { ...options, key, token: await this.#credentials.renew(token) });
    }
  }

  /** Every document of a list, page after page. */
  async all(path) {
    const found = [];
    let cursor;
    do {
      const url = new URL(path, "http://path");
      url.searchParams.set("limit", PAGE);
      if (cursor) url.searchParams.set("cursor", cursor);
      const { body } = await this.request("GET", url.pathname + url.search);
      found.push(...body.items);
      cursor = body.next_cursor;
    } while (cursor);
    return found;
  }

  /** An answer that goes on: a stream of events. Throws `ProblemError` where it is not one, or breaks off at once. */
  async open(path, signal) {
    const token = await this.#credentials.current();
    try {
      return await this.#stream(path, signal, token);
    } catch (error) {
      if (error.status !== 401 || !this.#credentials.renewable) throw error;
      return this.#stream(path, signal, await this.#credentials.renew(token));
    }
  }

  /** What a plain request to a path is answered with, whatever it is: `{status, code}`; status 0 where nobody answers. */
  async probe(path) {
    try {
      const response = await fetch(this.#origin + BASE + path, {
        credentials: "omit",
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      return { status: response.status, code: parse(await response.text())?.code };
    } catch {
      return { status: 0 };
    }
  }

  async #stream(path, signal, token) {
    let response;
    try {
      response = await fetch(this.#origin + BASE + path, {
        headers: { Accept: "text/event-stream", ...(token && { Authorization: `Bearer ${token}` }) },
        credentials: this.#credentials.byCookie ? "same-origin" : "omit",
        cache: "no-store",
        signal,
      });
    } catch {
      throw unreachable();
    }
    if (response.ok && response.headers.get("Content-Type")?.startsWith("text/event-stream")) return response;
    throw problemOf(response, parse(await response.text()));
  }

  async #send(method, path, { body, key, ifMatch, token, signal }) {
    const headers = { Accept: "application/json" };
    if (token) headers.Authorization = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (key && path !== "/session") headers["Idempotency-Key"] = key;
    if (ifMatch) headers["If-Match"] = ifMatch;
    let response;
    let text;
    try {
      response = await fetch(this.#origin + BASE + path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: this.#credentials.byCookie ? "same-origin" : "omit",
        signal: patience(signal),
      });
      text = await response.text();
    } catch {
      throw unreachable();
    }
    const parsed = parse(text);
    if (!response.ok) throw problemOf(response, parsed);
    if (text && parsed === undefined) throw problemOf(response, undefined);
    return { status: response.status, body: parsed, etag: response.headers.get("ETag"), headers: response.headers };
  }
}

const unreachable = () => new ProblemError({ code: "unreachable", detail: "The server cannot be reached." });

/** Ends when the caller says so, or when it has taken too long. */
function patience(signal) {
  if (!signal) return AbortSignal.timeout(PATIENCE_MS);
  const both = new AbortController();
  const end = () => both.abort();
  signal.addEventListener("abort", end, { once: true });
  AbortSignal.timeout(PATIENCE_MS).addEventListener("abort", end, { once: true });
  if (signal.aborted) end();
  return both.signal;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What an answer says is wrong. Something between us and the server may answer in its own words: those are not ours. */
function problemOf(response, problem) {
  const retryAfter = Number.parseFloat(response.headers.get("Retry-After"));
  const known = typeof problem?.code === "string" ? problem : {};
  return new ProblemError({
    code: known.code ?? (response.status >= 502 ? "unreachable" : "unexpected"),
    detail: known.detail ?? `The server, or something before it, answered ${response.status}.`,
    status: response.status,
    errors: known.errors,
    requestId: known.request_id,
    retryAfter: Number.isNaN(retryAfter) ? null : retryAfter,
  });
}
