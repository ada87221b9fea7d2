import assert from "node:assert/strict";
import { test } from "node:test";

import { Frame } from "./frame.ts";

// Radiological: the first axis, towards the patient's right, runs to the left of the screen; the
// second, towards the head, upwards; 2 pixels a voxel across, 5 upwards.
const radiological = new Frame({ x: 100, y: 200 }, { x: -2, y: 0 }, { x: 0, y: -5 });

test("the screen's position of a point is that of the origin and so many steps", () => {
  assert.deepEqual(radiological.toScreen([10, 4]), { x: 80, y: 180 });
});

test("a pixel's point is the fraction of voxels that it is from the origin", () => {
  // 5 pixels to the left of the origin and 15 below it.
  assert.deepEqual(radiological.toPlane(95, 215), [2.5, -3]);
});

test("a plane that is turned on the screen has the same points both ways", () => {
  const turned = new Frame({ x: 10, y: 20 }, { x: 1, y: 3 }, { x: -6, y: 2 });
  // (10, 20) + 2 * (1, 3) + 5 * (-6, 2)
  assert.deepEqual(turned.toScreen([2, 5]), { x: -18, y: 36 });
  assert.deepEqual(turned.toPlane(-18, 36), [2, 5]);
});

test("the step to the right of the screen is towards the patient's left", () => {
  assert.deepEqual(radiological.stepTowards(1, 0), [-1, 0]);
});

test("the step up the screen is towards the head", () => {
  assert.deepEqual(radiological.stepTowards(0, -1), [0, 1]);
});
