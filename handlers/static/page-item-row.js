// One row of a project's items: what it is, where it stands, who changed it last, and how much is said about it.

import { count, h, icon, setAttribute, setText, timeElement, webAddress } from "./page-dom.js";
import { FOR_PUBLISHERS, STATUSES, statusOptions } from "./page-item-words.js";

const PENCIL = "M4 20h4L19 9l-4-4L4 16v4zM13.5 6.5l4 4";
const OUT = "M14 4h6v6M20 4l-9 9M18 14v6H4V6h6";

export class ItemRow {
  #table;
  #id;
  #item = null;
  #shown = "";
  #parts;
  #editor = undefined;

  /** `table` is an `ItemsTable`: it says how an item looks at the moment, and does what is chosen here. */
  constructor(table, id) {
    this.#table = table;
    this.#id = id;
    const href = `#/projects/${encodeURIComponent(table.projectId)}/items/${encodeURIComponent(id)}`;
    this.#parts = {
      check: h("input", { type: "checkbox", click: (event) => table.check(id, event) }),
      picture: h("img", { class: "picture", alt: "", loading: "lazy", referrerpolicy: "no-referrer", hidden: true }),
      name: h("a", { class: "name", href }),
      facts: h("p", { class: "hint facts" }),
      problem: h("p", { class: "problem", role: "alert" }),
      select: h("select", { change: () => table.setStatus(this.#item, this.#parts.select.value) }, ...statusOptions(h)),
      badge: h("span", { class: "status" }),
      progress: h("span", { class: "hint" }),
      changed: h("p", { class: "hint changed" }),
      talk: h("a", { class: "talk", href }),
      openThreads: h("b"),
      comments: h("span"),
      edit: h("button", { type: "button", class: "quiet small", click: () => table.edit(id) }, icon(PENCIL)),
      open: h("a", { class: "open", target: "_blank", rel: "noopener noreferrer" }, icon(OUT)),
      editing: h("div", { class: "editing", role: "gridcell", hidden: true }),
    };
    const { check, picture, name, facts, problem, select, badge, progress, changed, talk, openThreads, comments } = this.#parts;
    const { edit, open, editing } = this.#parts;
    picture.addEventListener("error", () => (picture.hidden = true));
    talk.append(openThreads, " ", comments);
    const cell = (looks, ...content) => h("div", { class: `cell ${looks}`, role: "gridcell" }, ...content);
    this.element = h(
      "div",
      { class: "item", role: "row", tabindex: "-1", "data-key": id },
      cell("check", check),
      cell("what", picture, h("div", {}, h("h3", {}, name), facts, problem)),
      cell("state", select, badge, progress),
      cell("when", changed),
      cell("said", talk),
      cell("tools", open, edit),
      editing,
    );
  }

  /** `place` counts the items that are shown, from 1. */
  update({ item, place }) {
    const look = this.#table.look(item);
    const { talk } = look;
    // Rows are asked to show themselves at every scrolling; most have nothing new to show.
    const shown = `${place} ${JSON.stringify(look)}`;
    if (shown === this.#shown && item === this.#item && look.editor === this.#editor) return;
    this.#shown = shown;
    this.#item = item;
    this.#showItem(look);
    this.#showStatus(look);
    this.#showChange(look);
    this.#showTalk(talk);
    this.#showEditor(look);
    this.#showUse(place, look);
  }

  #showItem({ problem, assigned }) {
    const { name, facts, open, edit, check, picture } = this.#parts;
    const item = this.#item;
    const { publish_at: date } = item;
    const address = webAddress(item.url);
    setText(name, item.name);
    setAttribute(name, "title", item.name);
    const words = [item.type, item.language, item.path, assigned && `for ${assigned}`].filter(Boolean);
    facts.replaceChildren(words.join(" · "), ...(date ? [" · goes out ", timeElement(date)] : []));
    setAttribute(open, "href", address);
    setAttribute(open, "hidden", !address);
    setAttribute(open, "aria-label", address && `Open ${item.name} in the CMS`);
    setAttribute(open, "title", address && "Open in the CMS");
    setAttribute(edit, "aria-label", `Edit ${item.name}`);
    setAttribute(edit, "title", "Edit (F2)");
    setAttribute(check, "aria-label", `Select ${item.name}`);
    setText(this.#parts.problem, problem ?? "");
    showPicture(picture, item.thumbnail_url);
  }

  #showStatus({ chosen, may, progress }) {
    const { select, badge } = this.#parts;
    const status = chosen ?? this.#item.status;
    setAttribute(select, "hidden", !may.edit);
    setAttribute(badge, "hidden", may.edit);
    setText(badge, STATUSES[status]);
    setAttribute(badge, "data-status", status);
    setAttribute(select, "data-status", status);
    setAttribute(select, "aria-label", `Status of ${this.#item.name}`);
    for (const option of select.options) {
      option.disabled = FOR_PUBLISHERS.has(option.value) && option.value !== status && !may.publish;
    }
    if (select.value !== status) select.value = status;
    setText(this.#parts.progress, progress ?? "");
  }

  #showChange({ changes, who }) {
    const { changed } = this.#parts;
    const { changed_at: at } = this.#item;
    const what = changes ? h("span", { class: "what-changed" }, changes) : null;
    const parts = [at && timeElement(at), " ", who && h("b", {}, who), " ", what];
    changed.replaceChildren(...parts.filter(Boolean));
  }

  #showTalk({ comments, open }) {
    const { talk, openThreads, comments: element } = this.#parts;
    const words = comments ? count(comments, "comment") : "No comments";
    setText(element, words);
    setText(openThreads, open ? `${open} open` : "");
    setAttribute(talk, "data-open", open > 0);
    setAttribute(talk, "aria-label", `${open ? `${open} open, ` : ""}${words} on ${this.#item.name}`);
  }

  #showEditor({ editor }) {
    const { editing } = this.#parts;
    this.#editor = editor;
    setAttribute(editing, "hidden", !editor);
    if (!editor) editing.replaceChildren();
    else if (editing.firstElementChild !== editor.element) editing.replaceChildren(editor.element);
  }

