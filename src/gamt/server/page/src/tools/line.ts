/** What scribbles and lassos have in common: a line on the slice that it was begun on. */

import type { DrawnPrompt } from "../types.ts";
import { NORMAL } from "../planes.ts";
import type { Place } from "./tool.ts";

/** Returns the line through places as a prompt, on the first one's slice; null without any. */
export function lineThrough(
  kind: DrawnPrompt["kind"],
  places: readonly Place[],
  positive: boolean,
  radius: number,
): DrawnPrompt | null {
  const [first] = places;
  if (first === undefined) return null;
  const { plane } = first;
  const points = places
    .map((place) => place.point)
    .filter((point, n, all) => n === 0 || !isSame(point, all[n - 1]));
  return { kind, positive, plane, index: first.voxel[NORMAL[plane]], points, radius };
}

/** Whether the last place was marked twice in succession, which is how a line is ended. */
export function endsTwice(places: readonly Place[]): boolean {
  return places.length > 1 && isSame(places.at(-1)?.point, places.at(-2)?.point);
}

/** Whether two points are the same one. */
export function isSame(
  a: readonly [number, number] | undefined,
  b: readonly [number, number] | undefined,
): boolean {
  return a !== undefined && b !== undefined && a[0] === b[0] && a[1] === b[1];
}
