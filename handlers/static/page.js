// The edit page: who is signed in, which view is open, and what is said about the live connection.

import { connect } from "./client.js";
import { Credentials, Rest } from "./client-rest.js";
import { inOneSentence } from "./page-announce.js";
import { Bell } from "./page-bell.js";
import { h, setAttribute, setText } from "./page-dom.js";
import { Drafts } from "./page-drafts.js";
import { Subscriptions } from "./page-follow.js";
import { People } from "./page-people.js";
import { PreferencesView } from "./page-preferences.js";
import { ProjectView } from "./page-project.js";
import { ProjectsView } from "./page-projects.js";
import { signInForm } from "./page-sign-in.js";

// Shorter interruptions are nobody's business.
const BANNER_AFTER_MS = 2500;
// A screen reader hears of what others do at most this often, and in one sentence.
const ANNOUNCE_EVERY_MS = 3000;
const BETWEEN_MS = 100;

const CONNECTION_WORDS = {
  connecting: "Connecting",
  live: "Live",
  catching_up: "Catching up",
  polling: "Some seconds late",
  offline: "Offline",
  disabled: "Not live",
};

const $ = (id) => document.getElementById(id);

/** What the views share. */
class Page {
  client = null;
  user = null;
  drafts = null;
  people = null;
  subscriptions = null;
  bell = null;
  #rest = new Rest(location.origin, new Credentials());
  #view = null;
  #bannerTimer = null;
  #announcements = [];
  #announceTimer = null;

  async start() {
    addEventListener("hashchange", () => this.#route({ moved: true }));
    addEventListener("click", (event) => this.#clicked(event));
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

  /** Has what `news()` answers (see page-announce.js) read out, in one sentence with all else that comes soon. */
  announce(news) {
    // Makes it ask for the names that it needs, so that they are there when it is said.
    news();
    this.#announcements.push(news);
    this.#announceTimer ??= setTimeout(() => {
      this.#announceTimer = null;
      const sentence = inOneSentence(this.#announcements.splice(0).map((each) => each()));
      // The same words a second time are a change only where there were none in between.
      if ($("announcer").textContent === sentence) setText($("announcer"), "");
      setTimeout(() => setText($("announcer"), sentence), BETWEEN_MS);
    }, ANNOUNCE_EVERY_MS);
  }

  /** The project that is open, or undefined. */
  get projectId() {
    return this.#view?.projectId;
  }

  /** A link to the address that is open already leads there once more: something else may be shown by now. */
  #clicked(event) {
    const link = event.target.closest?.("a");
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || !link || link.target) return;
    if (link.hash === location.hash && readAddress(link.hash).projectId) this.#route({ moved: true });
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
    this.#disconnect();
    this.client = connect();
    this.client.on("state", () => this.#connectionChanged());
    const request = (...call) => this.request(...call);
    this.people = new People(request);
    this.subscriptions = new Subscriptions(request);
    this.bell = new Bell(this);
    $("bell").replaceChildren(this.bell.element);
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

  #disconnect() {
    this.bell?.close();
    this.bell = null;
    this.subscriptions?.close();
    this.client?.close();
    this.client = null;
    $("bell").replaceChildren();
  }

  #showSignIn(message) {
    this.#disconnect();
    $("account").hidden = true;
    this.#hideBanner();
    this.setTitle("Sign in");
    const { element, focus } = signInForm(this.#rest, message, (user) => this.#enter(user));
    this.#open({ element, close: () => {} });
    focus();
  }

  #showUnreachable(error) {
    const again = h("button", { type: "button", click: () => this.#whoAmI() }, "Try again");
    const title = h("h1", {}, "Copydesk cannot be reached");
    const words = h("p", {}, `${error.message} Your drafts are kept in this tab.`);
    this.#open({ element: h("div", { class: "empty" }, title, words, again), close: () => {} });
  }

  /** Shows what the address says: a project, one of its items or threads, the preferences, or the list of projects. */
  #route({ moved }) {
    if (!this.client) return;
    const { projectId, itemId, threadId } = readAddress(location.hash);
    if (projectId) {
      if (this.#view?.projectId !== projectId) this.#open(new ProjectView(this, projectId));
      if (threadId) this.#view.openThread(threadId);
      else this.#view.choose(itemId, { moved });
      return;
    }
    this.#open(location.hash === "#/preferences" ? new PreferencesView(this) : new ProjectsView(this));
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
    this.#explainTransport();
    clearTimeout(this.#bannerTimer);
    if (state === "live" || state === "polling") this.#hideBanner();
    else if (reason?.code === "unauthenticated") this.#sessionOver();
    else if (state === "disabled") this.#showNotLive(reason);
    else this.#bannerTimer = setTimeout(() => this.#showInterrupted(), BANNER_AFTER_MS);
  }

  /** Beside the connection's word: why updates do not come over a WebSocket, for those who want to know. */
  #explainTransport() {
    const { why, diagnosis } = this.client.transport;
    const link = why && h("a", { href: diagnosis, target: "_blank", title: why.detail }, "why?");
    link?.setAttribute("aria-label", `Why updates come this way: ${why.detail}`);
    $("transport").replaceChildren(...(link ? [link] : []));
  }

  #showInterrupted() {
    const { state, reason } = this.client;
    if (reason?.code === "handshake_failed") {
      this.#showNotLive({ detail: "Live updates do not get through to this browser. Still trying." }, [
        h("a", { href: this.client.transport.diagnosis, target: "_blank" }, "Find out why"),
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

/** `#/projects/<id>`, with `/items/<id>` or `/threads/<id>` behind it. All null where it is nothing that we know. */
function readAddress(hash) {
  const found = /^#\/projects\/([\w-]+)(?:\/(items|threads)\/([\w-]+))?$/.exec(hash);
  const [, projectId = null, kind, id] = found ?? [];
  return { projectId, itemId: kind === "items" ? id : null, threadId: kind === "threads" ? id : null };
}

new Page().start();
