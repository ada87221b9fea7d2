/** Numbers and names as the page writes them. */

import { NORMAL } from "./planes.ts";
import type { Busy, LastPrediction, Plane, Prompt, Scan, State, Vec3 } from "./types.ts";
import { alongFileAxes, fileIndex, fileVoxel } from "./voxels.ts";

const KINDS: Record<string, string> = {
  point: "Point",
  box: "Box",
  scribble: "Scribble",
  lasso: "Lasso",
  mask: "Mask",
};

/** Such as 0.42 ml, 12.3 ml and 1530 ml: three figures are enough to compare by. */
export function volumeText(millilitres: number): string {
  if (millilitres === 0) return "0 ml";
  const decimals = millilitres < 10 ? 2 : millilitres < 100 ? 1 : 0;
  return millilitres < 0.01 ? "< 0.01 ml" : `${millilitres.toFixed(decimals)} ml`;
}

/** Such as 0.14 s and 12.4 s. */
export function secondsText(seconds: number): string {
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

/** Such as "Box": what a prompt, or a step that is no prompt, is called. */
export function kindText(kind: string): string {
  return KINDS[kind] ?? kind.charAt(0).toUpperCase() + kind.slice(1);
}

/** Where a prompt is, in voxels of the scan's file. */
export function placeText(scan: Pick<Scan, "file_voxel">, prompt: Prompt): string {
  switch (prompt.kind) {
    case "point":
      return fileVoxel(scan, prompt.voxel).join(", ");
    case "box":
      if (prompt.plane) return sliceText(scan, prompt.plane, prompt.low[NORMAL[prompt.plane]]);
      return alongFileAxes(
        scan,
        prompt.high.map((high, axis) => high - (prompt.low[axis] ?? 0)) as Vec3,
      ).join(" × ");
    case "mask":
      return prompt.name;
    default:
      return sliceText(scan, prompt.plane, prompt.index);
  }
}

function sliceText(scan: Pick<Scan, "file_voxel">, plane: Plane, index: number): string {
  return `${plane} ${fileIndex(scan, plane, index)}`;
}

/** A target's name. */
export function targetName(state: State, target: number): string {
  return state.targets.find(({ id }) => id === target)?.name ?? `target ${target}`;
}

/** What the server is doing. */
export function busyText(state: State, busy: Busy): string {
  const slices = busy.planned > 0 ? ` · slice ${busy.done} of ${busy.planned}` : "";
  return `${kindText(busy.kind)} · ${targetName(state, busy.target)}${slices}`;
}

/** What the last prediction was, how long it took, and what it has looked at. */
export function lastText(state: State, last: LastPrediction): string {
  const parts = [
    `${kindText(last.kind)} · ${targetName(state, last.target)}`,
    secondsText(last.seconds),
  ];
  if (last.planes.length > 0) parts.push(`${last.planes.join(", ")} voted`);
  if (last.slices > 0) parts.push(`${last.slices} ${last.slices === 1 ? "slice" : "slices"}`);
  if (!last.complete) parts.push("cut short");
  return parts.join(" · ");
}

/** The scan as its file has it, such as "256 × 256 × 120, 0.8 × 0.8 × 2.5 mm". */
export function gridText(scan: Pick<Scan, "shape" | "spacing_mm" | "file_voxel">): string {
  const spacing = alongFileAxes(scan, scan.spacing_mm);
  const mm = spacing.map((one) => String(Number(one.toPrecision(3)))).join(" × ");
  return `${alongFileAxes(scan, scan.shape).join(" × ")} voxels, ${mm} mm`;
}
