// The whole diagnosis as plain text, for a ticket. It holds no credentials: nothing here has any.

const MARKS = { good: "ok  ", bad: "BAD ", off: "off ", skipped: "-   " };

/** `findings`: `[{code, what, do, lines}]`. */
export function ticket({ page, at, rows, idleRows, findings, reached }) {
  const part = (title, lines) => (lines.length ? ["", title, ...lines] : []);
  return [
    `Copydesk diagnosis of ${page.origin}`,
    `at ${at}`,
    `in ${navigator.userAgent}`,
    ...part("What to change", findings.flatMap(findingLines)),
    ...(findings.length ? [] : ["", "Nothing to change was found."]),
    ...part("What was tried", rows.map(rowLine)),
    ...part("How long a quiet connection lives", idleRows.map(rowLine)),
    ...part("What reached the server", reached.map(([name, value]) => `  ${name}: ${value}`)),
    "",
  ].join("\n");
}

const rowLine = ({ name, state, text }) => `  ${MARKS[state]} ${name}: ${text}`;

const findingLines = ({ code, what, do: todo, lines }, index) => [
  `  ${index + 1}. ${code}: ${what}`,
  `     ${todo}`,
  ...lines.map((line) => `         ${line}`),
];
