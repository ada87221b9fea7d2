/** A line of which every voxel is inside of the target, or outside. */

import { endsTwice, lineThrough } from "./line.ts";
import type { DrawingTool } from "./tool.ts";

/** In voxels. Every voxel of a scribble is taken as certain, so that it is as thin as it looks. */
const RADIUS = 0.5;

export const scribble: DrawingTool = {
  isFreehand: true,
  promptOf: (places, positive) => lineThrough("scribble", places, positive, RADIUS),
  isComplete: endsTwice,
};
