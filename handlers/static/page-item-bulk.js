// What is done to all selected items at once: with its progress, and a result for each of them.

import { count, h, setAttribute, setText } from "./page-dom.js";
import { FOR_PUBLISHERS, STATUSES, statusOptions } from "./page-item-words.js";

// So many in one call, that one sees it going on.
const AT_ONCE = 50;
// A browser opens six connections to one server, and others want some too.
const SIDE_BY_SIDE = 4;

export class BulkBar {
  #page;
  #view;
  #table;
  // `{verb, ids, done, failed, stopped}` while it runs, and its result until the next selection.
  #job = null;
  #running = false;
  // Does the same once more to what failed.
  #again = null;
  #asking = false;
  #parts;

  constructor(page, view, table) {
    this.#page = page;
    this.#view = view;
    this.#table = table;
    const button = (words, click, looks = "quiet") => h("button", { type: "button", class: looks, click }, words);
    this.#parts = {
      selected: h("p", { class: "selected", role: "status" }),
      status: h(
        "select",
        { "aria-label": "Status for all selected items", change: () => this.show() },
        h("option", { value: "" }, "Choose a status"),
        ...statusOptions(h),
      ),
      set: button("Set", () => this.#setStatus(), ""),
      remove: button("Remove", () => this.askToRemove()),
      clear: button("Clear selection", () => this.#clear()),
      question: h("p"),
      yes: button("Remove", () => this.#remove(), ""),
      no: button("Keep", () => this.#keep()),
      bar: h("progress", { "aria-label": "Done so far", max: 1 }),
      result: h("p", { class: "result", role: "status" }),
      stop: button("Stop", () => this.stop()),
      retry: button("Retry", () => this.#again(), ""),
      close: button("Close", () => this.#clear()),
    };
    const { selected, status, set, remove, clear, question, yes, no, bar, result, stop, retry, close } = this.#parts;
    this.#parts.choices = h("div", { class: "buttons" }, selected, status, set, remove, clear);
    this.#parts.asked = h("div", { class: "buttons", role: "group", "aria-label": "Remove items" }, question, yes, no);
    this.#parts.outcome = h("div", { class: "buttons" }, bar, result, stop, retry, close);
    const { choices, asked, outcome } = this.#parts;
    this.element = h(
      "div",
      { class: "bulk", role: "region", "aria-label": "Selected items", keydown: (event) => this.#pressed(event) },
      choices,
      asked,
      outcome,
    );
    this.show();
  }

  /** Somebody works on another selection: the last result is old news. */
  selectionChanged() {
    this.#asking = false;
    if (this.#running || !this.#job) return;
    for (const id of this.#job.failed.keys()) if (!this.#table.selection.has(id)) this.#table.note(id, null);
    this.#job = null;
  }

  show() {
    const { selection } = this.#table;
    const { selected, status, set, choices, asked, outcome, question, yes } = this.#parts;
    const had = this.element.contains(document.activeElement);
    const size = selection.size;
    const hidden = size && size - this.#table.shownIds.filter((id) => selection.has(id)).length;
    setText(selected, `${size} selected${hidden ? `, ${hidden} of them not shown` : ""}`);
    for (const option of status.options) {
      option.disabled = option.value === "" || (FOR_PUBLISHERS.has(option.value) && !this.#table.may("publish"));
    }
    setAttribute(set, "aria-disabled", status.value ? null : "true");
    setText(question, `Take ${count(size, "item")} out of this project? The content stays in the CMS.`);
    setText(yes, `Remove ${count(size, "item")}`);
    setAttribute(choices, "hidden", this.#running || this.#asking || !size);
    setAttribute(asked, "hidden", !this.#asking || this.#running);
    setAttribute(outcome, "hidden", !this.#job);
    setAttribute(this.element, "hidden", !size && !this.#job);
    this.#showJob();
    if (had && !document.activeElement?.checkVisibility()) this.#focusFirst();
  }

  askToRemove() {
    if (this.#running || !this.#table.selection.size) return;
    this.#asking = true;
    this.show();
    // Not "Remove": a second stroke of the same key must not be the answer.
    this.#parts.no.focus();
  }

  /** Lets what has begun come to its end, and begins no more. */
  stop() {
    if (this.#job) this.#job.stopped = true;
  }

  #showJob() {
    const { bar, result, stop, retry, close } = this.#parts;
    if (!this.#job) return;
    const { verb, ids, done, failed, stopped } = this.#job;
    const over = done + failed.size;
    const parts = [this.#running ? `${over} of ${ids.length} ${verb}` : `${count(done, "item")} ${verb}`];
    if (failed.size) parts.push(`${failed.size} failed and ${failed.size === 1 ? "is" : "are"} still selected`);
    if (stopped && over < ids.length) parts.push(`stopped before the other ${ids.length - over}`);
    setText(result, `${parts.join(", ")}.`);
    bar.max = ids.length;
    bar.value = over;
    bar.hidden = !this.#running;
    stop.hidden = !this.#running;
    retry.hidden = this.#running || !failed.size;
    setText(retry, `Retry ${count(failed.size, "item")}`);
    close.hidden = this.#running || this.#table.selection.size > 0;
  }

  #pressed(event) {
    if (event.key !== "Escape" || this.#running) return;
    event.preventDefault();
    if (this.#asking) this.#keep();
    else this.#clear();
  }

  #keep() {
    this.#asking = false;
    this.show();
    this.#parts.remove.focus();
  }

  #clear() {
    this.#table.selection.clear();
    this.#table.selected();
    this.#table.goTo(this.#table.current);
  }

  #focusFirst() {
    const first = [...this.element.querySelectorAll("button, select")].find((element) => element.checkVisibility());
    if (first) first.focus();
    else this.#table.goTo(this.#table.current);
  }

  #setStatus() {
    const status = this.#parts.status.value;
    if (!status || this.#running) return;
    const act = async (ids) => {
      const { body } = await this.#page.request("POST", `${this.#path}/items/status`, { body: { ids, status } });
      return body.results;
    };
    this.#run({ verb: `set to ${STATUSES[status].toLowerCase()}`, ids: this.#table.selection.ids, act, size: AT_ONCE });
  }

  #remove() {
    this.#asking = false;
    const act = (ids) => Promise.all(ids.map((id) => this.#removeOne(id)));
    this.#run({ verb: "removed", ids: this.#table.selection.ids, act, size: SIDE_BY_SIDE });
  }

  async #removeOne(id) {
    try {
      await this.#page.request("DELETE", `${this.#path}/items/${encodeURIComponent(id)}`);
    } catch (error) {
      // Somebody was quicker: it is as it was meant to be.
      if (error.status !== 404) return { id, error: { detail: error.message } };
    }
    return { id, gone: true };
  }

  /** `act(ids)` answers a promise of one result for each: `{id, item?, gone?, error?}`. */
  async #run({ verb, ids, act, size }) {
    const job = (this.#job = { verb, ids, done: 0, failed: new Map(), stopped: false });
    this.#running = true;
    for (const id of ids) this.#table.note(id, { progress: "Waiting" });
    this.#table.show();
    for (let at = 0; at < ids.length && !job.stopped; at += size) {
      const some = ids.slice(at, at + size);
      for (const id of some) this.#table.note(id, { progress: "Saving" });
      this.#takeResults(job, await this.#attempt(act, some));
      this.#table.show();
    }
    this.#running = false;
    for (const id of ids) if (!job.failed.has(id)) this.#table.note(id, null);
    this.#again = () => this.#run({ verb, ids: [...job.failed.keys()], act, size });
    this.#parts.status.value = "";
    if (this.#view.store.state !== "live") await this.#page.client?.refresh().catch(() => {});
    this.#table.show();
  }

  /** A call that fails as a whole has failed for each. */
  async #attempt(act, ids) {
    try {
      return await act(ids);
    } catch (error) {
      return ids.map((id) => ({ id, error: { detail: error.message } }));
    }
  }

  #takeResults(job, results) {
    const { selection } = this.#table;
    for (const { id, item, gone, error } of results) {
      if (error) {
        job.failed.set(id, error.detail);
        this.#table.note(id, { problem: error.detail });
        selection.add([id]);
        continue;
      }
      job.done += 1;
      this.#table.note(id, null);
      selection.remove([id]);
      if (gone) this.#table.forget(id);
      else if (item) this.#table.took(item);
    }
  }

  get #path() {
    return `/projects/${encodeURIComponent(this.#view.projectId)}`;
  }
}
