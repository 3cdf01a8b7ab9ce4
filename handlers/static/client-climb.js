// A look at a higher rung, beside the connection in use, which goes on until it is known that another one works.

import { Link } from "./client-link.js";
import { Stream } from "./client-stream.js";

/** Answers `{hello, link, listen(onpush, onend)}` once the server has said hello, or `{end}`. */
export function trySocket(origin, token) {
  return new Promise((resolve) => {
    let push = () => {};
    let over = (end) => resolve({ end });
    const link = new Link(origin, token, {
      onready: (hello) => resolve({ hello, link, listen: (onpush, onend) => ([push, over] = [onpush, onend]) }),
      onpush: (given) => push(given),
      onend: (end) => over(end),
    });
  });
}

/** Answers whether a stream brings what it should, from its beginning to `live`. */
export function tryStream(rest, { replica }, since) {
  return new Promise((resolve) => {
    const query = new URLSearchParams({ topics: replica.topic, since });
    const stream = new Stream(rest, `/events/stream?${query}`, 0, {
      onpush: ({ push }) => {
        if (push !== "live" && push !== "unsubscribed") return;
        stream.close();
        resolve(true);
      },
      onend: () => resolve(false),
    });
  });
}
