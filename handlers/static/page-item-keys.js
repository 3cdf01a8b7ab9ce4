// Mouse and keyboard on the rows of items: moving about, selecting one, some, a range or all.

const CONTROLS = "button, input, select, textarea, label, .editing";

export class ItemKeys {
  #table;
  #grid;
  #off;

  constructor(table, grid) {
    this.#table = table;
    this.#grid = grid;
    grid.addEventListener("click", (event) => this.#clicked(event));
    grid.addEventListener("keydown", (event) => this.#pressed(event));
    grid.addEventListener("focusin", (event) => this.#entered(event));
    // What was held for the one who was here may take its place now.
    grid.addEventListener("focusout", () => table.showSoon());
    grid.addEventListener("mousedown", (event) => {
      // Else the browser would select the text between the two clicks.
      if (event.shiftKey && rowOf(event.target) && !event.target.closest(".editing")) event.preventDefault();
    });
    const everywhere = (event) => {
      if (document.activeElement === document.body) this.#forAll(event);
    };
    document.addEventListener("keydown", everywhere);
    this.#off = () => document.removeEventListener("keydown", everywhere);
  }

  close() {
    this.#off();
  }

  /** Key of the row that has the focus or contains it, or null. */
  get focused() {
    return this.#grid.contains(document.activeElement) ? (rowOf(document.activeElement)?.dataset.key ?? null) : null;
  }

  #entered({ target }) {
    const key = rowOf(target)?.dataset.key;
    if (!key || key === this.#table.current) return;
    this.#table.turnTo(key);
    this.#table.showSoon();
  }

  #clicked(event) {
    const { target, shiftKey } = event;
    const row = target.closest(".item");
    const beside = event.ctrlKey || event.metaKey;
    if (!row || target.closest(CONTROLS)) return;
    const link = target.closest("a");
    if (link && !(link.matches(".name") && (shiftKey || beside))) return;
    // A click that ends the marking of text is none on the row.
    if (!shiftKey && !beside && !getSelection().isCollapsed) return;
    event.preventDefault();
    const { selection } = this.#table;
    const id = row.dataset.key;
    if (this.#table.may("edit")) {
      if (shiftKey) selection.extend(id, this.#table.shownIds, { add: beside });
      else if (beside) selection.toggle(id);
      else selection.only(id);
    }
    this.#table.goTo(id);
    this.#table.selected(id);
  }

  #pressed(event) {
    const { target, key } = event;
    const row = rowOf(target);
    if (target.closest(".editing")) return;
    if (this.#forAll(event) || !row) return;
    // A list of statuses has its own use for arrows and letters.
    if (target.matches("select")) return;
    const step = this.#steps()[key];
    if (step !== undefined) {
      event.preventDefault();
      this.#move(row.dataset.key, step, event.shiftKey);
    } else if (row.matches(".group")) this.#pressedInGroup(event, row);
    else this.#pressedInItem(event, row);
  }

  #steps() {
    const { pageOfRows } = this.#table;
    return {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: pageOfRows,
      PageUp: -pageOfRows,
      Home: -Infinity,
      End: Infinity,
    };
  }

  #move(key, step, extending) {
    const { rows, selection } = this.#table;
    const from = rows.findIndex((row) => row.key === key);
    const to = rows[Math.min(rows.length - 1, Math.max(0, from + step))];
    if (extending && to.item && this.#table.may("edit")) {
      if (!selection.size && rows[from].item) selection.only(key);
      selection.extend(to.key, this.#table.shownIds);
      this.#table.selected();
    }
    this.#table.goTo(to.key);
  }

  #pressedInGroup(event, row) {
    const open = row.querySelector("button").getAttribute("aria-expanded") === "true";
    if (event.key !== (open ? "ArrowLeft" : "ArrowRight")) return;
    event.preventDefault();
    this.#table.fold(row.dataset.key.replace("group ", ""));
  }

  #pressedInItem(event, row) {
    const { key, target, shiftKey } = event;
    const { selection } = this.#table;
    const id = row.dataset.key;
    if (key === "Enter" && target === row) row.querySelector(".name").click();
    else if (!this.#table.may("edit")) return;
    else if (key === " " && target === row) {
      if (shiftKey) selection.extend(id, this.#table.shownIds, { add: true });
      else selection.toggle(id);
      this.#table.selected();
    } else if (key === "F2") this.#table.edit(id);
    else if (key === "Delete") {
      if (!selection.has(id)) selection.only(id);
      this.#table.selected();
      this.#table.askToRemove();
    } else return;
    event.preventDefault();
  }

  /** Keys that mean all items; answers whether this was one. */
  #forAll(event) {
    const { selection } = this.#table;
    if (!this.#table.may("edit")) return false;
    if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey) {
      selection.add(this.#table.shownIds);
    } else if (event.key === "Escape" && selection.size) selection.clear();
    else return false;
    event.preventDefault();
    this.#table.selected();
    return true;
  }
}

function rowOf(element) {
  return element.closest("[data-key]");
}
