import assert from "node:assert/strict";
import { test } from "node:test";

import { gridText, placeText, volumeText } from "./text.ts";

test("volumes have about three figures, and a small one isn't shown as none", () => {
  const texts = [0, 0.004, 0.424, 12.34, 1530.4].map(volumeText);
  assert.deepEqual(texts, ["0 ml", "< 0.01 ml", "0.42 ml", "12.3 ml", "1530 ml"]);
});

test("a box on one slice is named by the slice, a 3-D one by its size", () => {
  const box = { kind: "box", positive: true, low: [2, 10, 30], high: [12, 11, 34], id: 1 } as const;
  assert.equal(
    placeText({ ...box, low: [2, 10, 30], high: [12, 11, 34], plane: "coronal" }),
    "coronal 10",
  );
  assert.equal(
    placeText({ ...box, low: [2, 10, 30], high: [12, 11, 34], plane: null }),
    "10 × 1 × 4",
  );
});

test("spacing is written without zeros that say nothing", () => {
  const text = gridText([4, 5, 6], [0.8, 0.7031, 2.5]);
  assert.equal(text, "4 × 5 × 6 voxels, 0.8 × 0.703 × 2.5 mm");
});
