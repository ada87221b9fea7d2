import assert from "node:assert/strict";
import { test } from "node:test";

import { inPlane, nearestVoxel, onSlice, placeOn } from "./planes.ts";

test("a point of a slice is at the plane's two axes in the order i, j, k", () => {
  assert.deepEqual(onSlice("axial", 7, [1, 2]), [1, 2, 7]);
  assert.deepEqual(onSlice("coronal", 7, [1, 2]), [1, 7, 2]);
  assert.deepEqual(onSlice("sagittal", 7, [1, 2]), [7, 1, 2]);
});

test("a position without its slice is the point that it was made of", () => {
  for (const plane of ["axial", "coronal", "sagittal"] as const)
    assert.deepEqual(inPlane(plane, onSlice(plane, 7, [1.25, 2.5])), [1.25, 2.5]);
});

test("a voxel reaches half of its size to both sides", () => {
  assert.deepEqual(nearestVoxel([2.49, 2.51, 0], [10, 10, 10]), [2, 3, 0]);
});

test("a place beyond the volume is on its edge, in the outer voxel", () => {
  const place = placeOn("coronal", 3, [-20, 90], [10, 20, 30]);
  assert.deepEqual(place, { plane: "coronal", voxel: [0, 3, 29], point: [-0.5, 29.5] });
});
