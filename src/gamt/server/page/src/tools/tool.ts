/** What the tools need to know of the rest of the page, and what each of them is. */

import type { NewPrompt, Plane, State, Vec3 } from "../types.ts";

export type Tool = "point" | "box" | "scribble" | "lasso" | "window" | "navigate";

/** A position on a slice. */
export interface Place {
  plane: Plane;
  /** The voxel that it lies in. */
  voxel: Vec3;
  /** In voxels along the plane's two axes, in the order i, j, k; a voxel's centre is a whole number. */
  point: [number, number];
}

/** A rectangle of the canvas, in CSS pixels from its upper left corner. */
export interface Tile {
  plane: Plane | "3d";
  x: number;
  y: number;
  width: number;
  height: number;
  /** The slice that is shown; null in 3-D. */
  index: number | null;
}

/** What the tools use of the viewer. Positions are in CSS pixels from the canvas's corner. */
export interface View {
  readonly crosshair: Vec3;
  setCrosshair(voxel: Vec3): void;
  /** Null where there is no slice, or no voxel of it. */
  voxelAt(x: number, y: number): Place | null;
  /** Null where the plane isn't shown. */
  positionOf(plane: Plane, point: Vec3): { x: number; y: number } | null;
  tiles(): Tile[];
  scroll(plane: Plane, steps: number): void;
  zoom(plane: Plane | "3d", factor: number, x: number, y: number): void;
  pan(plane: Plane, dx: number, dy: number): void;
  rotate(dx: number, dy: number): void;
  /** Calls the listener after every redraw that moved or changed tiles. */
  onChange(listener: () => void): void;
}

/** What the tools read of the page, and what they ask of it. */
export interface ToolHost {
  /** With the prompts in it that the server hasn't answered yet; their ids are below 0. */
  readonly state: State | null;
  /** What is drawn with the left button; the right one is always negative. */
  readonly positive: boolean;
  /** The id of the prompt that is pointed at, on a slice or in a list. */
  readonly highlighted: number | null;
  /** Null without a scan. */
  readonly window: { level: number; width: number } | null;

  addPrompt(prompt: NewPrompt): void;
  removePrompt(id: number): void;
  highlight(id: number | null): void;
  setWindow(level: number, width: number): void;
  /** Says to screen readers what a key has done. */
  announce(text: string): void;
}

/** A tool whose drags, clicks or presses of Enter make a prompt of the places that they mark. */
export interface DrawingTool {
  /** Whether a drag marks all places on its way, or only where it begins and ends. */
  readonly isFreehand: boolean;
  /** Returns the prompt that the places make so far; null where they are too few. */
  promptOf(places: readonly Place[], positive: boolean): NewPrompt | null;
  /** Whether the last place, marked by a click or by Enter, was the prompt's last. */
  isComplete(places: readonly Place[]): boolean;
}
