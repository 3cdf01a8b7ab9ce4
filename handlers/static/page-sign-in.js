// The sign-in form.

import { h, setText } from "./page-dom.js";

/** `{element, focus}`; `onuser(user)` is called once the server knows who it is. */
export function signInForm(rest, message, onuser) {
  const name = h("input", { id: "name", name: "username", autocomplete: "username", autocapitalize: "none", required: true });
  const password = h("input", {
    id: "password",
    name: "password",
    type: "password",
    autocomplete: "current-password",
    required: true,
  });
  const problem = h("p", { class: "problem", role: "alert" });
  const button = h("button", { type: "submit" }, "Sign in");

  async function submit(event) {
    event.preventDefault();
    setText(problem, "");
    setText(button, "Signing in");
    try {
      const { body } = await rest.request("POST", "/session", {
        body: { username: name.value, password: password.value },
      });
      onuser(body.user);
    } catch (error) {
      setText(problem, error.status === 401 ? "The name or the password is wrong." : error.message);
      setText(button, "Sign in");
      password.focus();
      password.select();
    }
  }

  const element = h(
    "form",
    { class: "sign-in", submit },
    h("h1", {}, "Sign in"),
    message ? h("p", { class: "hint", role: "status" }, message) : null,
    h("label", { for: "name" }, "Name"),
    name,
    h("label", { for: "password" }, "Password"),
    password,
    problem,
    button,
  );
  return { element, focus: () => name.focus() };
}
