/** A click: the voxel under it is inside of the target, or outside. */

import type { DrawingTool } from "./tool.ts";

export const point: DrawingTool = {
  isFreehand: false,
  promptOf: ([place], positive) =>
    place === undefined ? null : { kind: "point", positive, voxel: place.voxel },
  isComplete: () => true,
};
