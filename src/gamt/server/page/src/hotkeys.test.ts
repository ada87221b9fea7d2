import assert from "node:assert/strict";
import { test } from "node:test";

import { comboOf } from "./hotkeys.ts";

function press(
  key: string,
  held: { ctrl?: boolean; shift?: boolean; meta?: boolean } = {},
): string {
  const { ctrl = false, shift = false, meta = false } = held;
  return comboOf({ key, ctrlKey: ctrl, shiftKey: shift, metaKey: meta, altKey: false });
}

test("a letter is the same key with caps lock", () => {
  assert.equal(press("p"), "P");
  assert.equal(press("P"), "P");
});

test("redo has Shift in it, a question mark has not", () => {
  assert.equal(press("Z", { ctrl: true, shift: true }), "Ctrl+Shift+Z");
  assert.equal(press("?", { shift: true }), "?");
});

test("the Command key counts as Ctrl", () => {
  assert.equal(press("s", { meta: true }), "Ctrl+S");
});

test("keys with names keep their modifiers", () => {
  assert.equal(press("Escape"), "Escape");
  assert.equal(press("Tab", { shift: true }), "Shift+Tab");
});
