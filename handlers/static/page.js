// The edit page: who is signed in, which view is open, and what is said about the live connection.

import { connect } from "./client.js";
import { Credentials, Rest } from "./client-rest.js";
import { h, setAttribute, setText } from "./page-dom.js";
import { Drafts } from "./page-drafts.js";
import { ProjectView } from "./page-project.js";
import { ProjectsView } from "./page-projects.js";
import { signInForm } from "./page-sign-in.js";

// Shorter interruptions are nobody's business.
const BANNER_AFTER_MS = 2500;
// A screen reader hears of what others do at most this often, and in one sentence.
const ANNOUNCE_EVERY_MS = 3000;

const CONNECTION_WORDS = {
  connecting: "Connecting",
  live: "Live",
  catching_up: "Catching up",
  offline: "Offline",
  disabled: "Not live",
};

const $ = (id) => document.getElementById(id);

/** What the views share. */
class Page {
  client = null;
  user = null;
  drafts = null;
  #rest = new Rest(location.origin, new Credentials());
  #view = null;
  #bannerTimer = null;
  #announcements = [];
  #announceTimer = null;

  async start() {
    addEventListener("hashchange", () => this.#route({ moved: true }));
    $("sign-out").addEventListener("click", () => this.#signOut());
    $("skip").addEventListener("click", (event) => {
      event.preventDefault();
      $("main").focus();
    });
    await this.#whoAmI();
  }

  /** A REST call; when the session is over the page asks to sign in again, and what was typed stays. */
  async request(method, path, options) {
    const { client } = this;
    try {
      return await client.request(method, path, options);
    } catch (error) {
      // A late answer must not throw away what is being typed into the form.
      if (error.status === 401 && client === this.client) this.#sessionOver();
      throw error;
    }
  }

  /** As `request`, for a change: where no live event will bring it, it is read back at once. */
  async change(method, path, options, store) {
    const answer = await this.request(method, path, options);
    if (store.state !== "live") await this.client.refresh().catch(() => {});
    return answer;
  }

  /** Has what `sentence()` answers read out by screen readers, together with others that come soon. */
  announce(sentence) {
    this.#announcements.push(sentence);
    this.#announceTimer ??= setTimeout(() => {
      const sentences = this.#announcements.splice(0).map((say) => say());
      this.#announceTimer = null;
      const [last] = sentences.slice(-1);
      setText($("announcer"), sentences.length < 4 ? sentences.join(" ") : `${sentences.length} changes. ${last}`);
    }, ANNOUNCE_EVERY_MS);
  }

  setTitle(title) {
    document.title = title ? `${title} · Copydesk` : "Copydesk";
  }

  async #whoAmI() {
    try {
      const { body } = await this.#rest.request("GET", "/session");
      this.#enter(body.user);
    } catch (error) {
      if (error.status === 401) this.#showSignIn("");
      else this.#showUnreachable(error);
    }
  }

  #enter(user) {
    this.user = user;
    this.drafts = new Drafts(user.id);
    setText($("user"), user.name);
    $("account").hidden = false;
    this.client?.close();
    this.client = connect();
    this.client.on("state", () => this.#connectionChanged());
    this.#connectionChanged();
    this.#route({ moved: false });
  }

  async #signOut() {
    try {
      await this.#rest.request("DELETE", "/session");
    } catch (error) {
      if (error.status !== 401) {
        this.#showBanner(`You are still signed in. ${error.message}`);
        return;
      }
    }
    this.drafts.clear();
    this.#showSignIn("You are signed out.");
  }

  #sessionOver() {
    this.#showSignIn("Your session is over. Sign in to go on; what you typed is kept.");
  }

  #showSignIn(message) {
    this.client?.close();
    this.client = null;
    $("account").hidden = true;
    this.#hideBanner();
    this.setTitle("Sign in");
    const { element, focus } = signInForm(this.#rest, message, (user) => this.#enter(user));
    this.#open({ element, close: () => {} });
    focus();
  }

  #showUnreachable(error) {
    const again = h("button", { type: "button", click: () => this.#whoAmI() }, "Try again");
    this.#open({ element: h("div", { class: "empty" }, h("p", {}, error.message), again), close: () => {} });
  }

  /** Shows what the address says: `#/projects/<id>`, `#/projects/<id>/items/<id>`, or the list of projects. */
  #route({ moved }) {
    if (!this.client) return;
    const { projectId, itemId } = readAddress(location.hash);
    if (projectId) {
      if (this.#view?.projectId !== projectId) this.#open(new ProjectView(this, projectId));
      this.#view.choose(itemId, { moved });
      return;
    }
    this.#open(new ProjectsView(this));
    if (moved) $("main").focus();
  }

  #open(view) {
    this.#view?.close();
    this.#view = view;
    $("main").replaceChildren(view.element);
  }

  #connectionChanged() {
    const { state, reason } = this.client;
    setAttribute($("connection"), "data-state", state);
    setText($("connection"), CONNECTION_WORDS[state]);
    clearTimeout(this.#bannerTimer);
    if (state === "live") this.#hideBanner();
    else if (reason?.code === "unauthenticated") this.#sessionOver();
    else if (state === "disabled") this.#showNotLive(reason);
    else this.#bannerTimer = setTimeout(() => this.#showInterrupted(), BANNER_AFTER_MS);
  }

  #showInterrupted() {
    const { state, reason } = this.client;
    if (reason?.code === "handshake_failed") {
      this.#showNotLive({ detail: "Live updates do not get through to this browser. Still trying." }, [
        h("a", { href: "/api/v1/diagnostics", target: "_blank" }, "What reaches the server"),
        h("a", { href: "/docs#behind-nginx", target: "_blank" }, "Help"),
      ]);
    } else if (state === "offline") this.#showBanner("No connection. What you see may be out of date. Trying again.");
    else if (state === "connecting") this.#showBanner("Connecting.");
    else this.#showBanner(reason?.detail ?? "Catching up with what happened meanwhile.");
  }

  #showNotLive(reason, links = []) {
    const refresh = h("button", { type: "button", click: () => this.#refresh(refresh) }, "Refresh");
    this.#showBanner(`Updates are not live. ${reason.detail}`, [refresh, ...links]);
  }

  async #refresh(button) {
    const { client } = this;
    setText(button, "Refreshing");
    try {
      await client.refresh();
      setText(button, "Refresh");
    } catch (error) {
      setText(button, "Try again");
      if (error.status === 401 && client === this.client) this.#sessionOver();
    }
  }

  #showBanner(text, extras = []) {
    if ($("banner").firstElementChild?.textContent === text) return;
    $("banner").replaceChildren(h("span", {}, text), ...extras);
  }

  #hideBanner() {
    clearTimeout(this.#bannerTimer);
    $("banner").replaceChildren();
  }
}

/** Both null where the address names nothing that we know. */
function readAddress(hash) {
  const found = /^#\/projects\/([\w-]+)(?:\/items\/([\w-]+))?$/.exec(hash);
  return { projectId: found?.[1] ?? null, itemId: found?.[2] ?? null };
}

new Page().start();
