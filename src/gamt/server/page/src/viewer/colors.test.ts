import assert from "node:assert/strict";
import { test } from "node:test";

import type { Target } from "../types.ts";
import { colorTable } from "./colors.ts";

const target = (id: number, color: string, visible: boolean): Target => ({
  id,
  color,
  visible,
  name: "",
  locked: false,
  voxels: 0,
  volume_ml: 0,
  prompts: [],
  can_undo: false,
  can_redo: false,
  scales: [],
  scale: null,
  note: null,
});

test("a label has its target's colour, hidden ones and others have no opacity", () => {
  const table = colorTable([target(3, "#0a80ff", true), target(255, "#ffffff", false)], 0.4);
  assert.deepEqual([...table.subarray(12, 16)], [10, 128, 255, 102]);
  assert.equal(table[4 * 255 + 3], 0);
  assert.equal(table[3], 0);
  assert.equal(table[4 + 3], 0);
});

test("a label without filling still counts as shown", () => {
  assert.equal(colorTable([target(1, "#000000", true)], 0)[7], 1);
});
