/** Planes of a volume of voxels [i, j, k], and positions on their slices. */

import type { Place } from "./tools/tool.ts";
import type { Plane, Vec3 } from "./types.ts";

type Axis = 0 | 1 | 2;

/** The axis that a plane's slices are counted along. */
export const NORMAL: Readonly<Record<Plane, Axis>> = { sagittal: 0, coronal: 1, axial: 2 };

/** The two axes within a plane's slices. */
export const AXES: Readonly<Record<Plane, readonly [Axis, Axis]>> = {
  sagittal: [1, 2],
  coronal: [0, 2],
  axial: [0, 1],
};

/** Returns the voxel position of a point on the slice `index`. */
export function onSlice(plane: Plane, index: number, point: readonly [number, number]): Vec3 {
  const position: Vec3 = [0, 0, 0];
  position[NORMAL[plane]] = index;
  position[AXES[plane][0]] = point[0];
  position[AXES[plane][1]] = point[1];
  return position;
}

/** Returns a position without its coordinate along the plane's normal. */
export function inPlane(plane: Plane, position: Readonly<Vec3>): [number, number] {
  const [first, second] = AXES[plane];
  return [position[first], position[second]];
}

/** Returns the nearest position within a volume, whose outer voxels reach half a voxel further. */
export function clampPosition(position: Readonly<Vec3>, shape: Readonly<Vec3>): Vec3 {
  const within = (value: number, size: number): number =>
    Math.min(Math.max(value, -0.5), size - 0.5);
  return [
    within(position[0], shape[0]),
    within(position[1], shape[1]),
    within(position[2], shape[2]),
  ];
}

/** Returns the voxel of a volume that holds a position, or is nearest to it. */
export function nearestVoxel(position: Readonly<Vec3>, shape: Readonly<Vec3>): Vec3 {
  const nearest = (value: number, size: number): number =>
    Math.min(Math.max(Math.round(value), 0), size - 1);
  return [
    nearest(position[0], shape[0]),
    nearest(position[1], shape[1]),
    nearest(position[2], shape[2]),
  ];
}

/** Returns the place of a point on a slice, or the nearest one of the volume. */
export function placeOn(
  plane: Plane,
  index: number,
  point: readonly [number, number],
  shape: Readonly<Vec3>,
): Place {
  const position = clampPosition(onSlice(plane, index, point), shape);
  return { plane, voxel: nearestVoxel(position, shape), point: inPlane(plane, position) };
}

/** Returns the place of a voxel's centre. */
export function centreOf(plane: Plane, voxel: Readonly<Vec3>): Place {
  return { plane, voxel: [...voxel], point: inPlane(plane, voxel) };
}
