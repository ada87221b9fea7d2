/**
 * A box from one corner to the opposite one.
 *
 * Both corners on one slice make a box on that slice, which the target is found from in all
 * directions. Corners on different slices, where one has scrolled in between, make a 3-D box, which
 * nothing is found beyond.
 */

import type { BoxPrompt, Plane, Vec3 } from "../types.ts";
import { NORMAL } from "../planes.ts";
import type { DrawingTool } from "./tool.ts";

/** Returns the box that holds two voxels, both of them inside; drawn on slices of `plane`. */
export function boxBetween(plane: Plane, a: Vec3, b: Vec3, positive: boolean): BoxPrompt {
  const low: Vec3 = [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.min(a[2], b[2])];
  const high: Vec3 = [
    Math.max(a[0], b[0]) + 1,
    Math.max(a[1], b[1]) + 1,
    Math.max(a[2], b[2]) + 1,
  ];
  const isFlat = a[NORMAL[plane]] === b[NORMAL[plane]];
  return { kind: "box", positive, low, high, plane: isFlat ? plane : null };
}

export const box: DrawingTool = {
  isFreehand: false,
  promptOf: (places, positive) => {
    const [first] = places;
    const last = places.at(-1);
    if (first === undefined || last === undefined || places.length < 2) return null;
    return boxBetween(first.plane, first.voxel, last.voxel, positive);
  },
  isComplete: (places) => places.length > 1,
};
