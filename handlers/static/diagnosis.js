// The diagnosis page: runs the tries, shows what they mean, measures silence, makes the text for a ticket.

import { duration, measure } from "./diagnosis-idle.js";
import { judge, judgeIdle } from "./diagnosis-judge.js";
import { get, poll, socket, stream } from "./diagnosis-probes.js";
import { ticket } from "./diagnosis-ticket.js";
import { count, h, setText } from "./page-dom.js";

const DEFAULT_PING = 25;
const STATES = { good: "Works", bad: "Fault", off: "Switched off", skipped: "Not tried", waiting: "Trying" };
const TRIES = ["REST", "Headers", "WebSocket", "Event stream", "Long poll"];

const $ = (id) => document.getElementById(id);

class Diagnosis {
  #page = {
    origin: location.origin,
    host: location.host,
    name: location.hostname,
    scheme: location.protocol.slice(0, -1),
  };
  #pingFactor = Number(document.body.dataset.pingFactor);
  #pingSeconds = DEFAULT_PING;
  #signedIn = false;
  #reached = [];
  #tried = { rows: [], found: [] };
  #idle = { rows: [], found: [] };
  #measuring = null;
  #running = false;

  start() {
    $("again").addEventListener("click", () => this.run());
    $("copy").addEventListener("click", () => this.#copy());
    $("idle-start").addEventListener("click", () => this.#measure());
    $("idle-cancel").addEventListener("click", () => this.#measuring?.abort());
    this.run();
  }

  /** Tries everything once. */
  async run() {
    if (this.#running) return;
    this.#setRunning(true);
    setText($("summary"), "Trying the ways to the server.");
    this.#showRows($("checks"), TRIES.map((name) => ({ name, state: "waiting", text: "" })));
    this.#tried = judge(await this.#facts());
    this.#showRows($("checks"), this.#tried.rows);
    this.#showFindings();
    this.#setRunning(false);
  }

  async #facts() {
    const [rest, reached, session] = await Promise.all([get("/config"), get("/diagnostics"), get("/session")]);
    const transports = rest.status === 200 ? (rest.body?.transports ?? null) : null;
    this.#signedIn = session.status === 200;
    this.#pingSeconds = rest.body?.ping_seconds ?? DEFAULT_PING;
    $("signed-out").hidden = this.#signedIn || !transports;
    this.#showReached(reached.body);
    const live = transports !== null;
    const [link, events, longPoll] = await Promise.all([
      live && transports.includes("websocket") ? socket() : null,
      live && this.#signedIn ? stream() : null,
      live && this.#signedIn ? poll() : null,
    ]);
    return {
      page: this.#page,
      rest,
      reached,
      transports,
      // What the address of the socket says to an ordinary request.
      plain: link && !link.opened ? await get("/realtime") : null,
      socket: link,
      stream: events,
      poll: longPoll,
      signedIn: this.#signedIn,
      pingSeconds: this.#pingSeconds,
      pingFactor: this.#pingFactor,
    };
  }

  async #measure() {
    const cancelling = new AbortController();
    this.#measuring = cancelling;
    $("idle-start").hidden = true;
    $("idle-cancel").hidden = $("idle-progress").hidden = false;
    $("idle-cancel").focus();
    $("idle-checks").replaceChildren();
    const ticking = this.#tick(duration(this.#pingSeconds));
    const seen = await measure({
      pingSeconds: this.#pingSeconds,
      signedIn: this.#signedIn,
      signal: cancelling.signal,
    });
    clearInterval(ticking);
    this.#idle = judgeIdle(seen, this.#pingSeconds, this.#pingFactor);
    this.#measuring = null;
    this.#showRows($("idle-checks"), this.#idle.rows);
    this.#showFindings(cancelling.signal.aborted ? "Stopped; this is what was seen so far." : "Measured.");
    const hadFocus = document.activeElement === $("idle-cancel");
    $("idle-start").hidden = false;
    $("idle-cancel").hidden = $("idle-progress").hidden = true;
    if (hadFocus) $("idle-start").focus();
  }

  #tick(total) {
    const begun = performance.now();
    const show = () => {
      const passed = Math.min(total, Math.round((performance.now() - begun) / 1000));
      $("idle-bar").value = passed / total;
      setText($("idle-left"), `${passed} of at most ${total} s`);
    };
    show();
    return setInterval(show, 1000);
  }

  #setRunning(running) {
    this.#running = running;
    $("again").setAttribute("aria-disabled", String(running));
    document.body.toggleAttribute("data-done", !running);
  }

  #showRows(list, rows) {
    list.replaceChildren(
      ...rows.map(({ name, state, text }) =>
        h(
          "li",
          { "data-state": state },
          h("span", { class: "state" }, STATES[state]),
          h("span", { class: "name" }, name),
          h("span", { class: "text" }, text),
        ),
      ),
    );
  }

  #showFindings(before = "") {
    const findings = this.#findings();
    const works = this.#tried.rows.some(({ name, state }) => name === "WebSocket" && state === "good");
    const nothing = works ? "Nothing to change: live updates get through." : "Nothing to change was found.";
    const words = findings.length ? `${count(findings.length, "thing")} to change.` : nothing;
    setText($("summary"), `${before} ${words}`.trim());
    $("summary").dataset.state = findings.length ? "bad" : "good";
    $("findings-section").hidden = !findings.length;
    $("findings").replaceChildren(...findings.map(({ element }) => element));
  }

  /** What was found, each with its words from the page's templates and an element that shows them. */
  #findings() {
    const codes = new Set(this.#tried.found.map(({ code }) => code));
    const found = [...this.#tried.found, ...this.#idle.found.filter(({ code }) => !codes.has(code))];
    return found.map(({ code, seen }) => {
      const content = $(`finding-${code}`).content.cloneNode(true);
      for (const element of content.querySelectorAll("p, pre")) setText(element, filled(element.textContent, seen));
      const text = (name) => content.querySelector(name)?.textContent ?? "";
      const words = { code, what: text(".what"), do: text(".do"), lines: text(".lines").split("\n").filter(Boolean) };
      for (const element of content.querySelectorAll("p")) element.replaceChildren(...withCode(element.textContent));
      content.querySelector(".lines")?.setAttribute("aria-label", "Lines to write");
      return { ...words, element: h("li", { id: code }, content, h("p", { class: "code" }, code)) };
    });
  }

  #showReached(body) {
    this.#reached = body ? facts(body) : [];
    $("reached-none").hidden = this.#reached.length > 0;
    $("reached").replaceChildren(...this.#reached.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  }

  async #copy() {
    const text = ticket({
      page: this.#page,
      at: new Date().toISOString(),
      rows: this.#tried.rows,
      idleRows: this.#idle.rows,
      findings: this.#findings(),
      reached: this.#reached,
    });
    $("ticket").value = text;
    $("ticket").hidden = false;
    try {
      await navigator.clipboard.writeText(text);
      setText($("copied"), "Copied.");
    } catch {
      // Pages without TLS have no clipboard.
      $("ticket").focus();
      $("ticket").select();
      setText($("copied"), "Press Ctrl+C or Cmd+C to copy.");
    }
  }
}

/** The answer of `/diagnostics` as pairs of words. */
function facts(body) {
  const headers = Object.entries({ ...body.forwarding_headers, ...body.upgrade_headers });
  return [
    ["Scheme", body.scheme],
    ["Host", body.host],
    ["Your address", body.remote_address],
    ["Connected from", `${body.peer_address} (${body.trusted_proxy ? "a trusted proxy" : "not a trusted proxy"})`],
    ["Protocol", body.http_version],
    ...headers.map(([name, value]) => [`Header ${name}`, value || "(empty)"]),
  ];
}

/** What stands between backticks as code; a ticket keeps the backticks. */
const withCode = (text) => text.split("`").map((part, place) => (place % 2 ? h("code", {}, part) : part));

const filled = (text, seen) => text.replace(/\{(\w+)\}/g, (place, name) => seen[name] ?? place);

new Diagnosis().start();
