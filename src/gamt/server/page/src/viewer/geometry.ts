/**
 * Where slices lie on the canvas, and which voxel a place on it shows.
 *
 * All lengths on the canvas are in its own pixels, from its top left corner; x runs to the right
 * and y down. A point of a plane is in voxels along its two axes; the centre of voxel 3 is at 3.0.
 *
 * Slices are drawn as radiologists look at them: the patient's left, or back, is on the right, and
 * the front, or head, is up. As i, j and k run towards right, front and head, the columns and rows
 * of every plane run against x and y.
 */

import { AXES, inPlane } from "../planes.ts";
import type { Plane, Vec3 } from "../types.ts";

export type Layout = "all" | Plane | "3d";

/** What is written at a plane's edges: left, top, right and bottom. */
export const LETTERS: Record<Plane, [string, string, string, string]> = {
  axial: ["R", "A", "L", "P"],
  coronal: ["R", "S", "L", "I"],
  sagittal: ["A", "S", "P", "I"],
};

export interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Tile extends Rectangle {
  plane: Plane | "3d";
}

export interface SliceTile extends Rectangle {
  plane: Plane;
}

export interface Grid {
  shape: Vec3;
  spacing_mm: Vec3;
}

/** Which part of the scan is looked at: what lies in the middle of the tiles, and how large. */
export interface View {
  /** In voxels, with fractions. */
  center: Vec3;
  /** 1 where every slice just fits its tile. */
  zoom: number;
}

/** Points of a plane by place: point = origin + step * (x, y). */
export interface Mapping {
  origin: [number, number];
  step: [number, number];
}

/** Pixels between tiles. */
const GAP = 2;

/** Divides the canvas. The four tiles are where 3D Slicer has them. */
export function layTiles(layout: Layout, width: number, height: number): Tile[] {
  if (layout !== "all") return [{ plane: layout, x: 0, y: 0, width, height }];
  const left = Math.floor((width - GAP) / 2);
  const top = Math.floor((height - GAP) / 2);
  const right = { x: left + GAP, width: width - left - GAP };
  const bottom = { y: top + GAP, height: height - top - GAP };
  return [
    { plane: "axial", x: 0, y: 0, width: left, height: top },
    { plane: "3d", ...right, y: 0, height: top },
    { plane: "coronal", x: 0, width: left, ...bottom },
    { plane: "sagittal", ...right, ...bottom },
  ];
}

/** The view that shows all of the scan. */
export function wholeView(grid: Grid): View {
  const [ni, nj, nk] = grid.shape;
  return { center: [(ni - 1) / 2, (nj - 1) / 2, (nk - 1) / 2], zoom: 1 };
}

export function mapTile(grid: Grid, view: View, tile: SliceTile): Mapping {
  const [column, row] = AXES[tile.plane];
  const mmPerPixel =
    Math.max(
      (grid.shape[column] * grid.spacing_mm[column]) / tile.width,
      (grid.shape[row] * grid.spacing_mm[row]) / tile.height,
    ) / view.zoom;
  const step: [number, number] = [
    -mmPerPixel / grid.spacing_mm[column],
    -mmPerPixel / grid.spacing_mm[row],
  ];
  return {
    step,
    origin: [
      view.center[column] - step[0] * (tile.x + tile.width / 2),
      view.center[row] - step[1] * (tile.y + tile.height / 2),
    ],
  };
}

export function pointAt({ origin, step }: Mapping, x: number, y: number): [number, number] {
  return [origin[0] + step[0] * x, origin[1] + step[1] * y];
}

export function placeOf({ origin, step }: Mapping, point: [number, number]): [number, number] {
  return [(point[0] - origin[0]) / step[0], (point[1] - origin[1]) / step[1]];
}

export function isInside(grid: Grid, voxel: Vec3): boolean {
  return voxel.every((index, axis) => index >= 0 && index < (grid.shape[axis] as number));
}

export function covers(tile: Rectangle, x: number, y: number): boolean {
  return x >= tile.x && x < tile.x + tile.width && y >= tile.y && y < tile.y + tile.height;
}

const LEAST_ZOOM = 0.5;
const LARGEST_ZOOM = 64;

/** Enlarges by `factor` around a place on a tile, which goes on showing the same point. */
export function zoomAround(
  grid: Grid,
  view: View,
  tile: SliceTile,
  factor: number,
  x: number,
  y: number,
): View {
  const zoom = Math.min(Math.max(view.zoom * factor, LEAST_ZOOM), LARGEST_ZOOM);
  const point = pointAt(mapTile(grid, view, tile), x, y);
  const center: Vec3 = [...view.center];
  const [column, row] = AXES[tile.plane];
  center[column] = point[0] + ((center[column] - point[0]) * view.zoom) / zoom;
  center[row] = point[1] + ((center[row] - point[1]) * view.zoom) / zoom;
  return { center, zoom };
}

/** Moves a tile's picture by (dx, dy), as far as the middle of the tile stays in the scan. */
export function moveBy(grid: Grid, view: View, tile: SliceTile, dx: number, dy: number): View {
  const { step } = mapTile(grid, view, tile);
  const [column, row] = AXES[tile.plane];
  const center: Vec3 = [...view.center];
  const within = (value: number, axis: 0 | 1 | 2) =>
    Math.min(Math.max(value, 0), grid.shape[axis] - 1);
  center[column] = within(center[column] - step[0] * dx, column);
  center[row] = within(center[row] - step[1] * dy, row);
  return { ...view, center };
}

/** Moves the view to a voxel along those of a tile's axes where the tile doesn't show it. */
export function bringIntoSight(grid: Grid, view: View, tile: SliceTile, voxel: Vec3): View {
  const [x, y] = placeOf(mapTile(grid, view, tile), inPlane(tile.plane, voxel));
  const [column, row] = AXES[tile.plane];
  const center: Vec3 = [...view.center];
  if (x < tile.x || x >= tile.x + tile.width) center[column] = voxel[column];
  if (y < tile.y || y >= tile.y + tile.height) center[row] = voxel[row];
  return { ...view, center };
}
