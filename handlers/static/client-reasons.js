// What is said to people about a connection that is not what it could be, each with a code for programs. Pure.

const reason = (code, detail) => Object.freeze({ code, detail });

export const SWITCHED_OFF = reason("websockets_disabled", "Live updates are switched off on this server.");
export const SOCKETS_OFF = reason("websockets_disabled", "WebSockets are switched off on this server.");
export const LOST = reason("lost", "The live connection was lost.");
export const NOT_OPENED = reason("unreachable", "The live connection could not be opened.");
export const BLOCKED = reason("handshake_failed", "The server answers, but live connections to it do not open.");
export const CLOSED_HERE = reason("closed", "This client was closed.");
export const DATABASE_AWAY = reason("stale", "The server does not hear from its database.");

const DRAIN = reason("drain", "The server is restarting.");

export const BY_CLOSE_CODE = {
  4000: DRAIN,
  4101: reason("token_expired", "The sign-in has expired."),
  4401: reason("unauthenticated", "Sign in again."),
  4403: reason("forbidden", "Live updates are not allowed for this user."),
  4406: reason("protocol", "This page does not speak the server's language. Load it again."),
  4409: SWITCHED_OFF,
};

// Why a rung does not hold.

const TIMED_OUT = reason("timed_out", "The WebSocket was never answered. Something in between swallows it.");
const SOCKET_CUT = reason("cut", "WebSockets open, and are cut off again at once.");
const HELD_BACK = reason("held_back", "Something in between keeps events back: a proxy that buffers.");
const STREAM_CUT = reason("cut", "Event streams are cut off again and again, by a proxy with a short patience.");

/** Why sockets do not open; `seen` is what a plain request to their address is answered with. A browser says nothing. */
export function whyNoSocket({ silent, opened, seen }) {
  if (silent) return TIMED_OUT;
  if (opened) return SOCKET_CUT;
  if (seen.status === 0) return reason("refused", "Requests for a WebSocket are refused before they reach the server.");
  if (seen.status === 426 || seen.status < 400) {
    return reason(
      "upgrade_dropped",
      `A proxy drops the upgrade to a WebSocket: the address answers ${seen.status} as if nobody had asked for one.`,
    );
  }
  return reason("refused", `WebSockets are refused: the address answers ${seen.status}${seen.code ? `, ${seen.code}` : ""}.`);
}

/** Why event streams do not get through. */
export function whyNoStream({ problem, held, ready }) {
  if (held) return HELD_BACK;
  if (ready || !problem) return STREAM_CUT;
  return reason("refused", `Event streams do not open: ${problem.message}`);
}

/** What is wrong for now, from the error of a call. */
export function reasonOf(error) {
  return { code: error.code ?? "unreachable", detail: error.detail ?? error.message };
}
