// Tries each way to the server once, and answers what was seen. Nothing here judges, and nothing throws.

const REST_MS = 10_000;
const OPENING_MS = 10_000;
const REPLY_MS = 5_000;
const STREAM_MS = 6_000;
const POLL_SECONDS = 2;
const API = "/api/v1";
const SUBPROTOCOL = "copydesk.v1";

/** One GET: `{status, body, type, ms}`, where `body` is what JSON says or null; `{error, ms}` where nothing answered. */
export async function get(path, { milliseconds = REST_MS, signal } = {}) {
  const begun = performance.now();
  const ms = () => Math.round(performance.now() - begun);
  try {
    const response = await fetch(API + path, { cache: "no-store", signal: within(milliseconds, signal) });
    const text = await response.text();
    const type = (response.headers.get("Content-Type") ?? "no content type").split(";")[0];
    const redirected = response.redirected ? response.url : null;
    const server = response.headers.get("Server");
    return { status: response.status, body: json(text, type), type, server, redirected, ms: ms() };
  } catch (error) {
    return { error: error.name === "TimeoutError" ? "no answer in time" : "no answer", ms: ms() };
  }
}

/** A WebSocket with its hello: `{opened, answered, hello, refusal, code, ms}`. `answered`: a reply came to what we said. */
export function socket(signal) {
  return new Promise((resolve) => {
    const begun = performance.now();
    const seen = { opened: false, answered: false, hello: null, refusal: null, code: null, ms: null };
    const link = new WebSocket(socketAddress(), [SUBPROTOCOL]);
    const end = () => {
      clearTimeout(timer);
      link.onopen = link.onmessage = link.onclose = null;
      link.close();
      resolve(seen);
    };
    let timer = setTimeout(end, OPENING_MS);
    signal?.addEventListener("abort", end, { once: true });
    link.onopen = () => {
      seen.opened = true;
      seen.ms = Math.round(performance.now() - begun);
      clearTimeout(timer);
      timer = setTimeout(end, REPLY_MS);
      link.send(JSON.stringify({ op: "hello", id: 1, client: "copydesk-diagnosis/1" }));
    };
    link.onmessage = ({ data }) => {
      const message = json(data, "application/json");
      seen.answered = true;
      seen.hello = message?.ok ?? null;
      seen.refusal = message?.error ?? null;
      end();
    };
    link.onclose = ({ code }) => {
      seen.code = code;
      end();
    };
  });
}

/** The event stream until it is live: `{status, body, type, byteMs, liveMs, ms}`; null is what was not reached. */
export async function stream(signal) {
  const begun = performance.now();
  const ms = () => Math.round(performance.now() - begun);
  const seen = { status: null, body: null, type: null, byteMs: null, liveMs: null, ms: null };
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), STREAM_MS);
  signal?.addEventListener("abort", () => over.abort(), { once: true });
  try {
    const response = await openStream(over.signal);
    seen.status = response.status;
    if (!isStream(response)) {
      seen.type = response.headers.get("Content-Type");
      seen.body = json(await response.text(), seen.type ?? "");
      return seen;
    }
    let text = "";
    for await (const piece of pieces(response)) {
      seen.byteMs ??= ms();
      text += piece;
      if (!text.includes("event: live")) continue;
      seen.liveMs = ms();
      return seen;
    }
  } catch {
    // Cut, or nothing in time: what was seen until then says it.
  } finally {
    seen.ms = ms();
    clearTimeout(timer);
    over.abort();
  }
  return seen;
}

/** A long poll that has to wait: as `get`, and how long it was to wait. */
export async function poll(signal, wait = POLL_SECONDS) {
  const first = await get("/events?topics=inbox", { signal });
  if (first.status !== 200 || !first.body) return { ...first, wait: 0 };
  const since = encodeURIComponent(first.body.position);
  const milliseconds = wait * 1000 + REST_MS;
  return { ...(await get(`/events?topics=inbox&since=${since}&wait=${wait}`, { milliseconds, signal })), wait };
}

export const openStream = (signal) =>
  fetch(`${API}/events/stream?topics=inbox&snapshot=false`, { cache: "no-store", signal });

export const isStream = (response) =>
  response.status === 200 && (response.headers.get("Content-Type") ?? "").startsWith("text/event-stream");

/** The text of an answer, as it comes. */
export async function* pieces(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}

export const socketAddress = () => `${location.origin.replace(/^http/, "ws")}${API}/realtime`;

function within(milliseconds, signal) {
  const timeout = AbortSignal.timeout(milliseconds);
  return signal ? AbortSignal.any([timeout, signal]) : timeout;
}

function json(text, type) {
  if (!/\bjson\b/.test(type)) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
