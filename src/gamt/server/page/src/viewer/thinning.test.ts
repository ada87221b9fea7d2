import assert from "node:assert/strict";
import { test } from "node:test";

import type { Vec3 } from "../types.ts";
import { thin, thinIndices, thinShape } from "./thinning.ts";

test("only axes that are too long are thinned", () => {
  assert.deepEqual(thinShape([10, 4, 7], 6), [6, 4, 6]);
});

test("a coarse voxel is the one at its centre", () => {
  // Of 7 voxels, each of 3 coarse ones spans 2 1/3: centres at 1.17, 3.5 and 5.83.
  assert.deepEqual(thinIndices(7, 3), [1, 3, 5]);
  assert.deepEqual(thinIndices(3, 3), [0, 1, 2]);
});

test("a part of the volume changes the coarse voxels that it holds the centres of", () => {
  const shape: Vec3 = [7, 2, 3];
  const coarse = new Uint8Array(3 * 2 * 3);
  // i of 3 to 5, j = 1, k of 1 and 2; of these, the coarse ones are at i = 3 and 5.
  const part = Uint8Array.of(11, 12, 13, 21, 22, 23);
  thin(coarse, [3, 2, 3], shape, [3, 1, 1], [6, 2, 3], part);
  const expected = new Uint8Array(18);
  // Index (k * 2 + j) * 3 + i.
  expected.set([11, 13], (1 * 2 + 1) * 3 + 1);
  expected.set([21, 23], (2 * 2 + 1) * 3 + 1);
  assert.deepEqual(coarse, expected);
});
