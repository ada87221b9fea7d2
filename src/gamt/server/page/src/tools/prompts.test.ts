import assert from "node:assert/strict";
import { test } from "node:test";

import type { Plane, Vec3 } from "../types.ts";
import { box } from "./box.ts";
import { Draft } from "./draft.ts";
import { lasso } from "./lasso.ts";
import { centreOf } from "../planes.ts";
import { point } from "./point.ts";
import { scribble } from "./scribble.ts";
import type { DrawingTool, Place } from "./tool.ts";

const at = (i: number, j: number, k: number, plane: Plane = "axial"): Place =>
  centreOf(plane, [i, j, k]);

/** Marks places one by one, by clicks or by Enter, as long as the prompt isn't complete. */
function click(tool: DrawingTool, ...places: Place[]): Draft {
  const [first, ...others] = places;
  assert.ok(first);
  let draft = Draft.begin(tool, true, first);
  for (const place of others) {
    assert.equal(draft.isComplete, false);
    draft = draft.mark(place);
  }
  return draft;
}

test("a point is complete with one click, and is its voxel", () => {
  const draft = click(point, at(3, 4, 5));
  assert.equal(draft.isComplete, true);
  assert.deepEqual(draft.prompt, { kind: "point", positive: true, voxel: [3, 4, 5] });
});

test("a box holds the voxels of both corners, whichever comes first", () => {
  const draft = click(box, at(8, 2, 5), at(3, 4, 5));
  assert.equal(draft.isComplete, true);
  const [low, high]: Vec3[] = [
    [3, 2, 5],
    [9, 5, 6],
  ];
  assert.deepEqual(draft.prompt, { kind: "box", positive: true, low, high, plane: "axial" });
});

test("a box of one voxel's width is still drawn on the slice of its plane", () => {
  const { prompt } = click(box, at(3, 7, 2, "coronal"), at(3, 7, 6, "coronal"));
  const [low, high]: Vec3[] = [
    [3, 7, 2],
    [4, 8, 7],
  ];
  assert.deepEqual(prompt, { kind: "box", positive: true, low, high, plane: "coronal" });
});

test("a box between slices is of no plane", () => {
  const { prompt } = click(box, at(3, 4, 9), at(8, 6, 5));
  const [low, high]: Vec3[] = [
    [3, 4, 5],
    [9, 7, 10],
  ];
  assert.deepEqual(prompt, { kind: "box", positive: true, low, high, plane: null });
});

test("a box has no prompt with one corner, but shows what it would be at the pointer", () => {
  const draft = click(box, at(3, 4, 5)).moveTo(at(5, 6, 5));
  assert.equal(draft.prompt, null);
  assert.equal(draft.preview?.kind === "box" && draft.preview.high.join(), "6,7,6");
});

test("a scribble ends where a corner is marked twice, and holds it once", () => {
  const draft = click(scribble, at(1, 5, 2, "coronal"), at(4, 5, 6, "coronal"), at(4, 5, 6, "coronal"));
  assert.equal(draft.isComplete, true);
  assert.deepEqual(draft.prompt, {
    kind: "scribble",
    positive: true,
    plane: "coronal",
    index: 5,
    points: [
      [1, 2],
      [4, 6],
    ],
    radius: 0.5,
  });
});

test("a scribble that is marked twice at once is a dot", () => {
  const { prompt } = click(scribble, at(1, 2, 3), at(1, 2, 3));
  assert.deepEqual(prompt?.kind === "scribble" && prompt.points, [[1, 2]]);
});

test("a lasso ends at its first corner, which it holds once", () => {
  const draft = click(lasso, at(1, 1, 3), at(6, 1, 3), at(6, 8, 3), at(1, 1, 3));
  assert.equal(draft.isComplete, true);
  const { prompt } = draft;
  assert.deepEqual(prompt?.kind === "lasso" && [prompt.index, prompt.points], [
    3,
    [
      [1, 1],
      [6, 1],
      [6, 8],
    ],
  ]);
});

test("a lasso of two corners is no prompt", () => {
  assert.equal(click(lasso, at(1, 1, 3), at(6, 1, 3), at(6, 1, 3)).prompt, null);
});

test("a line that goes on after a scroll stays on the slice that it was begun on", () => {
  const { prompt } = click(scribble, at(1, 1, 3), at(6, 1, 9));
  assert.equal(prompt?.kind === "scribble" && prompt.index, 3);
});

test("taking back leaves the corners before, and nothing of the first one", () => {
  const draft = click(lasso, at(1, 1, 3), at(6, 1, 3), at(6, 8, 3));
  assert.deepEqual(draft.takeBack()?.places.length, 2);
  assert.equal(click(lasso, at(1, 1, 3)).takeBack(), null);
});
