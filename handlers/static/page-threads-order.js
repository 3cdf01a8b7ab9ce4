// Which threads there are, which of them match a filter, and in what order they stand. Pure.

/**
 * The threads about items (none: about the project), the newest first: `{id, itemId, comments}`, the oldest comment
 * first; `itemId` is null for the project.
 *
 * A thread of which nothing is left is not among them, unless `stays(thread)`.
 */
export function gather(comments, itemIds, stays) {
  const threads = new Map();
  const wanted = new Set(itemIds.length ? itemIds : [null]);
  for (const comment of comments) {
    if (!wanted.has(comment.item_id ?? null)) continue;
    if (!threads.has(comment.thread_id)) threads.set(comment.thread_id, []);
    threads.get(comment.thread_id).push(comment);
  }
  return [...threads]
    .map(([id, found]) => ({ id, itemId: found[0].item_id ?? null, comments: found.sort(byTime) }))
    .filter((thread) => thread.comments.some((comment) => !comment.deleted_at) || stays(thread))
    .sort((a, b) => byTime(b.comments[0], a.comments[0]));
}

/** `state`: "all", "open" or "resolved". */
export function matches({ id, comments }, state) {
  if (state === "all") return true;
  const resolved = comments.some((comment) => comment.id === id && comment.resolved);
  return resolved === (state === "resolved");
}

/** Where somebody is in a thread nothing may move it: what stood there stays in its order, what is new comes below. */
export function arrange(threads, before, heldId) {
  const now = new Map(threads.map((thread) => [thread.id, thread]));
  const kept = before.filter(({ id }) => now.has(id)).map(({ id }) => now.get(id));
  const held = kept.findIndex(({ id }) => id === heldId);
  if (held < 0) return threads;
  const known = new Set(kept);
  const added = threads.filter((thread) => !known.has(thread));
  return [...kept.slice(0, held + 1), ...added, ...kept.slice(held + 1)];
}

function byTime(a, b) {
  return a.created_at.localeCompare(b.created_at) || (a.id < b.id ? -1 : 1);
}
