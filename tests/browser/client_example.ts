// What a program in TypeScript does with the client module; `tsc --noEmit` accepts it, and refuses what is marked.

import {
  type Change,
  type Client,
  ProblemError,
  type Store,
  connect,
  idempotencyKey,
} from "../../handlers/static/client.js";

const client: Client = connect({ url: "https://copydesk.example", token: async () => (await fetch("/token")).text() });

function show({ snapshot, events }: Change, store: Store): void {
  if (snapshot) console.log(store.documents("comment").length);
  for (const { kind, change, by, doc } of events) {
    if (kind === "comment" && change === "enter") console.log(by ?? "somebody", doc.body);
  }
}

const store = client.subscribe("project:01JD8Z", show);
const off: () => void = client.on("state", (state, reason, { rung, why, diagnosis }) => {
  if (state === "polling" && rung === "poll") console.log(why?.detail, diagnosis);
  if (state === "disabled") console.log(reason?.detail);
  // @ts-expect-error There is no such state.
  if (state === "asleep") return;
});
const unread: number | undefined = client.subscribe("inbox").get("counts", "counts")?.unread;

async function write(body: string): Promise<void> {
  const key = idempotencyKey();
  try {
    const { status, etag } = await client.request<{ id: string }>("POST", "/projects/01JD8Z/comments", {
      body: { body },
      idempotencyKey: key,
    });
    console.log(status, etag);
  } catch (error) {
    if (error instanceof ProblemError && error.status === 412) await client.refresh();
    else throw error;
  }
}

// @ts-expect-error A token is a text, or a function that gets one.
connect({ token: 42 });
// @ts-expect-error The position of a store is nobody's business.
console.log(store.position);

void write("Looks good.").then(() => {
  console.log(unread);
  off();
  store.close();
  client.close();
});
