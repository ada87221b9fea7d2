/** A closed line around the target's area on a slice, or around what is to be taken away. */

import { endsTwice, isSame, lineThrough } from "./line.ts";
import type { DrawingTool } from "./tool.ts";

/** Fewer corners have no area. */
const FEWEST = 3;

export const lasso: DrawingTool = {
  isFreehand: true,
  promptOf: (places, positive) => {
    const line = lineThrough("lasso", places, positive, 0);
    if (line === null) return null;
    // The line closes by itself: a last corner on the first one would be there twice.
    if (line.points.length > 1 && isSame(line.points[0], line.points.at(-1))) line.points.pop();
    return line.points.length < FEWEST ? null : line;
  },
  isComplete: (places) =>
    endsTwice(places) || (places.length > FEWEST && isSame(places[0]?.point, places.at(-1)?.point)),
};
