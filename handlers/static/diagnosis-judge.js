// What the tries mean: a row for each, and the findings by their codes. Pure; the words of findings are in the page.

const POLL_CUT = "(504)";

/** `facts`: what the probes saw, and `{origin, host, scheme}` of this page. Answers `{rows, found}`. */
export function judge(facts) {
  const rows = [];
  const found = [];
  const row = (name, state, text) => rows.push({ name, state, text });
  const find = (code, seen = {}) => {
    if (!found.some((other) => other.code === code)) found.push({ code, seen });
  };
  judgeRest(facts, row, find);
  if (facts.reached?.body) judgeReached(facts, row, find);
  judgeSocket(facts, row, find);
  judgeStream(facts, row, find);
  judgePoll(facts, row, find);
  return { rows, found };
}

/** The same for what `measure` answered. */
export function judgeIdle({ socket, stream, poll }, pingSeconds, pingFactor) {
  const rows = [];
  const found = [];
  const timeout = String(Math.max(90, Math.ceil(pingSeconds * pingFactor)));
  for (const [name, words, seen] of [
    ["WebSocket", "WebSocket", socket],
    ["Event stream", "event stream", stream],
    ["Long poll", "long poll", poll],
  ]) {
    if (!seen) rows.push({ name, state: "skipped", text: "Not measured." });
    else if (!seen.cut) rows.push({ name, state: "good", text: survived(seen) });
    else {
      rows.push({ name, state: "bad", text: `Cut after ${seen.silence} s without a word.` });
      const values = { transport: words, seconds: String(seen.silence), ping: String(pingSeconds), timeout };
      if (name === "Long poll") found.push({ code: "poll_cut", seen: { ...values, wait: String(seen.wait) } });
      else if (!found.length) found.push({ code: "idle_cut", seen: values });
    }
  }
  return { rows, found };
}

function survived({ silence, code, wait }) {
  if (wait) return `Waited ${silence} s, and was answered.`;
  if (code === 4401) return `Lived through ${silence} s of silence, until the server asked who it was.`;
  if (code) return `Ended by the server (${code}); longest silence ${silence} s.`;
  return `Lived through ${silence} s of silence.`;
}

function judgeRest({ page, rest }, row, find) {
  if (rest.error) {
    row("REST", "bad", `${sentence(rest.error)} after ${rest.ms} ms.`);
    find("unreachable", { address: page.origin, detail: rest.error });
  } else if (rest.status === 200 && rest.body?.version) {
    row("REST", "good", `Copydesk ${rest.body.version} answered after ${rest.ms} ms.`);
    if (rest.redirected) find("redirected", { status: "a redirect", location: rest.redirected });
  } else {
    row("REST", "bad", refusal(rest));
    judgeRefusal(page, rest, find);
  }
}

function judgeRefusal(page, { status, body, type }, find) {
  const detail = body?.detail ?? "";
  if (status === 404 && detail.includes("COPYDESK_ALLOWED_HOSTS")) {
    const arrived = /host name '([^']*)'/.exec(detail)?.[1] ?? "another name";
    if (arrived === page.name) find("host_not_allowed", { host: page.host, name: page.name });
    else find("host_replaced", { sent: page.host, arrived });
  } else if (status === 421) find("name_unknown", { host: page.host, name: page.name });
  else if (status === 502 || status === 504 || detail.includes("(502)")) {
    find("proxy_finds_nothing", { status: String(status) });
  } else if (status === 503 && body?.code) find("not_ready", { detail });
  else find("not_copydesk", { address: page.origin, status: String(status), type: type ?? "" });
}

