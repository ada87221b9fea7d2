import assert from "node:assert/strict";
import { test } from "node:test";

import { alongFileAxes, fileIndex, fileVoxel } from "./voxels.ts";

// Of 5 × 6 × 7 voxels, whose file has them as (k, 4 - i, 5 - j).
const SCAN = {
  file_voxel: [
    [0, 0, 1, 0],
    [-1, 0, 0, 4],
    [0, -1, 0, 5],
  ],
};

test("a voxel is told as the file counts it, whose axes run the other way and in another order", () => {
  assert.deepEqual(fileVoxel(SCAN, [1, 2, 6]), [6, 3, 3]);
});

test("a slice is told by the file's index along the axis that the plane is across", () => {
  assert.equal(fileIndex(SCAN, "sagittal", 1), 3);
  assert.equal(fileIndex(SCAN, "coronal", 0), 5);
  assert.equal(fileIndex(SCAN, "axial", 6), 6);
});

test("sizes are told in the order of the file's axes", () => {
  assert.deepEqual(alongFileAxes(SCAN, [5, 6, 7]), [7, 5, 6]);
});
