/**
 * Voxels as the scan's file counts them: what people read, and what `gamt segment` takes.
 *
 * Everywhere else on the page a voxel is that of the image which the server sends.
 */

import { NORMAL } from "./planes.ts";
import type { Plane, Scan, Vec3 } from "./types.ts";

type Grid = Pick<Scan, "file_voxel">;

/** Returns the file's voxel of one of the page's. */
export function fileVoxel({ file_voxel }: Grid, [i, j, k]: Readonly<Vec3>): Vec3 {
  return file_voxel.map(([a = 0, b = 0, c = 0, shift = 0]) => a * i + b * j + c * k + shift) as Vec3;
}

/** Returns a number for each axis of the page, such as a size, in the order of the file's axes. */
export function alongFileAxes({ file_voxel }: Grid, sizes: Readonly<Vec3>): Vec3 {
  return file_voxel.map((row) => sizes[axisOf(row)]) as Vec3;
}

/** Returns the file's index of a plane's slice. */
export function fileIndex(grid: Grid, plane: Plane, index: number): number {
  const voxel: Vec3 = [0, 0, 0];
  voxel[NORMAL[plane]] = index;
  const axis = grid.file_voxel.findIndex((row) => axisOf(row) === NORMAL[plane]);
  return fileVoxel(grid, voxel)[axis as 0 | 1 | 2];
}

/** The page's axis that a row follows. */
function axisOf(row: readonly number[]): 0 | 1 | 2 {
  return row.findIndex((factor) => factor !== 0) as 0 | 1 | 2;
}
