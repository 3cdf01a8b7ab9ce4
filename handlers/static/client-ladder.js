// Which way to live updates to take: WebSocket, then Server-Sent Events, then polling. Pure: no network, no timers.

/** The rungs, best first, as `GET /config` names them. */
export const RUNGS = ["websocket", "sse", "poll"];

const FIRST_CLIMB_MS = 60_000;
const CAP_MS = 15 * 60_000;
// Networks change: what did not get through yesterday may today, and the first try costs seconds only.
const REMEMBERED_MS = 24 * 3600_000;

/** Where one client stands, why not higher, and when it is worth looking whether that has changed. */
export class Ladder {
  #memory;
  #offered = [];
  #climbs = 0;

  /** `memory`: `{read(), write(value)}`, for the rung that worked last time, or did not. */
  constructor(memory) {
    this.#memory = memory;
    /** The rung to take; null until an offer came, and where nothing is offered. */
    this.rung = null;
    /** Why it is not the best one: `{code, detail}`, or null. */
    this.why = null;
  }

  /** What the server offers. Answers whether the rung is another one now. */
  offer(transports, switchedOff) {
    const before = this.rung;
    const first = before === null && this.#offered.length === 0;
    this.#offered = RUNGS.filter((rung) => transports.includes(rung));
    const remembered = first ? this.#recall() : null;
    if (remembered) {
      this.rung = remembered.rung;
      this.why = remembered.why;
    } else if (!this.#offered.includes(this.rung)) {
      // Whoever stood on a lower rung for a reason does not begin at the top again.
      const from = Math.max(0, RUNGS.indexOf(this.rung));
      this.rung = this.#offered.find((rung) => RUNGS.indexOf(rung) >= from) ?? this.#offered.at(-1) ?? null;
    }
    if (this.rung === RUNGS[0]) this.why = null;
    else if (!this.#offered.includes(RUNGS[0])) this.why = switchedOff;
    return this.rung !== before;
  }

  /** Whether there is a rung below this one. */
  get canFall() {
    return this.#lower() !== undefined;
  }

  /** The rungs that are worth a try from here, best first. */
  get higher() {
    return this.#offered.slice(0, this.#offered.indexOf(this.rung));
  }

  /** This rung does not hold: takes the next one. Answers false where there is none. */
  fall(why) {
    const lower = this.#lower();
    if (lower === undefined) return false;
    this.rung = lower;
    this.why = why;
    return true;
  }

  /** This rung holds. */
  holds() {
    if (this.rung === RUNGS[0]) this.#climbs = 0;
    // What an operator switched off says nothing about the network.
    const passing = this.why?.code === "websockets_disabled";
    this.#memory.write(this.rung === RUNGS[0] || passing ? null : { rung: this.rung, why: this.why, at: Date.now() });
  }

  /** A higher rung holds. */
  climbTo(rung) {
    this.rung = rung;
    this.#climbs = 0;
    if (rung === RUNGS[0]) this.why = null;
    this.holds();
  }

  /** Milliseconds until the next look at what is above; twice as long each time that nothing was. */
  nextClimb() {
    const wait = Math.min(CAP_MS, FIRST_CLIMB_MS * 2 ** this.#climbs);
    this.#climbs = Math.min(this.#climbs + 1, 8);
    // Spread, because many were thrown off at the same moment.
    return wait * (0.75 + Math.random() / 2);
  }

  #lower() {
    return this.#offered[this.#offered.indexOf(this.rung) + 1];
  }

  #recall() {
    const remembered = this.#memory.read();
    const age = Date.now() - remembered?.at;
    return this.#offered.includes(remembered?.rung) && age >= 0 && age < REMEMBERED_MS ? remembered : null;
  }
}

/** A memory that outlives the page. Where the browser keeps nothing for us, it forgets. */
export function lastingMemory(origin) {
  const key = `copydesk transport ${origin}`;
  return {
    read() {
      try {
        return JSON.parse(localStorage.getItem(key));
      } catch {
        return null;
      }
    },
    write(value) {
      try {
        if (value === null) localStorage.removeItem(key);
        else localStorage.setItem(key, JSON.stringify(value));
      } catch {
        // Then the next page finds out for itself.
      }
    },
  };
}
