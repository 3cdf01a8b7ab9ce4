// What is said aloud of a colleague's change in a project. Pure: no page.

import { STATUSES } from "./page-item-words.js";

const DEEDS = {
  commented: { one: (name) => `commented on ${name}`, many: (number) => `wrote ${number} comments` },
  edited: { one: (name) => `edited a comment on ${name}`, many: (number) => `edited ${number} comments` },
  deleted: { one: (name) => `deleted a comment on ${name}`, many: (number) => `deleted ${number} comments` },
  resolved: { one: (name) => `resolved a thread on ${name}`, many: (number) => `resolved ${number} threads` },
  reopened: { one: (name) => `reopened a thread on ${name}`, many: (number) => `reopened ${number} threads` },
  added: { one: (name) => `added ${name}`, many: (number) => `added ${number} items` },
  changed: {
    one: (name, { status }) => `changed ${name}: ${STATUSES[status]}`,
    many: (number) => `changed ${number} items`,
  },
  removed: { one: (name) => `removed ${name}`, many: (number) => `removed ${number} items` },
};
const OF_ITEMS = { enter: "added", update: "changed", delete: "removed", leave: "removed" };

/**
 * The deed (see page-announce.js) behind an event of a project; null where there is nothing to say.
 *
 * `before` is the document as it was, undefined where it was not there. `nameOf(user)`, `nameOfItem(id)` name things.
 */
export function deed({ kind, change, id, by, doc }, before, { nameOf, nameOfItem }) {
  const what = kind === "item" ? OF_ITEMS[change] : kind === "comment" ? doneToComment(change, doc, before) : null;
  if (!what) return null;
  const about = doc ?? before ?? {};
  const name = kind === "item" ? (about.name ?? "an item") : about.item_id ? nameOfItem(about.item_id) : "the project";
  const { one, many } = DEEDS[what];
  return { who: by ? nameOf(by) : "Somebody", what, key: id, one: one(name, about), many };
}

function doneToComment(change, doc, before) {
  const gone = !doc || doc.deleted_at;
  if (gone) return before && !before.deleted_at ? "deleted" : null;
  if (change === "enter" || !before) return "commented";
  if (Boolean(doc.resolved) !== Boolean(before.resolved)) return doc.resolved ? "resolved" : "reopened";
  return doc.body === before.body ? null : "edited";
}
