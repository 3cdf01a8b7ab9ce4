// Nothing on the page may move between pressing the pointer and letting it go: the click would hit something else.

let pressed = false;
let waiting = [];

function release() {
  pressed = false;
  const acts = waiting;
  waiting = [];
  for (const act of acts) act();
}

addEventListener("pointerdown", () => (pressed = true), { capture: true });
for (const name of ["pointerup", "pointercancel"]) {
  // The click comes after it.
  addEventListener(name, () => setTimeout(release), { capture: true });
}

/** Does something that moves other things: at once, or where a pointer is pressed once it was let go. */
export function whenReleased(act) {
  if (pressed) waiting.push(act);
  else act();
}
