// One entry of the bell's list: what happened, why the reader is told, and what can be done about it.

import { TYPES, addressOf, happening, reasonOf, stopsOf, textOf } from "./page-bell-words.js";
import { Keyed, ago, count, h, icon, setAttribute, setText, timeElement, when } from "./page-dom.js";

export class EntryRow {
  #page;
  #list;
  #entry = null;
  #drawn = null;
  #earlier;
  #stops;
  #parts;

  /** `list`: see `Panel`, which has the row ask for names of projects and tells what became of entries. */
  constructor(page, list) {
    this.#page = page;
    this.#list = list;
    const button = (act) => h("button", { type: "button", class: "quiet", click: act });
    const earlier = h("ol");
    const stops = h("span", { class: "stops" });
    this.#earlier = new Keyed(earlier, () => earlierRow(page));
    this.#stops = new Keyed(stops, () => stopButton(page, (act) => this.#try(act)));
    this.#parts = {
      kind: h("span", { class: "kind" }),
      what: h("span", { class: "happening" }),
      at: h("span", { class: "hint" }),
      name: h("a", { class: "name", click: (event) => this.#open(event) }),
      text: h("p", { class: "text" }),
      summary: h("summary"),
      lost: h("p", { class: "hint" }),
      why: h("p", { class: "hint" }),
      read: button(() => this.#patch({ read: !this.#entry.read_at })),
      archive: button(() => this.#patch({ archived: !this.#entry.archived_at })),
      problem: h("p", { class: "problem", role: "alert" }),
    };
    const { kind, what, at, name, text, summary, lost, why, read, archive, problem } = this.#parts;
    const details = h("details", { toggle: () => this.update(this.#entry) }, summary, earlier, lost);
    this.#parts.details = details;
    const acts = h("p", { class: "acts" }, read, archive, stops);
    const body = [h("p", { class: "line" }, what, " ", at), h("h3", {}, name), text, details, why, acts, problem];
    this.element = h("li", { class: "entry" }, kind, h("div", {}, ...body));
  }

  /** Takes the focus when one goes through the list: the link, or where nothing is linked the first button. */
  focus() {
    const { name, read, archive } = this.#parts;
    [name, read, archive].find((element) => element.tabIndex >= 0 && !element.hidden).focus();
  }

  update(entry) {
    this.#entry = entry;
    if (entry !== this.#drawn) this.#draw();
    const { what, at, why, details } = this.#parts;
    setText(what, happening(entry, (id) => this.#page.people.nameOf(id)));
    const time = `${ago(entry.updated_at)} · ${when(entry.updated_at)}`;
    if (at.textContent !== time) at.replaceChildren(timeElement(entry.updated_at, time));
    const project = this.#list.projectName(entry.subject.project_id);
    setText(why, [project && project !== entry.title && `In ${project}.`, reasonOf(entry)].filter(Boolean).join(" "));
    if (details.open) this.#earlier.update(entry.events.slice(1).map((event) => [event.id, event]));
    this.#stops.update(stopsOf(entry).map((stop) => [stop.subject, { ...stop, title: entry.title }]));
  }

  #draw() {
    const entry = (this.#drawn = this.#entry);
    const { kind, name, text, details, summary, lost, read, archive } = this.#parts;
    const { label, path } = TYPES[entry.type];
    if (kind.title !== label) {
      kind.title = label;
      kind.replaceChildren(icon(path));
    }
    setAttribute(this.element, "data-unread", !entry.read_at && !entry.archived_at);
    setText(name, entry.title);
    setAttribute(name, "href", addressOf(entry));
    const elsewhere = name.href !== "" && new URL(name.href).origin !== location.origin;
    setAttribute(name, "target", elsewhere ? "_blank" : null);
    setAttribute(name, "rel", elsewhere ? "noopener noreferrer" : null);
    setText(text, textOf(entry.type, entry.body));
    details.hidden = entry.event_count < 2;
    setText(summary, `and ${count(entry.event_count - 1, "earlier event")}`);
    setText(lost, entry.event_count > entry.events.length ? "Older ones are not kept." : "");
    setText(read, entry.read_at ? "Mark unread" : "Mark read");
    read.hidden = Boolean(entry.archived_at);
    setText(archive, entry.archived_at ? "Back to the inbox" : "Archive");
    for (const button of [read, archive]) setAttribute(button, "aria-label", `${button.textContent}: ${entry.title}`);
  }

  #open(event) {
    if (!this.#parts.name.href) return;
    if (!this.#entry.read_at) this.#patch({ read: true });
    const { target } = this.#parts.name;
    // Otherwise it opens beside this page, and the list stays.
    if (target || event.ctrlKey || event.metaKey || event.shiftKey) return;
    this.#list.leave();
  }

  #patch(body) {
    return this.#try(async () => {
      const path = `/notifications/${encodeURIComponent(this.#entry.id)}`;
      const answer = await this.#page.change("PATCH", path, { body }, this.#list.store);
      this.#list.changed(answer.body);
    });
  }

  async #try(act) {
    setText(this.#parts.problem, "");
    try {
      await act();
    } catch (error) {
      setText(this.#parts.problem, `Nothing was changed. ${error.message}`);
    }
  }
}

function earlierRow(page) {
  const who = h("b");
  const at = h("span", { class: "hint" });
  const text = h("p", { class: "text" });
  return {
    element: h("li", {}, who, " ", at, text),
    update(event) {
      setText(who, event.actor ? page.people.nameOf(event.actor) : "Somebody");
      if (at.textContent !== when(event.at)) at.replaceChildren(timeElement(event.at));
      setText(text, textOf(event.type, event.text));
    },
  };
}

function stopButton(page, attempt) {
  let stop = null;
  const muted = () => page.subscriptions.levelOf(stop.subject) === "mute";
  const choose = () => attempt(() => page.subscriptions.set(stop.subject, muted() ? null : "mute"));
  const element = h("button", { type: "button", class: "quiet", click: choose });
  return {
    element,
    update(value) {
      stop = value;
      setText(element, muted() ? `Unmute this ${stop.what}` : `Mute this ${stop.what}`);
      setAttribute(element, "aria-label", `${element.textContent}: ${stop.title}`);
    },
  };
}
