// Who can be mentioned in a project: people who may see it, and groups that its members or its comments name.

const MOST = 8;
const ROLE = "role:";

/** Answers what begins with some text; asks the server for the people, because it knows who may see the project. */
export class Candidates {
  #page;
  #view;

  constructor(page, view) {
    this.#page = page;
    this.#view = view;
  }

  /** `[{text, name, what}]`: what is written, who that is, and what kind of thing where it is no person. */
  async find(typed) {
    const groups = this.#groups(typed);
    const people = typed.startsWith(ROLE) ? [] : await this.#people(typed);
    return [...people, ...groups].slice(0, MOST);
  }

  async #people(typed) {
    const about = { project_id: this.#view.projectId, ...(typed && { q: typed }) };
    const query = new URLSearchParams({ limit: MOST + 1, ...about });
    const { body } = await this.#page.request("GET", `/users?${query}`);
    return (
      body.items
        // Nobody is told of what they wrote themselves.
        .filter(({ id }) => id !== this.#page.user.id)
        .map(({ id, name }) => ({ text: `@${id}`, name, what: "" }))
    );
  }

  /** The API lists no groups: these are the ones that have to do with the project. */
  #groups(typed) {
    const { store, projectId } = this.#view;
    const wanted = typed.startsWith(ROLE) ? typed.slice(ROLE.length) : typed;
    const members = store.get("project", projectId)?.members ?? [];
    const named = members.map(({ principal }) => principal).filter((principal) => principal.startsWith(ROLE));
    const mentioned = store.documents("comment").flatMap((comment) => comment.mention_groups ?? []);
    return [...new Set([...named.map((principal) => principal.slice(ROLE.length)), ...mentioned])]
      .filter((group) => group.toLowerCase().startsWith(wanted.toLowerCase()))
      .sort()
      .map((group) => ({ text: `@${ROLE}${group}`, name: group, what: "group" }));
  }
}
