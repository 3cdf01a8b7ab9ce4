// How the panel is laid out: its tabs, and that what somebody writes in stays where it is.

import { h, setAttribute } from "./page-dom.js";

const STEPS = {
  ArrowRight: (index, length) => (index + 1) % length,
  ArrowLeft: (index, length) => (index - 1 + length) % length,
  Home: () => 0,
  End: (_index, length) => length - 1,
};

/** Tabs over panels, of which the first is shown: `panels` by the name of the tab. `chosen(name)` is told of another. */
export function tabs(id, panels, chosen) {
  const names = Object.keys(panels);
  let current = names[0];
  const buttons = names.map((name, index) =>
    h("button", { type: "button", role: "tab", id: `${id}-tab-${index}`, click: () => choose(name) }, name),
  );
  names.forEach((name, index) => {
    const panel = panels[name];
    setAttribute(panel, "role", "tabpanel");
    setAttribute(panel, "id", `${id}-panel-${index}`);
    setAttribute(panel, "aria-labelledby", buttons[index].id);
    setAttribute(buttons[index], "aria-controls", panel.id);
  });

  function show() {
    names.forEach((name, index) => {
      setAttribute(buttons[index], "aria-selected", String(name === current));
      // One stop for the Tab key; the arrow keys lead from one to the next.
      setAttribute(buttons[index], "tabindex", name === current ? "0" : "-1");
      panels[name].hidden = name !== current;
    });
  }

  function choose(name) {
    if (name === current) return;
    current = name;
    show();
    chosen(name);
  }

  function step(event) {
    const index = STEPS[event.key]?.(names.indexOf(current), names.length);
    if (index === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(names[index]);
    buttons[index].focus();
  }

  show();
  const list = h("div", { class: "tabs", role: "tablist", "aria-labelledby": id, keydown: step }, ...buttons);
  return { elements: [list, ...Object.values(panels)], choose };
}

/** Changes something in `element`, and scrolls by as much as that moved what has the focus in it. */
export function holdStill(element, change) {
  const focused = document.activeElement;
  if (!element.contains(focused)) {
    change();
    return;
  }
  const before = focused.getBoundingClientRect().top;
  change();
  if (!focused.isConnected) return;
  const moved = focused.getBoundingClientRect().top - before;
  if (moved) scrollerOf(element).scrollTop += moved;
}

function scrollerOf(element) {
  for (let parent = element.parentElement; parent; parent = parent.parentElement) {
    const scrolls = ["auto", "scroll"].includes(getComputedStyle(parent).overflowY);
    if (scrolls && parent.scrollHeight > parent.clientHeight) return parent;
  }
  return document.scrollingElement;
}
