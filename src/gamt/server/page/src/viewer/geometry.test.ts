import assert from "node:assert/strict";
import { test } from "node:test";

import { inPlane } from "../planes.ts";
import type { Vec3 } from "../types.ts";
import {
  bringIntoSight,
  type Grid,
  layTiles,
  mapTile,
  moveBy,
  placeOf,
  pointAt,
  type SliceTile,
  wholeView,
  zoomAround,
} from "./geometry.ts";

/** 100 x 60 x 10 mm. */
const GRID: Grid = { shape: [50, 60, 4], spacing_mm: [2, 1, 2.5] };

/** Twice the axial slice's width, and as high as two and a half of them: 2 pixels per mm. */
const AXIAL: SliceTile = { plane: "axial", x: 10, y: 20, width: 200, height: 300 };

const close = (actual: readonly number[], expected: readonly number[]) =>
  actual.forEach((value, n) =>
    assert.ok(Math.abs(value - (expected[n] as number)) < 1e-9, `${actual}`),
  );

test("a slice fits its tile, in the middle and in its true proportions", () => {
  const mapping = mapTile(GRID, wholeView(GRID), AXIAL);
  // Its width decides: 100 mm on 200 pixels. So 60 mm are 120 pixels, from 20 + (300 - 120) / 2 on.
  // The patient's right is on the left, and the front above: the last voxels' outer corners.
  close(placeOf(mapping, [49.5, 59.5]), [10, 110]);
  close(placeOf(mapping, [-0.5, -0.5]), [210, 230]);
});

test("the patient's left is on the right and the head above on a coronal slice", () => {
  const mapping = mapTile(GRID, wholeView(GRID), { ...AXIAL, plane: "coronal" });
  const [x, y] = placeOf(mapping, inPlane("coronal", [0, 30, 3]));
  const [xRight, yLower] = placeOf(mapping, inPlane("coronal", [49, 30, 0]));
  assert.ok(x > xRight && y < yLower);
});

test("the patient's front is on the left on a sagittal slice", () => {
  const mapping = mapTile(GRID, wholeView(GRID), { ...AXIAL, plane: "sagittal" });
  const [front] = placeOf(mapping, inPlane("sagittal", [25, 59, 2]));
  const [back] = placeOf(mapping, inPlane("sagittal", [25, 0, 2]));
  assert.ok(front < back);
});

test("zooming keeps the point under the pointer, in the other planes the middle", () => {
  const view = wholeView(GRID);
  const before = pointAt(mapTile(GRID, view, AXIAL), 50, 150);
  const zoomed = zoomAround(GRID, view, AXIAL, 3, 50, 150);
  close(pointAt(mapTile(GRID, zoomed, AXIAL), 50, 150), before);
  assert.equal(zoomed.zoom, 3);
  assert.equal(zoomed.center[2], view.center[2]);
});

test("zooming ends at a limit, and moves nothing there", () => {
  const view = { ...wholeView(GRID), zoom: 0.5 };
  assert.deepEqual(zoomAround(GRID, view, AXIAL, 0.5, 50, 150), view);
});

test("a drag moves the picture with the pointer", () => {
  const view = wholeView(GRID);
  const point = pointAt(mapTile(GRID, view, AXIAL), 100, 160);
  const moved = moveBy(GRID, view, AXIAL, 7, -4);
  close(pointAt(mapTile(GRID, moved, AXIAL), 107, 156), point);
});

test("the scan can't be moved out of sight", () => {
  const moved = moveBy(GRID, wholeView(GRID), AXIAL, 1e6, -1e6);
  // Right and up: the last i, which is on the left, and the first j, which is below.
  assert.deepEqual(moved.center, [49, 0, 1.5]);
});

test("a view moves to a voxel only along the axis where it isn't seen", () => {
  const view = { ...wholeView(GRID), zoom: 4 };
  // 200 x 300 pixels are 25 x 37.5 mm around the middle: i of 18.25 to 30.75, j of 10.75 to 48.25.
  assert.deepEqual(bringIntoSight(GRID, view, AXIAL, [40, 20, 1]).center, [40, 29.5, 1.5]);
  assert.deepEqual(bringIntoSight(GRID, view, AXIAL, [20, 40, 1]).center, view.center);
});

test("four tiles share the canvas with two pixels between them", () => {
  const places = layTiles("all", 101, 80).map(({ plane, x, y, width, height }) => [
    plane,
    x,
    y,
    width,
    height,
  ]);
  assert.deepEqual(places, [
    ["axial", 0, 0, 49, 39],
    ["3d", 51, 0, 50, 39],
    ["coronal", 0, 41, 49, 39],
    ["sagittal", 51, 41, 50, 39],
  ]);
});

test("a single plane has all of the canvas", () => {
  assert.deepEqual(layTiles("coronal", 30, 20), [
    { plane: "coronal", x: 0, y: 0, width: 30, height: 20 },
  ]);
});

test("the middle of an even number of voxels is between two of them", () => {
  const center: Vec3 = [24.5, 29.5, 1.5];
  assert.deepEqual(wholeView(GRID).center, center);
});