function judgeReached({ page, reached }, row, find) {
  const seen = reached.body;
  const before = [];
  const note = (code, values) => {
    before.push(code);
    find(code, values);
  };
  const headers = seen.forwarding_headers;
  // Copydesk names no server in its answers. Without this, a browser on the proxy's own machine would pass for it.
  const proxied = seen.trusted_proxy && (Object.keys(headers).length > 0 || reached.server !== null);
  if (seen.host !== page.host) note("host_replaced", { sent: page.host, arrived: seen.host });
  if (!seen.trusted_proxy && Object.keys(headers).length) note("proxy_untrusted", { peer: seen.peer_address });
  if (proxied && !("X-Forwarded-For" in headers)) note("forwarded_for_missing");
  if (proxied && !("X-Forwarded-Proto" in headers)) note("forwarded_proto_missing");
  else if (proxied && seen.scheme !== page.scheme) {
    note("forwarded_proto_wrong", { sent: page.scheme, arrived: seen.scheme });
  }
  const way = proxied ? `through the proxy ${seen.peer_address}` : "without a trusted proxy";
  row("Headers", before.length ? "bad" : "good", `${seen.scheme}, host ${seen.host}, ${seen.http_version}, ${way}.`);
}

function judgeSocket({ rest, reached, socket, plain, transports, page }, row, find) {
  if (!transports) return row("WebSocket", "skipped", "The server was not reached.");
  if (!transports.includes("websocket")) {
    find(transports.length ? "websockets_off" : "updates_off");
    return row("WebSocket", "off", "Switched off on this server.");
  }
  if (socket.answered) {
    const who = socket.hello ? "said hello" : "passes messages both ways";
    return row("WebSocket", "good", `Opened after ${socket.ms} ms and ${who}.`);
  }
  if (socket.opened) {
    row("WebSocket", "bad", "Opened, and nothing came back on it.");
    return find("socket_silent");
  }
  row("WebSocket", "bad", "Did not open.");
  if (reached?.body?.http_version === "HTTP/1.0") return find("old_http");
  // Refused because of this; once it is put right, there may be more to find.
  if (reached?.body && reached.body.host !== page.host) return undefined;
  if (plain.status === 426 && plain.body?.code === "upgrade_required" && rest.status === 200) {
    return find("upgrade_dropped", { missing: "Upgrade: websocket or Connection: Upgrade" });
  }
  return find("handshake_failed");
}

function judgeStream({ stream, transports, signedIn }, row, find) {
  const name = "Event stream";
  if (!transports) return row(name, "skipped", "The server was not reached.");
  if (!signedIn) return row(name, "skipped", "It needs a sign-in.");
  if (stream.liveMs !== null) return row(name, "good", `First bytes after ${stream.byteMs} ms, live after ${stream.liveMs} ms.`);
  if (stream.status !== null && stream.status !== 200) {
    row(name, "bad", refusal(stream));
    return find("stream_refused", { status: String(stream.status), detail: stream.body?.detail ?? "" });
  }
  if (stream.byteMs !== null) {
    row(name, "bad", "Ended before it was live.");
    return find("stream_ended");
  }
  // Copydesk sends the first bytes at once, so that somebody else kept them.
  const seconds = (stream.ms / 1000).toFixed(1);
  row(name, "bad", `Nothing came out of it within ${seconds} s.`);
  return find("stream_buffered", { seconds });
}

function judgePoll({ poll, transports, signedIn, pingSeconds, pingFactor }, row, find) {
  const name = "Long poll";
  if (!transports) return row(name, "skipped", "The server was not reached.");
  if (!signedIn) return row(name, "skipped", "It needs a sign-in.");
  if (poll.status === 200) return row(name, "good", `Waited ${(poll.ms / 1000).toFixed(1)} s, as it should.`);
  const cut = poll.wait && (poll.error || poll.status === 504 || poll.body?.detail?.includes(POLL_CUT));
  if (cut) {
    const timeout = String(Math.max(90, Math.ceil(pingSeconds * pingFactor)));
    row(name, "bad", `Cut after ${(poll.ms / 1000).toFixed(1)} s.`);
    return find("poll_cut", { wait: String(poll.wait), seconds: (poll.ms / 1000).toFixed(1), timeout });
  }
  row(name, "bad", poll.error ? `${sentence(poll.error)}.` : refusal(poll));
  return find("poll_refused", { status: String(poll.status ?? "no answer"), detail: poll.body?.detail ?? "" });
}

const refusal = ({ status, body, type }) =>
  body?.code ? `${status} ${body.code}: ${body.detail}` : `${status}, ${type ?? "not an answer of Copydesk"}.`;

const sentence = (text) => text[0].toUpperCase() + text.slice(1);
