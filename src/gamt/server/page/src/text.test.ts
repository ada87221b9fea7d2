import assert from "node:assert/strict";
import { test } from "node:test";

import { gridText, placeText, volumeText } from "./text.ts";

test("volumes have about three figures, and a small one isn't shown as none", () => {
  const texts = [0, 0.004, 0.424, 12.34, 1530.4].map(volumeText);
  assert.deepEqual(texts, ["0 ml", "< 0.01 ml", "0.42 ml", "12.3 ml", "1530 ml"]);
});

// The file has its voxels from left to right as (k, 19 - i, 14 - j).
const FILE = {
  file_voxel: [
    [0, 0, 1, 0],
    [-1, 0, 0, 19],
    [0, -1, 0, 14],
  ],
};

test("a point is told as the file counts voxels", () => {
  const point = { kind: "point", positive: true, voxel: [2, 10, 30], id: 1 } as const;
  assert.equal(placeText(FILE, { ...point, voxel: [2, 10, 30] }), "30, 17, 4");
});

test("a box on one slice is named by the slice, a 3-D one by its size", () => {
  const box = { kind: "box", positive: true, low: [2, 10, 30], high: [12, 11, 34], id: 1 } as const;
  assert.equal(
    placeText(FILE, { ...box, low: [2, 10, 30], high: [12, 11, 34], plane: "coronal" }),
    "coronal 4",
  );
  assert.equal(
    placeText(FILE, { ...box, low: [2, 10, 30], high: [12, 11, 34], plane: null }),
    "4 × 10 × 1",
  );
});

test("spacing is written without zeros that say nothing", () => {
  const text = gridText({ shape: [20, 15, 31], spacing_mm: [0.8, 0.7031, 2.5], ...FILE });
  assert.equal(text, "31 × 20 × 15 voxels, 2.5 × 0.8 × 0.703 mm");
});
