// Keeps one connection of each kind open and measures how long it may be quiet. Ends by itself, or by its signal.

import { isStream, openStream, pieces, poll, socketAddress } from "./diagnosis-probes.js";

const SUBPROTOCOL = "copydesk.v1";
const LONGEST_POLL = 25;
// Two pings come within this many times the time between them, with some to spare.
const PINGS = 2.2;

/** Seconds that `measure` takes at most. */
export function duration(pingSeconds) {
  return Math.round(Math.max(pingSeconds * PINGS + 3, 8));
}

/**
 * `{socket, stream, poll}`: each `{cut, silence, code, said}` or null where it was not tried. `cut`: it ended though
 * nobody here or on the server said so. `silence`: seconds of the longest quiet time, up to the cut if there was one.
 */
export async function measure({ pingSeconds, signedIn, signal }) {
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), duration(pingSeconds) * 1000);
  signal.addEventListener("abort", () => over.abort(), { once: true });
  const [socket, stream, longPoll] = await Promise.all([
    quietSocket(over.signal, signedIn),
    signedIn ? quietStream(over.signal) : null,
    signedIn ? quietPoll(over.signal, Math.min(LONGEST_POLL, Math.floor(duration(pingSeconds)) - 2)) : null,
  ]);
  clearTimeout(timer);
  return { socket, stream, poll: longPoll };
}

/** How long nothing was heard, longest. */
class Quiet {
  #heard = performance.now();
  #longest = 0;
  times = 0;

  hear() {
    this.#longest = Math.max(this.#longest, performance.now() - this.#heard);
    this.#heard = performance.now();
    this.times += 1;
  }

  get sinceLast() {
    return seconds(performance.now() - this.#heard);
  }

  get longest() {
    return seconds(Math.max(this.#longest, performance.now() - this.#heard));
  }
}

function quietSocket(signal, signedIn) {
  return new Promise((resolve) => {
    const link = new WebSocket(socketAddress(), [SUBPROTOCOL]);
    let quiet = null;
    const end = (answer) => {
      link.onopen = link.onmessage = link.onclose = null;
      link.close(1000);
      resolve(answer);
    };
    signal.addEventListener("abort", () => end(quiet && { cut: false, silence: quiet.longest, code: null }), {
      once: true,
    });
    link.onopen = () => {
      quiet = new Quiet();
      // To a hello of nobody the server answers by closing; without any it waits for a while.
      if (signedIn) link.send(JSON.stringify({ op: "hello", id: 1, client: "copydesk-diagnosis/1" }));
    };
    link.onmessage = ({ data }) => {
      quiet.hear();
      if (JSON.parse(data).push === "ping") link.send(JSON.stringify({ op: "pong" }));
    };
    link.onclose = ({ code }) => {
      // Without a close frame, browsers say 1006: whoever ended it was not the server.
      if (!quiet) end(null);
      else end({ cut: code === 1006, silence: code === 1006 ? quiet.sinceLast : quiet.longest, code });
    };
  });
}

async function quietStream(signal) {
  const quiet = new Quiet();
  let text = "";
  try {
    const response = await openStream(signal);
    if (!isStream(response)) return null;
    for await (const piece of pieces(response)) {
      text = (text + piece).slice(-2000);
      quiet.hear();
    }
  } catch (error) {
    // Not one byte: that is a collecting proxy, and says nothing of how long it waits.
    if (!quiet.times) return null;
    if (error.name === "AbortError") return { cut: false, silence: quiet.longest, code: null };
  }
  if (!quiet.times) return null;
  const told = text.includes("event: error") || text.includes("event: drain");
  return { cut: !told, silence: told ? quiet.longest : quiet.sinceLast, code: null };
}

async function quietPoll(signal, wait) {
  const answer = await poll(signal, wait);
  // Without a position there was nothing to wait for.
  if (signal.aborted || answer.wait === 0) return null;
  return { cut: answer.status !== 200, silence: seconds(answer.ms), code: answer.status ?? null, wait };
}

const seconds = (milliseconds) => Math.round(milliseconds / 100) / 10;
