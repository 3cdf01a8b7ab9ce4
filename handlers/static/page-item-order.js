// Which items are shown, and in which order. Pure: no page. A change of one item costs one place, not a new order of all.

import { STATUSES } from "./page-item-words.js";

const COLLATOR = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const WORK = new Map(Object.keys(STATUSES).map((status, place) => [status, place]));
// From so many changes at once on, sorting everything is cheaper than finding a place for each.
const MANY = 200;

const byName = (a, b) => COLLATOR.compare(a.name, b.name);
const COMPARE = {
  rank: (a, b) => a.rank - b.rank,
  name: byName,
  status: (a, b) => WORK.get(a.status) - WORK.get(b.status) || byName(a, b),
  changed_at: (a, b) => compareText(a.changed_at ?? "", b.changed_at ?? ""),
};

function compareText(a, b) {
  return a === b ? 0 : a < b ? -1 : 1;
}

/**
 * The items of a project as somebody wants to see them.
 *
 * A record is `{item, placed, text}`: the item as it is, the item by which it got its place and passed the filter, and
 * what the filter looks at. The two differ while the item is held: what one is working on stays where it is.
 */
export class ItemOrder {
  #records = new Map();
  #sorted = [];
  #moving = new Set();
  #compare = comparison("rank", false);
  #choices = { sort: "rank", descending: false, grouped: false, query: "", statuses: new Set(), closed: new Set() };

  get choices() {
    return this.#choices;
  }

  get size() {
    return this.#records.size;
  }

  get(id) {
    return this.#records.get(id)?.item;
  }

  /** Takes in other wishes of the user: `{sort, descending, grouped, query, statuses, closed}`, each optional. */
  choose(wishes) {
    const { sort, descending } = this.#choices;
    this.#choices = { ...this.#choices, ...wishes };
    const asBefore = sort === this.#choices.sort && descending === this.#choices.descending;
    if (asBefore && !this.#moving.size) return;
    this.#compare = comparison(this.#choices.sort, this.#choices.descending);
    for (const id of this.#moving) this.#records.get(id).place();
    this.#moving.clear();
    this.#sorted = [...this.#records.values()].sort(this.#compare);
  }

  /** Everything anew. */
  replace(items) {
    this.#records = new Map(items.map((item) => [item.id, new Placed(item)]));
    this.#moving.clear();
    this.#sorted = [...this.#records.values()].sort(this.#compare);
  }

  /** An item that is new or has changed; `settle` finds its place. */
  put(item) {
    const record = this.#records.get(item.id);
    if (record) record.item = item;
    else this.#records.set(item.id, new Placed(item, { waiting: true }));
    this.#moving.add(item.id);
  }

  remove(id) {
    const record = this.#records.get(id);
    if (!record) return;
    this.#records.delete(id);
    this.#moving.delete(id);
    if (!record.waiting) this.#sorted.splice(this.#find(record), 1);
  }

  /** Gives what has changed its place, unless `held(id)`. */
  settle(held) {
    const moving = [...this.#moving].filter((id) => this.#records.get(id).waiting || !held(id));
    for (const id of moving) this.#moving.delete(id);
    if (moving.length > MANY) {
      for (const id of moving) this.#records.get(id).place();
      this.#sorted = [...this.#records.values()].sort(this.#compare);
      return;
    }
    for (const id of moving) {
      const record = this.#records.get(id);
      if (!record.waiting) this.#sorted.splice(this.#find(record), 1);
      record.place();
      this.#sorted.splice(this.#find(record), 0, record);
    }
  }

  /** The highest rank there is; -1 where there are no items. */
  get lastRank() {
    let last = -1;
    for (const { item } of this.#records.values()) last = Math.max(last, item.rank);
    return last;
  }

  /** How many items there are of each status, whatever is shown. */
  numbers() {
    const numbers = new Map();
    for (const { item } of this.#records.values()) numbers.set(item.status, (numbers.get(item.status) ?? 0) + 1);
    return numbers;
  }

  /** The rows from top to bottom: `{key, item, place}`, or `{key, group, size, open}` above those of one status. */
  rows() {
    const { grouped, closed } = this.#choices;
    const found = this.#sorted.filter(this.#filter());
    if (!grouped) return found.map(({ item }, index) => ({ key: item.id, item, place: index + 1 }));
    const groups = new Map([...WORK.keys()].map((status) => [status, []]));
    for (const record of found) groups.get(record.placed.status).push(record);
    const rows = [];
    let place = 0;
    for (const [group, records] of groups) {
      if (!records.length) continue;
      const open = !closed.has(group);
      rows.push({ key: `group ${group}`, group, size: records.length, open });
      if (open) rows.push(...records.map(({ item }) => ({ key: item.id, item, place: ++place })));
    }
    return rows;
  }

  #filter() {
    const { query, statuses } = this.#choices;
    const words = query.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    return ({ placed, text }) =>
      (!statuses.size || statuses.has(placed.status)) && words.every((word) => text.includes(word));
  }

  /** Where a record stands, or would have to: no two compare as equal. */
  #find(record) {
    let [low, high] = [0, this.#sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#compare(this.#sorted[middle], record) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

class Placed {
  constructor(item, { waiting = false } = {}) {
    this.item = item;
    this.place();
    this.waiting = waiting;
  }

  place() {
    const { item } = this;
    this.placed = item;
    this.waiting = false;
    const words = [item.name, item.path, item.content.id, item.type, item.language, item.assignee];
    this.text = words.filter(Boolean).join(" ").toLocaleLowerCase();
  }
}

/** Ties go by id, as in the lists of the REST API. */
function comparison(sort, descending) {
  const compare = COMPARE[sort];
  const sign = descending ? -1 : 1;
  return (a, b) => sign * compare(a.placed, b.placed) || compareText(a.placed.id, b.placed.id);
}
