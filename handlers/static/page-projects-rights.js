// What somebody may do in a project, for offering it in lists. Pure. The server decides; its table is in docs/rest.md.

const ROLES = ["viewer", "commenter", "editor", "publisher", "owner"];

/** `me`: `{id, roles}`, where `roles` are instance roles and groups as the session names them. */
function roleIn(project, me) {
  if (me.roles.includes("admin")) return "owner";
  const grants = project.members.filter(({ principal }) => isNamed(principal, me)).map(({ role }) => role);
  if (me.roles.includes("service")) grants.push("publisher");
  else if (project.visibility === "public") grants.push("editor");
  return ROLES[Math.max(...grants.map((role) => ROLES.indexOf(role)), 0)];
}

function isNamed(principal, { id, roles }) {
  const [kind, ...name] = principal.split(":");
  return kind === "user" ? name.join(":") === id : roles.includes(name.join(":"));
}

/** Whether a role is enough to `edit` (name and description) or to `manage` (visibility, archive). */
export function mayIn(project, me, action) {
  const needed = { edit: "editor", manage: "owner" }[action];
  return ROLES.indexOf(roleIn(project, me)) >= ROLES.indexOf(needed);
}

/** As the REST API understands `mine`: created by them, or with them as a member. */
export function isMine(project, me) {
  return project.created_by === me.id || project.members.some(({ principal }) => isNamed(principal, me));
}
