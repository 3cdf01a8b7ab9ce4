"""Parts of the edit page that need no server: lists that keep the focus, and what screen readers are told."""

from __future__ import annotations

from playwright.async_api import Page

from tests.browser.modules import run_with

_LIST = """
const { Keyed, h } = await import("/static/page-dom.js");
const parent = document.body.appendChild(h("ul"));
const rows = new Keyed(parent, (key) => ({ element: h("li", { id: key }, h("input")), update: () => {} }));
const show = (keys) => rows.update([...keys].map((key) => [key, key]));
const order = () => [...parent.children].map(({ id }) => id).join("");
const lost = [];
parent.addEventListener("focusout", ({ target }) => lost.push(target.parentElement.id));
"""


async def test_a_row_that_is_being_worked_on_stays_in_place_while_others_move_around_it(page: Page) -> None:
    changes = ["abcd bacd", "abcd dcba", "abcd bexa", "ab xyzabw", "abcd acbd"]
    script = f"""
    return {changes}.map((change) => {{
      const [before, after] = change.split(" ");
      show(before);
      document.querySelector("#b input").focus();
      show(after);
      return [order(), lost.splice(0), document.activeElement.parentElement.id];
    }});
    """
    assert await run_with(page, _LIST, script) == [[change.split()[1], [], "b"] for change in changes]


async def test_a_row_that_goes_takes_the_focus_with_it_and_the_others_stand_in_order(page: Page) -> None:
    script = 'show("abc"); document.querySelector("#b input").focus(); show("cxa"); return [order(), lost];'
    assert await run_with(page, _LIST, script) == ["cxa", ["b"]]


_WORDS = """
const { inOneSentence } = await import("/static/page-announce.js");
const { deed } = await import("/static/page-project-words.js");
const names = { nameOf: (id) => id, nameOfItem: (id) => id };
const said = (id, fields = {}) => ({ id, item_id: "Home", body: "Hello", ...fields });
const change = (by, id, before, doc, change = before ? "update" : "enter") =>
  deed({ kind: "comment", change, id, by, doc }, before, names);
const item = (by, name, status, change = "update") => {
  const doc = change === "delete" ? undefined : { name, status };
  return deed({ kind: "item", change, id: name, by, doc }, { name }, names);
};
const edited = (by, id) => change(by, id, said(id), said(id, { body: "Other" }));
const removed = (id) => deed({ kind: 'comment', change: 'delete', id }, said(id), names);
const gone = (by, id, fields) =>
  change(by, id, said(id, fields), said(id, { body: undefined, deleted_at: "now", ...fields }));
"""


SENTENCES = {
    "[]": "",
    "[edited('Bob', '1')]": "Bob edited a comment on Home.",
    "[gone('Bob', '1', { item_id: undefined })]": "Bob deleted a comment on the project.",
    "[removed('1')]": "Somebody deleted a comment on Home.",
    "[change('Bob', '1', said('1'), said('1', { resolved: {} }))]": "Bob resolved a thread on Home.",
    "[change('Bob', '1', said('1', { resolved: {} }), said('1'))]": "Bob reopened a thread on Home.",
    "[item('Bob', 'News', 'draft', 'delete')]": "Bob removed News.",
    "[edited('Bob', '1'), edited('Bob', '2'), gone('Bob', '3'), item('Ann', 'News', 'ready')]": (
        "Bob edited 2 comments and deleted a comment on Home; Ann changed News: Ready."
    ),
    "[item('Bob', 'News', 'draft'), item('Bob', 'News', 'ready')]": "Bob changed News: Ready.",
    "['Ann', 'Bob', 'Cid', 'Dan', 'Eve', 'Eve'].map((who, id) => edited(who, String(id)))": (
        "Ann edited a comment on Home; Bob edited a comment on Home; Cid edited a comment on Home; "
        "others made 3 changes."
    ),
    "[{ text: 'New notification: X' }]": "New notification: X.",
    "[{ text: 'X' }, edited('Bob', '1'), { text: 'Y' }]": "Bob edited a comment on Home; 2 new notifications.",
}


async def test_what_others_do_is_told_in_one_sentence(page: Page) -> None:
    script = f"return [{', '.join(SENTENCES)}].map(inOneSentence);"
    told = await run_with(page, _WORDS, script)
    assert dict(zip(SENTENCES, told, strict=True)) == SENTENCES


NOT_SEEN = [
    "change('Bob', '1', said('1'), said('1', { version: 2 }))",
    "change('Bob', '1', said('1', { deleted_at: 'now' }), said('1', { deleted_at: 'now', version: 3 }))",
    "change('Bob', '1', undefined, undefined, 'delete')",
    "deed({ kind: 'activity', change: 'enter', id: '1', doc: {} }, undefined, names)",
]


async def test_what_nobody_would_see_is_not_told(page: Page) -> None:
    assert await run_with(page, _WORDS, f"return [{', '.join(NOT_SEEN)}];") == [None] * len(NOT_SEEN)
