// What the statuses of items are called, and how items can be ordered.

/** In the order in which work goes through them. */
export const STATUSES = {
  not_created: "Not created",
  draft: "Draft",
  in_review: "In review",
  rejected: "Rejected",
  ready: "Ready",
  scheduled: "Scheduled",
  published: "Published",
  previously_published: "Previously published",
};

/** Statuses that only a publisher may set. */
export const FOR_PUBLISHERS = new Set(["scheduled", "published", "previously_published"]);

/** What items can be ordered by; whoever asks for the latest change wants to see the newest first. */
export const SORTS = {
  rank: { label: "Project order", descending: false },
  name: { label: "Name", descending: false },
  status: { label: "Status", descending: false },
  changed_at: { label: "Changed", descending: true },
};

/** The options of a list of statuses. */
export function statusOptions(option) {
  return Object.entries(STATUSES).map(([value, label]) => option("option", { value }, label));
}

/** What somebody changed, in words: only what people see. */
export function changedFields(before, after) {
  const words = { name: "name", status: "status", assignee: "assignee", publish_at: "date", rank: "order" };
  const details = ["type", "path", "url", "thumbnail_url"];
  const found = Object.keys(words).filter((field) => before[field] !== after[field]).map((field) => words[field]);
  if (details.some((field) => before[field] !== after[field])) found.push("details");
  return found;
}