  /** What of it concerns the one who works here: selected, current, open beside the list, changed by somebody else. */
  #showUse(place, { may, talk, who, selected, current, open, fresh, chosen, changes }) {
    const { check, name, edit } = this.#parts;
    const { element } = this;
    const { name: title, status } = this.#item;
    setAttribute(element, "aria-rowindex", place + 1);
    setAttribute(element, "aria-selected", may.edit ? String(selected) : null);
    setAttribute(element, "data-chosen", open);
    setAttribute(element, "data-fresh", fresh);
    const news = fresh && who ? `, ${who} changed ${changes || "it"}` : "";
    const said = talk.comments ? `, ${count(talk.comments, "comment")}` : "";
    setAttribute(element, "aria-label", `${title}, ${STATUSES[chosen ?? status]}${said}${news}`);
    setAttribute(name, "aria-current", open ? "true" : null);
    check.checked = selected;
    setAttribute(check.parentElement, "hidden", !may.edit);
    setAttribute(edit, "hidden", !may.edit);
    // One row at a time is in the order of the Tab key; the arrow keys go from row to row.
    setAttribute(element, "tabindex", current ? 0 : -1);
    for (const part of ["check", "name", "select", "talk", "edit", "open"]) {
      setAttribute(this.#parts[part], "tabindex", current ? null : -1);
    }
  }
}

/** What stands above the items of one status. */
export class GroupRow {
  #parts;

  constructor(table, group) {
    this.#parts = { button: h("button", { type: "button", class: "fold", click: () => table.fold(group) }), size: h("span") };
    const { button, size } = this.#parts;
    button.append(h("span", { class: "status", "data-status": group }, STATUSES[group]), " ", size);
    const heading = h("div", { role: "gridcell" }, button);
    this.element = h("div", { class: "group", role: "row", "data-key": `group ${group}` }, heading);
  }

  update({ size, open, current }) {
    const { button, size: element } = this.#parts;
    setText(element, String(size));
    setAttribute(button, "aria-expanded", String(open));
    setAttribute(button, "tabindex", current ? 0 : -1);
  }
}

/** Only what the content security policy lets through, so that no error is logged for the rest. */
function showPicture(picture, address) {
  const url = webAddress(address);
  const allowed = url && (url.startsWith("https:") || new URL(url).origin === location.origin);
  if (!allowed) picture.hidden = true;
  else if (picture.src !== url) {
    picture.src = url;
    picture.hidden = false;
  }
}
