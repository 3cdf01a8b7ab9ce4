// Where REST has what a topic brings: for reading without a socket, and for events that come without their document.

/** Reads a whole topic: the same parts as its snapshot, though not from one single point in time. */
export function readTopic(rest, topic) {
  return READERS[topic.split(":", 1)[0]](rest, topic);
}

const READERS = {
  async project(rest, topic) {
    const path = projectPath(topic);
    const [project, items, comments] = await Promise.all([
      rest.request("GET", path),
      rest.all(`${path}/items`),
      rest.all(`${path}/comments`),
    ]);
    return { project: project.body, items, comments };
  },

  async projects(rest) {
    const [current, archived] = await Promise.all([rest.all("/projects"), rest.all("/projects?archived=true")]);
    return { projects: [...current, ...archived] };
  },

  async inbox(rest) {
    const [list, counts] = await Promise.all([
      rest.request("GET", "/notifications?limit=200"),
      rest.request("GET", "/notifications/count"),
    ]);
    return { notifications: list.body.items, counts: counts.body };
  },
};

/** The path of one document of a topic. */
export function documentPath(topic, kind, id) {
  const own = encodeURIComponent(id);
  switch (kind) {
    case "project":
      return `/projects/${own}`;
    case "notification":
      return `/notifications/${own}`;
    case "counts":
      return "/notifications/count";
    default:
      return `${projectPath(topic)}/${kind}s/${own}`;
  }
}

function projectPath(topic) {
  return `/projects/${encodeURIComponent(topic.slice(topic.indexOf(":") + 1))}`;
}
