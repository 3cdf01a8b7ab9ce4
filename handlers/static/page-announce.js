// What screen readers are told of the work of others: one sentence, however much was done at once. Pure: no page.

// Who is named; of more people only how much they did.
const NAMED = 3;
const LIST = new Intl.ListFormat("en");

/**
 * The one sentence about what happened since the last one.
 *
 * Each of `news` is a deed, `{who, what, key, one, many(number)}`, or `{text}`, which stands for itself: a notification.
 * `what` tells deeds of one kind, which are counted; `key` names what it was done to, of which only the last counts.
 */
export function inOneSentence(news) {
  const texts = news.filter(({ text }) => text);
  const deeds = new Map();
  for (const deed of news) {
    if (deed.text) continue;
    const key = `${deed.who} ${deed.what} ${deed.key}`;
    // Anew, so that it stands where it happened last.
    deeds.delete(key);
    deeds.set(key, deed);
  }
  const parts = people([...deeds.values()]);
  if (texts.length) parts.push(texts.length === 1 ? texts[0].text : `${texts.length} new notifications`);
  return parts.length ? `${parts.join("; ")}.` : "";
}

function people(deeds) {
  const byPerson = Map.groupBy(deeds, ({ who }) => who);
  const parts = [...byPerson].slice(0, NAMED).map(([who, done]) => {
    const kinds = Map.groupBy(done, ({ what }) => what);
    const clauses = [...kinds.values()].map((same) => (same.length === 1 ? same[0].one : same[0].many(same.length)));
    return `${who} ${LIST.format(clauses)}`;
  });
  const others = [...byPerson].slice(NAMED).flatMap(([, done]) => done);
  if (others.length) parts.push(`others made ${others.length} ${others.length === 1 ? "change" : "changes"}`);
  return parts;
}
