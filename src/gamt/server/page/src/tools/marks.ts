/** Prompts as SVG, in the tile of one slice. */

import type { BoxPrompt, DrawnPrompt, NewPrompt, Plane, PointPrompt } from "../types.ts";
import type { Frame } from "./frame.ts";
import { AXES, inPlane, NORMAL } from "../planes.ts";

/** How visible a point is from its own slice, and from those one, two and three slices away. */
const FADING = [1, 0.5, 0.3, 0.15];
/** Of a point's sign, from its middle, in pixels. */
const RADIUS = 7;
/** Narrower lines are hard to see, in pixels. */
const LEAST_WIDTH = 3;

type Point = readonly [number, number];

export function element<Name extends keyof SVGElementTagNameMap>(
  name: Name,
  attributes: Readonly<Record<string, string | number>>,
): SVGElementTagNameMap[Name] {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

/** Returns a prompt as it is seen on a slice; null where it isn't. */
export function drawPrompt(
  prompt: NewPrompt,
  plane: Plane,
  index: number,
  frame: Frame,
): SVGGElement | null {
  switch (prompt.kind) {
    case "point":
      return drawPoint(prompt, plane, index, frame);
    case "box":
      return drawBox(prompt, plane, index, frame);
    case "scribble":
    case "lasso":
      if (prompt.plane !== plane || prompt.index !== index) return null;
      return drawLine(prompt, frame);
  }
}

/** Positive ones are circles with a plus, negative ones diamonds with a minus. */
function drawPoint(
  prompt: PointPrompt,
  plane: Plane,
  index: number,
  frame: Frame,
): SVGGElement | null {
  const opacity = FADING[Math.abs(prompt.voxel[NORMAL[plane]] - index)];
  if (opacity === undefined) return null;
  const { x, y } = frame.toScreen(inPlane(plane, prompt.voxel));
  const group = start(prompt);
  group.setAttribute("opacity", String(opacity));
  const r = RADIUS;
  const outline = prompt.positive
    ? `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`
    : `M${x - 1.3 * r} ${y}l${1.3 * r} ${-1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}z`;
  const sign = prompt.positive ? `M${x - 4} ${y}h8M${x} ${y - 4}v8` : `M${x - 4} ${y}h8`;
  group.append(
    element("path", { d: outline, class: "disc" }),
    element("path", { d: sign, class: "sign" }),
  );
  return group;
}

/** The section of a box with the slice. */
function drawBox(prompt: BoxPrompt, plane: Plane, index: number, frame: Frame): SVGGElement | null {
  const { low, high } = prompt;
  const normal = NORMAL[plane];
  if (index < low[normal] || index >= high[normal]) return null;
  const [a, b] = AXES[plane];
  // A voxel reaches half of its size beyond its centre.
  const [a0, a1, b0, b1] = [low[a] - 0.5, high[a] - 0.5, low[b] - 0.5, high[b] - 0.5];
  const outline = pathThrough(
    [
      [a0, b0],
      [a1, b0],
      [a1, b1],
      [a0, b1],
    ],
    frame,
    true,
  );
  return stroke(start(prompt), outline, LEAST_WIDTH - 1);
}

function drawLine(prompt: DrawnPrompt, frame: Frame): SVGGElement {
  const isClosed = prompt.kind === "lasso";
  const outline = pathThrough(prompt.points, frame, isClosed);
  const { first, second } = frame;
  const voxel = Math.min(Math.hypot(first.x, first.y), Math.hypot(second.x, second.y));
  const width = Math.max(LEAST_WIDTH - (isClosed ? 1 : 0), 2 * prompt.radius * voxel);
  return stroke(start(prompt), outline, width);
}

/** Returns the line through points of the plane, on the screen. */
export function pathThrough(points: readonly Point[], frame: Frame, isClosed: boolean): string {
  const corners = points.map((point) => {
    const { x, y } = frame.toScreen(point);
    return `${x.toFixed(1)} ${y.toFixed(1)}`;
  });
  // To the last one twice: a line of a single point is a dot.
  return `M${corners.join("L")}${isClosed ? "Z" : `L${corners.at(-1) ?? ""}`}`;
}

function start(prompt: NewPrompt): SVGGElement {
  const sign = prompt.positive ? "positive" : "negative";
  return element("g", { class: `prompt ${prompt.kind} ${sign}` });
}

/** Adds a line: a dark rim to be seen on any grey, the colour, and what the pointer can hit. */
function stroke(group: SVGGElement, d: string, width: number): SVGGElement {
  group.append(
    element("path", { d, class: "rim", "stroke-width": width + 2 }),
    element("path", { d, class: "ink", "stroke-width": width }),
    element("path", { d, class: "hit", "stroke-width": Math.max(width, 12) }),
  );
  return group;
}
