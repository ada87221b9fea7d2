/**
 * What the page and its server tell each other (`gamt/server/annotate/`).
 *
 * A voxel is [i, j, k]: indices into the NIfTI image that the server sends, whose axes run towards
 * the patient's right, front and head, as nearly as the scan's own axes do. Bounds are half-open.
 */

export type Vec3 = [number, number, number];

/** The fixed index of a plane: sagittal i, coronal j, axial k. */
export type Plane = "sagittal" | "coronal" | "axial";

export type Scale = "tight" | "medium" | "large";

interface PromptBase {
  positive: boolean;
}

export interface PointPrompt extends PromptBase {
  kind: "point";
  voxel: Vec3;
}

/** A box on one slice where its bounds along one axis are 1 apart and `plane` names that axis. */
export interface BoxPrompt extends PromptBase {
  kind: "box";
  low: Vec3;
  high: Vec3;
  plane: Plane | null;
}

/**
 * A line drawn on the slice `index` of a plane.
 *
 * `points` are in voxels along the two other axes, in the order i, j, k; the centre of voxel 3 is
 * at 3.0. A scribble holds the voxels whose centres are within `radius` (voxels) of the line, and
 * those that the line crosses; a lasso those whose centres lie inside of the closed line.
 */
export interface DrawnPrompt extends PromptBase {
  kind: "scribble" | "lasso";
  plane: Plane;
  index: number;
  points: [number, number][];
  radius: number;
}

/** A prompt before the server has given it a number. */
export type NewPrompt = PointPrompt | BoxPrompt | DrawnPrompt;

/** A mask that the target began with, drawn nowhere but in the list. */
export interface MaskPrompt extends PromptBase {
  kind: "mask";
  name: string;
}

export type Prompt = (NewPrompt | MaskPrompt) & { id: number };

export interface Target {
  /** 1 to 255: also its value in the label map. */
  id: number;
  name: string;
  /** #rrggbb */
  color: string;
  visible: boolean;
  locked: boolean;
  voxels: number;
  volume_ml: number;
  prompts: Prompt[];
  can_undo: boolean;
  can_redo: boolean;
  /** What a first click can be widened or narrowed to; empty where that is not so. */
  scales: Scale[];
  scale: Scale | null;
  /** What users should know, such as that nothing was found; null where there is nothing. */
  note: string | null;
}

export interface NamedWindow {
  name: string;
  level: number;
  width: number;
}

export interface Scan {
  id: string;
  name: string;
  shape: Vec3;
  spacing_mm: Vec3;
  /** Three rows of four integers: takes a voxel to the file's own, which people are shown. */
  file_voxel: number[][];
  /** Least and largest value. */
  range: [number, number];
  /** What the scan is shown in at first. */
  window: { level: number; width: number };
  /** Such as lung and bone; none where these mean nothing. */
  windows: NamedWindow[];
  /** The folder that Save writes to; null where the page has to download. */
  output: string | null;
  /** What it can be saved as, the first one being usual; `file` is the name that it gets. */
  formats: { id: string; label: string; file: string }[];
}

export interface ImageEntry {
  id: string;
  name: string;
  is_open: boolean;
}

export interface Busy {
  kind: string;
  target: number;
  /** Slices; `planned` may grow. 0 of 0 where they aren't known yet. */
  done: number;
  planned: number;
  seconds: number;
}

export interface LastPrediction {
  kind: string;
  target: number;
  seconds: number;
  /** That voted; empty where nothing was looked at in slices. */
  planes: Plane[];
  slices: number;
  complete: boolean;
}

export interface State {
  /** Rises with every change. */
  revision: number;
  version: string;
  segmenter: string;
  images: ImageEntry[];
  scan: Scan | null;
  targets: Target[];
  /** The current one's id; null without a scan. */
  target: number | null;
  busy: Busy | null;
  last: LastPrediction | null;
  unsaved: boolean;
  /** What an earlier run didn't save of this scan; null where there is nothing. */
  recovery: { saved_at: string; targets: number; prompts: number } | null;
}

/** Labels (uint8) within bounds, with i running fastest. */
export interface Patch {
  low: Vec3;
  high: Vec3;
  labels: Uint8Array<ArrayBuffer>;
}

/** An answer to whatever changes something. */
export interface Change {
  state: State;
  patch: Patch | null;
}
