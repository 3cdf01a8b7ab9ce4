// Types of the public client module. What stands here stays; see docs/client.md.

/** connecting: not yet. live: every topic is current. catching_up: connected, a topic is not current yet.
 *  The server may not hear from its database: then it is catching_up as well, with a reason.
 *  polling: every topic was current when the server was last asked; it is asked again and again.
 *  offline: trying again. disabled: no live updates, and no trying until `refresh()`; REST works. */
export type ClientState = "connecting" | "live" | "catching_up" | "polling" | "offline" | "disabled";

/** loading: nothing yet. live: current. stale: was current once. gone: not there, or not for this user. */
export type StoreState = "loading" | "live" | "stale" | "gone";

/** `counts` has one document, under the id `counts`: `{unseen, unread, seq}`. */
export type Kind = "project" | "item" | "comment" | "activity" | "notification" | "counts";

export interface Reason {
  code: string;
  detail: string;
}

/** The way on which updates come, best first. */
export type Rung = "websocket" | "sse" | "poll";

export interface Transport {
  /** Null while there is no connection. */
  readonly rung: Rung | null;
  /** Why it is not a WebSocket, or not even a stream of events; null where it is the best rung. Codes:
   *  `websockets_disabled`, `upgrade_dropped`, `refused`, `timed_out`, `cut`, `held_back`. */
  readonly why: Reason | null;
  /** The address of a page that finds out more. */
  readonly diagnosis: string;
}

export interface Event {
  kind: Kind;
  change: "enter" | "update" | "leave" | "delete";
  id: string;
  /** Null where another program changed the document without raising its version. */
  version: number | null;
  at: string;
  by?: string;
  /** The representation that REST returns. Absent after `leave` and `delete`. */
  doc?: any;
}

/** What waits in the inbox, counted by the server. Archived entries count in neither. */
export interface Counts {
  unseen: number;
  unread: number;
  /** The highest `seq` of any entry: `until` of a mark-all. */
  seq: number;
}

export interface Change {
  /** Whether everything was replaced: by the first snapshot, after a gap, or by a read over REST. */
  snapshot: boolean;
  /** What was applied, in order; empty after a snapshot. */
  events: Event[];
}

/** One topic: a snapshot, kept current by events. Documents are shared: read them, do not change them. */
export interface Store {
  readonly topic: string;
  readonly state: StoreState;
  /** Why the topic is gone. */
  readonly problem: Reason | null;
  get(kind: "counts", id: "counts"): Counts | undefined;
  get(kind: Kind, id: string): any | undefined;
  documents(kind: Kind): any[];
  on(name: "change", listener: (change: Change, store: Store) => void): () => void;
  on(name: "state", listener: (state: StoreState, store: Store) => void): () => void;
  /** A read over REST that the client began by itself failed. */
  on(name: "error", listener: (error: ProblemError, store: Store) => void): () => void;
  close(): void;
}

export interface RequestOptions {
  body?: unknown;
  /** For POST; made freshly where absent. Give your own to send the same thing again without doing it twice. */
  idempotencyKey?: string;
  /** The `etag` of an earlier answer. */
  ifMatch?: string;
}

export interface Answer<T = any> {
  status: number;
  body: T;
  etag: string | null;
  headers: Headers;
}

export interface Client {
  readonly state: ClientState;
  /** Why it is offline, disabled or polling, or not live though connected. */
  readonly reason: Reason | null;
  /** Which way updates come, and why not a better one. */
  readonly transport: Transport;
  /** Who the server says we are; null until the first connection. */
  readonly user: { id: string; name: string } | null;
  /** Listens; the function it returns stops that. */
  on(name: "state", listener: (state: ClientState, reason: Reason | null, transport: Transport) => void): () => void;
  /** `project:<id>`, `projects` or `inbox`. Close the store when it is not needed any more. */
  subscribe(topic: string, handler?: (change: Change, store: Store) => void): Store;
  /** A REST call; `path` is what follows `/api/v1`. Throws `ProblemError`. */
  request<T = any>(method: string, path: string, options?: RequestOptions): Promise<Answer<T>>;
  /** Where topics are not live: reads them over REST now, and tries to connect. Where they come by polling: asks now.
   *  Throws `ProblemError`. */
  refresh(): Promise<void>;
  close(): void;
}

export interface Options {
  /** The server; the page's own where absent. */
  url?: string;
  /** A bearer token, or a function that gets one: called for each attempt to connect, before a token expires and
   *  when it is refused. Without it the session cookie of the same site is used. */
  token?: string | (() => string | Promise<string>);
}

export function connect(options?: Options): Client;

/** A key for `request`, to be kept beside what is to be sent until it has been. */
export function idempotencyKey(): string;

/** An answer that is not the one asked for. */
export class ProblemError extends Error {
  /** A code of the server, `unreachable` (no answer of it came), or `unexpected` (something else answered). */
  readonly code: string;
  readonly detail: string;
  /** The HTTP status; 0 where there was no answer. */
  readonly status: number;
  readonly errors: { path: string; message: string }[];
  readonly requestId: string | null;
  /** Seconds. */
  readonly retryAfter: number | null;
}
