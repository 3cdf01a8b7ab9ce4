// Following and muting: what the user chose or was made to follow, and the buttons to change that.

import { BELL, BELL_OFF } from "./page-bell-words.js";
import { h, icon, setAttribute, setText } from "./page-dom.js";

const PAGE = 200;
// The server follows for those who write, some moments after they wrote.
const AUTOMATIC_AFTER_MS = 1500;

/** What this user follows and has muted. Nothing pushes it: it is read first, and again when it may have changed. */
export class Subscriptions {
  #request;
  #rows = new Map();
  #listeners = new Set();
  #reading = null;
  #timer = null;

  /** `request` is the page's. */
  constructor(request) {
    this.#request = request;
  }

  /** Whether it is known what there is. */
  loaded = false;

  /** "follow", "mute" or null. */
  levelOf(subject) {
    return this.#rows.get(subject)?.level ?? null;
  }

  /** Calls `listener()` when something changed; answers a function that stops that. */
  on(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Reads everything, or once that is done only what came last: lists begin with the newest. */
  async read() {
    this.#reading ??= this.#readPages().finally(() => (this.#reading = null));
    await this.#reading;
  }

  /** For after a comment of one's own. */
  readSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.read(), AUTOMATIC_AFTER_MS);
  }

  /** Follows or mutes; with null neither. Throws `ProblemError`. */
  async set(subject, level) {
    const path = `/subscriptions/${encodeURIComponent(subject)}`;
    if (level === null) {
      await this.#request("DELETE", path);
      this.#rows.delete(subject);
    } else {
      const { body } = await this.#request("PUT", path, { body: { level } });
      this.#rows.set(subject, body);
    }
    this.#tell();
  }

  close() {
    clearTimeout(this.#timer);
  }

  async #readPages() {
    let cursor;
    try {
      do {
        const query = new URLSearchParams({ limit: PAGE, ...(cursor && { cursor }) });
        const { body } = await this.#request("GET", `/subscriptions?${query}`);
        for (const row of body.items) this.#rows.set(row.subject, row);
        cursor = body.next_cursor;
      } while (cursor && !this.loaded);
    } catch {
      return; // The buttons stay away, or show what is known.
    }
    this.loaded = true;
    this.#tell();
  }

  #tell() {
    for (const listener of this.#listeners) listener();
  }
}

/** A button each for following and muting one subject. A second click on the same takes it back. */
export class FollowButtons {
  #page;
  #follow;
  #mute;
  #hint = h("span", { class: "hint" });
  #problem = h("span", { class: "problem", role: "alert" });
  #subject = null;

  /** `what` is followed: "project", "item" or "thread". `small`: pictures without words. */
  constructor(page, what, { small = false } = {}) {
    this.#page = page;
    this.#follow = this.#button("follow", `Follow this ${what}`, BELL, small ? null : "Follow");
    this.#mute = this.#button("mute", `Mute this ${what}`, BELL_OFF, small ? null : "Mute");
    const words = small ? [this.#problem] : [this.#hint, this.#problem];
    this.element = h("div", { class: "follow", "data-small": small }, this.#follow, this.#mute, ...words);
  }

  /** `subject` as the API spells it, null for none; `project`, where it is another one, is what contains it. */
  show(subject, project = null) {
    if (subject !== this.#subject) setText(this.#problem, "");
    this.#subject = subject;
    const { subscriptions } = this.#page;
    const level = subject && subscriptions.levelOf(subject);
    setAttribute(this.element, "hidden", !subject || !subscriptions.loaded);
    setAttribute(this.#follow, "aria-pressed", String(level === "follow"));
    setAttribute(this.#mute, "aria-pressed", String(level === "mute"));
    // Otherwise a follow that brings nothing would seem broken.
    const inherited = project && subscriptions.levelOf(project) === "mute" && level !== "mute";
    const muted = inherited ? "Muted with the project." : level === "mute" ? "Muted." : "";
    setText(this.#hint, muted && `${muted} You still hear of mentions and of what is assigned to you.`);
  }

  #button(level, label, path, word) {
    const looks = { type: "button", class: "quiet", "aria-label": label, title: label };
    return h("button", { ...looks, click: () => this.#choose(level) }, icon(path), word);
  }

  async #choose(level) {
    const { subscriptions } = this.#page;
    setText(this.#problem, "");
    try {
      await subscriptions.set(this.#subject, subscriptions.levelOf(this.#subject) === level ? null : level);
    } catch (error) {
      setText(this.#problem, `Nothing was changed. ${error.message}`);
    }
  }
}
