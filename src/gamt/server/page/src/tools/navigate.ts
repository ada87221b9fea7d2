/** What moves the picture and changes no prompt: drags, and the wheel. */

import type { Plane } from "../types.ts";
import type { ToolHost, View } from "./tool.ts";

/** Follows the pointer, from where it was pressed to where it is let go. */
export type Drag = (x: number, y: number) => void;

/** Pixels of the wheel that count as one notch; touchpads send many smaller ones. */
const NOTCH = 50;
/** Pixels of a wheel that double what is seen, as browsers zoom a page. */
const DOUBLING = 400;
/** Pixels of a drag that change the width of the window by the factor e, or the level by its width. */
const WINDOW_DRAG = 250;

export function panDrag(view: View, plane: Plane, x: number, y: number): Drag {
  return relative(x, y, (dx, dy) => {
    view.pan(plane, dx, dy);
  });
}

export function turnDrag(view: View, x: number, y: number): Drag {
  return relative(x, y, (dx, dy) => {
    view.rotate(dx, dy);
  });
}

/** To the right widens the window, upwards raises its level, as in 3D Slicer. */
export function windowDrag(host: ToolHost, x: number, y: number): Drag {
  const { level, width } = host.window ?? { level: 0, width: 1 };
  return (toX, toY) => {
    host.setWindow(
      level + ((y - toY) / WINDOW_DRAG) * width,
      width * Math.exp((toX - x) / WINDOW_DRAG),
    );
  };
}

/** Follows two fingers: apart zooms in, together out, and both ways it pans. */
export class Pinch {
  readonly #view: View;
  readonly #plane: Plane | "3d";
  #x: number;
  #y: number;
  #distance: number;

  constructor(view: View, plane: Plane | "3d", fingers: readonly Finger[]) {
    this.#view = view;
    this.#plane = plane;
    [this.#x, this.#y, this.#distance] = measure(fingers);
  }

  move(fingers: readonly Finger[]): void {
    const [x, y, distance] = measure(fingers);
    if (this.#plane !== "3d") this.#view.pan(this.#plane, x - this.#x, y - this.#y);
    if (this.#distance > 0 && distance > 0)
      this.#view.zoom(this.#plane, distance / this.#distance, x, y);
    [this.#x, this.#y, this.#distance] = [x, y, distance];
  }
}

export interface Finger {
  x: number;
  y: number;
}

/** Returns the middle of two fingers, and how far they are apart. */
function measure(fingers: readonly Finger[]): [number, number, number] {
  const [a, b] = fingers;
  if (a === undefined || b === undefined) return [0, 0, 0];
  return [(a.x + b.x) / 2, (a.y + b.y) / 2, Math.hypot(a.x - b.x, a.y - b.y)];
}

function relative(x: number, y: number, move: (dx: number, dy: number) => void): Drag {
  return (toX, toY) => {
    move(toX - x, toY - y);
    [x, y] = [toX, toY];
  };
}

/** Returns the factor to zoom by when the wheel has turned by some pixels; away is into the picture. */
export function wheelZoom(pixels: number): number {
  return 2 ** (-pixels / DOUBLING);
}

/** Counts slices to scroll by: one a notch of a wheel, and as many of a touchpad's small steps. */
export class WheelSteps {
  #rest = 0;

  /** Takes pixels that the wheel has turned; returns whole slices, more than 0 for away. */
  turn(pixels: number): number {
    const notches = Math.min(Math.max(-pixels / NOTCH, -1), 1);
    if (notches * this.#rest < 0) this.#rest = 0;
    this.#rest += notches;
    const steps = Math.trunc(this.#rest);
    this.#rest -= steps;
    return steps;
  }
}
