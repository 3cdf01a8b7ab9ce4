// What the log of changes says: one plain sentence for each entry, as nodes.

import { h } from "./page-dom.js";
import { STATUSES } from "./page-item-words.js";

const FIELDS = {
  name: "name",
  description: "description",
  labels: "labels",
  visibility: "visibility",
  due_at: "due date",
  type: "type",
  publish_at: "time of publishing",
  url: "address",
  thumbnail_url: "picture",
  path: "path",
  assignee: "assignee",
  rank: "place in the order",
};

const LIST = new Intl.ListFormat("en");

/** By type: what was done, as text and nodes; `item` and `thread` are nodes that name these. */
const DEEDS = {
  project_created: ({ name }) => [`created the project ${quoted(name)}`],
  project_changed: ({ name, fields }) =>
    onlyName(fields) ? [`renamed the project to ${quoted(name)}`] : [`changed the ${named(fields)} of the project`],
  project_members_changed: () => ["changed the members of the project"],
  project_archived: () => ["archived the project"],
  project_reopened: () => ["took the project out of the archive"],
  project_deleted: () => ["deleted the project"],
  item_added: ({ status }, { item }) => ["added ", item, ` (${statusName(status)})`],
  item_changed: ({ fields }, { item }) =>
    onlyName(fields) ? ["renamed an item to ", item] : [`changed the ${named(fields)} of `, item],
  item_status_changed: ({ from, to }, { item }) => [
    "moved ",
    item,
    ` from ${statusName(from)} to `,
    h("span", { class: "status", "data-status": to }, statusName(to)),
  ],
  item_removed: (_data, { item }) => ["removed ", item],
  comment_deleted: (_data, { where }) => ["deleted a comment", ...where],
  thread_resolved: (_data, { thread, where }) => ["resolved ", thread, ...where],
  thread_reopened: (_data, { thread, where }) => ["reopened ", thread, ...where],
};

/**
 * The sentence about an activity, without a full stop.
 *
 * `nameOf(userId)`; `itemOf(itemId)`: the item, where it is still there; `address(kind, id)`: where an item or a thread
 * is found.
 */
export function sentence(activity, { nameOf, itemOf, address }) {
  const { type, actor, item_id: itemId, data } = activity;
  const there = itemId && itemOf(itemId);
  const name = data.name ?? there?.name ?? "an item";
  const item = there ? h("a", { href: address("items", itemId) }, name) : h("b", {}, name);
  const thread = data.thread_id ? h("a", { href: address("threads", data.thread_id) }, "a thread") : "a thread";
  const where = itemId ? [" on ", item] : [];
  // A newer server may log what this page does not know yet.
  const deed = DEEDS[type]?.(data, { item, thread, where }) ?? [type.replaceAll("_", " "), ...where];
  return [h("b", {}, actor ? nameOf(actor) : "Somebody"), " ", ...deed];
}

function quoted(text) {
  return `“${text}”`;
}

function statusName(status) {
  return STATUSES[status] ?? status;
}

function onlyName(fields) {
  return fields.length === 1 && fields[0] === "name";
}

function named(fields) {
  return LIST.format(fields.map((field) => FIELDS[field] ?? field));
}
