/** Where the voxels of a plane's tile are on the screen. */

import type { Plane, Vec3 } from "../types.ts";
import { onSlice } from "../planes.ts";
import type { View } from "./tool.ts";

interface Point {
  x: number;
  y: number;
}

/**
 * The affine map between a tile's CSS pixels and voxels along its plane's two axes.
 *
 * It goes on beyond the tile and the volume, where the viewer knows of no voxel: there a drag goes on.
 */
export class Frame {
  readonly origin: Point;
  /** Pixels per voxel along the plane's two axes. */
  readonly first: Point;
  readonly second: Point;

  constructor(origin: Point, first: Point, second: Point) {
    this.origin = origin;
    this.first = first;
    this.second = second;
  }

  /** Returns the frame of a plane's tile; null where the plane isn't shown. */
  static of(view: View, plane: Plane, index: number): Frame | null {
    const at = (point: [number, number]): Point | null => {
      const voxel: Vec3 = onSlice(plane, index, point);
      return view.positionOf(plane, voxel);
    };
    const [origin, first, second] = [at([0, 0]), at([1, 0]), at([0, 1])];
    if (origin === null || first === null || second === null) return null;
    return new Frame(
      origin,
      { x: first.x - origin.x, y: first.y - origin.y },
      { x: second.x - origin.x, y: second.y - origin.y },
    );
  }

  /** Returns where on the screen a point of the plane is. */
  toScreen([a, b]: readonly [number, number]): Point {
    const { origin, first, second } = this;
    return {
      x: origin.x + a * first.x + b * second.x,
      y: origin.y + a * first.y + b * second.y,
    };
  }

  /** Returns the point of the plane that is at a pixel. */
  toPlane(x: number, y: number): [number, number] {
    const { origin, first, second } = this;
    const determinant = first.x * second.y - first.y * second.x;
    const [dx, dy] = [x - origin.x, y - origin.y];
    return [
      (dx * second.y - dy * second.x) / determinant,
      (dy * first.x - dx * first.y) / determinant,
    ];
  }

  /** Returns the whole step, along one of the plane's axes, that goes most in a screen's direction. */
  stepTowards(dx: number, dy: number): [number, number] {
    const alongFirst = (this.first.x * dx + this.first.y * dy) / Math.hypot(this.first.x, this.first.y);
    const alongSecond =
      (this.second.x * dx + this.second.y * dy) / Math.hypot(this.second.x, this.second.y);
    return Math.abs(alongFirst) >= Math.abs(alongSecond)
      ? [Math.sign(alongFirst), 0]
      : [0, Math.sign(alongSecond)];
  }
}
