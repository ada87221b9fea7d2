/** A coarser copy of a volume, with which the 3-D view stays quick. */

import type { Vec3 } from "../types.ts";
import type { Voxels } from "./nifti.ts";

/** The shape of the coarser copy: at most `most` voxels along each axis. */
export function thinShape(shape: Vec3, most: number): Vec3 {
  return shape.map((size) => Math.min(size, most)) as Vec3;
}

/**
 * The index in the full volume of each index along an axis of the coarser one.
 *
 * Both volumes reach equally far; a coarse voxel has the value at its centre.
 */
export function thinIndices(size: number, coarse: number): number[] {
  return Array.from({ length: coarse }, (_, n) => Math.floor(((n + 0.5) * size) / coarse));
}

/**
 * Brings the part of a coarse volume up to date that lies within bounds of the full one.
 *
 * @param coarse All of the coarse volume, i fastest; it is changed.
 * @param voxels Of the full volume within `low` and `high` (half-open), i fastest.
 */
export function thin(
  coarse: Voxels,
  coarseShape: Vec3,
  shape: Vec3,
  low: Vec3,
  high: Vec3,
  voxels: Voxels,
): void {
  const [is, js, ks] = ([0, 1, 2] as const).map((axis) =>
    thinIndices(shape[axis], coarseShape[axis])
      .map((full, n) => [n, full - low[axis]] as const)
      .filter(([, full]) => full >= 0 && full < high[axis] - low[axis]),
  ) as [Indices, Indices, Indices];
  const [width, height] = [high[0] - low[0], high[1] - low[1]];
  for (const [k, fullK] of ks) {
    for (const [j, fullJ] of js) {
      const row = (k * coarseShape[1] + j) * coarseShape[0];
      const fullRow = (fullK * height + fullJ) * width;
      for (const [i, fullI] of is) coarse[row + i] = voxels[fullRow + fullI] as number;
    }
  }
}

type Indices = (readonly [number, number])[];
