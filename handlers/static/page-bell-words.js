// What the bell says: how types look, what happened, why somebody is told, and what would stop it.

import { webAddress } from "./page-dom.js";
import { STATUSES } from "./page-item-words.js";

/** Of each type of notification: what it is called as a filter, and its picture (a path on 24 by 24). */
export const TYPES = {
  mention: {
    label: "Mentions",
    path: "M16 12a4 4 0 1 1-8 0a4 4 0 0 1 8 0zM16 8v5.5a2.5 2.5 0 0 0 5 0V12a9 9 0 1 0-3.6 7.2",
  },
  reply: { label: "Replies", path: "M9 7l-5 5l5 5M4 12h10a6 6 0 0 1 6 6v1" },
  comment: { label: "Comments", path: "M4 5h16v11h-9l-5 4v-4H4z" },
  assigned: { label: "Assignments", path: "M12 12a4 4 0 1 0 0-8a4 4 0 0 0 0 8zM4 21a8 8 0 0 1 16 0" },
  item_status: { label: "Status changes", path: "M5 21V4h13l-3 4.5l3 4.5H5" },
  publish_result: { label: "Publishing", path: "M12 16V4M7 9l5-5l5 5M5 20h14" },
  custom: { label: "Other messages", path: "M4 10v4h4l8 5V5l-8 5zM19 9.5a4 4 0 0 1 0 5" },
};

export const BELL = "M6 16v-6a6 6 0 0 1 12 0v6l2 2H4zM10 21h4";
export const BELL_OFF = `${BELL}M4 4l16 16`;

const REASONS = {
  mentioned: "You were mentioned.",
  group_mentioned: "A group of yours was mentioned.",
  participant: "You wrote in this thread.",
  follows_thread: "You follow this thread.",
  follows_item: "You follow this item.",
  follows_project: "You follow this project.",
  assignee: "The item is assigned to you.",
  creator: "You added the item.",
  addressed: "It was sent to you, or to a group of yours.",
};

/** Why the reader is told. */
export function reasonOf(entry) {
  return REASONS[entry.reason] ?? "";
}

const HAPPENINGS = {
  mention: ({ reason }, who) => `${who} mentioned ${reason === "group_mentioned" ? "your group" : "you"}`,
  reply: (_entry, who) => `${who} replied`,
  comment: (_entry, who) => `${who} commented`,
  assigned: (_entry, who) => `${who} assigned this to you`,
  item_status: (_entry, who) => `${who} changed the status`,
  publish_result: () => "Publishing",
  custom: (entry, who) => entry.category ?? `Message from ${who}`,
};

// An entry tells of several people's comments; everything else is the doing of whoever came last.
const OF_MANY = new Set(["reply", "comment"]);

/** What happened, in one sentence without a full stop. */
export function happening(entry, nameOf) {
  const last = entry.events[0]?.actor;
  const actors = OF_MANY.has(entry.type) ? entry.actors : entry.actors.filter((actor) => actor === last);
  return HAPPENINGS[entry.type](entry, people(actors.map(nameOf)));
}

/** What there is to read beside that. The API names statuses as programs know them. */
export function textOf(type, text = "") {
  if (type === "assigned") return ""; // It would only repeat what happened.
  const [before, after] = type === "item_status" ? text.split(" -> ") : [];
  return STATUSES[before] && STATUSES[after] ? `${STATUSES[before]} → ${STATUSES[after]}` : text;
}

/** "Alice", "Alice and Bob", "Alice, Bob and 3 others". */
function people(names) {
  if (names.length === 0) return "Somebody";
  if (names.length <= 2) return names.join(" and ");
  if (names.length === 3) return `${names[0]}, ${names[1]} and ${names[2]}`;
  return `${names[0]}, ${names[1]} and ${names.length - 2} others`;
}

/** Where a click on the entry leads, or null. */
export function addressOf({ link, subject }) {
  const project = subject.project_id && `#/projects/${encodeURIComponent(subject.project_id)}`;
  switch (subject.kind) {
    case "thread":
      return `${project}/threads/${encodeURIComponent(subject.thread_id)}`;
    case "item":
      return `${project}/items/${encodeURIComponent(subject.item_id)}`;
    case "project":
      return project;
    default:
      return webAddress(link);
  }
}

/** What would have to be muted for no more like this: `[{subject, what}]`, the smallest first, two at most. */
export function stopsOf({ reason, subject }) {
  const keys = subjectKeys(subject);
  const smallest = ["thread", "item", "project"].find((what) => keys[what]);
  const level = { follows_item: "item", assignee: "item", creator: "item", follows_project: "project" }[reason];
  return [...new Set([smallest, level])].filter((what) => keys[what]).map((what) => ({ what, subject: keys[what] }));
}

/** What can be followed and muted of a subject, as the API spells it. */
function subjectKeys({ kind, project_id: project, item_id: item, thread_id: thread }) {
  if (kind === "custom") return {};
  return {
    ...(thread && { thread: `thread:${thread}` }),
    ...(item && { item: `item:${item}` }),
    ...(project && { project: `project:${project}` }),
  };
}
