/** The layer over the canvas that takes all of the pointer's events and shows the prompts. */

import type { NewPrompt, Plane, Scan, Vec3 } from "../types.ts";
import { fileVoxel } from "../voxels.ts";
import { box } from "./box.ts";
import { Draft } from "./draft.ts";
import { Frame } from "./frame.ts";
import { lasso } from "./lasso.ts";
import { drawPrompt, element, pathThrough } from "./marks.ts";
import {
  type Drag,
  type Finger,
  panDrag,
  Pinch,
  turnDrag,
  WheelSteps,
  wheelZoom,
  windowDrag,
} from "./navigate.ts";
import { centreOf, inPlane, nearestVoxel, NORMAL, onSlice, placeOn } from "../planes.ts";
import { point } from "./point.ts";
import { scribble } from "./scribble.ts";
import type { DrawingTool, Place, Tile, Tool, ToolHost, View } from "./tool.ts";

const DRAWING: Partial<Record<Tool, DrawingTool>> = { point, box, scribble, lasso };

/** Pixels that a hand moves while it clicks; a longer way is a drag. */
const STILL = 4;
/** Pixels around a line's first and last corner that mean that corner. */
const SNAP = 8;
/** Voxels that Shift makes of one. */
const LEAP = 10;

const LEFT = 0;
const MIDDLE = 1;
const RIGHT = 2;

const ARROWS: Readonly<Record<string, [number, number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};
const PAGES: Readonly<Record<string, number>> = { PageUp: 1, PageDown: -1 };
const ZOOMS: Readonly<Record<string, number>> = { "+": 1.25, "=": 1.25, "-": 0.8 };
/** Keys that do nothing more when they are held down. */
const ONCE: ReadonlySet<string> = new Set(["x", "enter", "backspace", "delete"]);
/** Pixels of a drag that an arrow turns the 3-D view by. */
const TURN = 20;

/** A press of the pointer that draws. */
interface Stroke {
  tool: DrawingTool;
  positive: boolean;
  place: Place;
  x: number;
  y: number;
  isDrag: boolean;
}

export class ToolLayer {
  readonly #overlay: SVGSVGElement;
  readonly #view: View;
  readonly #host: ToolHost;
  readonly #wheel = new WheelSteps();
  readonly #fingers = new Map<number, Finger>();
  #tool: Tool = "point";
  /** That keys act on: the one whose slice was clicked last, or that X has chosen. */
  #plane: Plane | "3d" = "axial";
  #draft: Draft | null = null;
  #stroke: Stroke | null = null;
  #drag: Drag | null = null;
  #pinch: Pinch | null = null;
  #pointer: Finger | null = null;
  #isSpaceDown = false;

  constructor(overlay: SVGSVGElement, view: View, host: ToolHost) {
    this.#overlay = overlay;
    this.#view = view;
    this.#host = host;
    overlay.style.touchAction = "none";
    overlay.addEventListener("pointerdown", (event) => {
      this.#press(event);
    });
    overlay.addEventListener("pointermove", (event) => {
      this.#move(event);
    });
    overlay.addEventListener("pointerup", (event) => {
      this.#release(event);
    });
    overlay.addEventListener("pointercancel", (event) => {
      this.#abandon(event);
    });
    overlay.addEventListener("pointerleave", () => {
      this.#highlight(null);
    });
    overlay.addEventListener(
      "wheel",
      (event) => {
        this.#turnWheel(event);
      },
      { passive: false },
    );
    // The right button draws, and the middle one pans instead of scrolling the page.
    for (const kind of ["contextmenu", "mousedown"])
      overlay.addEventListener(kind, (event) => {
        event.preventDefault();
      });
    window.addEventListener("keyup", (event) => {
      if (event.key === " ") this.#isSpaceDown = false;
    });
    // A key that is let go in another window is never heard of.
    window.addEventListener("blur", () => {
      this.#isSpaceDown = false;
    });
    view.onChange(() => {
      this.#followPointer();
      this.draw();
    });
    this.setTool(this.#tool);
  }

  /** Whether something is being drawn, which Escape drops. */
  get isDrawing(): boolean {
    return this.#draft !== null || this.#stroke !== null;
  }

  setTool(tool: Tool): void {
    this.#tool = tool;
    this.#overlay.dataset["tool"] = tool;
    this.#drop();
  }

  /**
   * Takes a key that is meant for the picture; returns whether it was.
   *
   * Arrows move the cross on the plane that was clicked last, or turn the 3-D view, the page keys
   * scroll, plus and minus zoom, X takes the next view; Enter marks a point, a corner or the end of a line, Backspace takes one back, Escape
   * drops what is drawn; Delete removes the prompt that is pointed at.
   */
  handleKey(event: KeyboardEvent): boolean {
    if (this.#scan === null || event.altKey || event.ctrlKey || event.metaKey)
      return false;
    const isTaken = this.#takeKey(event);
    if (isTaken) event.preventDefault();
    return isTaken;
  }

  /** Draws all prompts anew; to be called when the host's prompts changed. */
  draw(): void {
    // Without a scan, there is nothing here for keys.
    this.#overlay.tabIndex = this.#scan === null ? -1 : 0;
    const shown = this.#shown;
    if (!shown.includes(this.#plane)) this.#plane = shown[0] ?? this.#plane;
    const parts: SVGElement[] = [];
    for (const tile of this.#view.tiles()) {
      if (tile.plane === "3d") {
        const { x, y, width, height } = tile;
        if (this.#plane === "3d")
          parts.push(element("rect", { x, y, width, height, class: "active" }));
        continue;
      }
      if (tile.index === null) continue;
      const frame = Frame.of(this.#view, tile.plane, tile.index);
      if (frame !== null) parts.push(this.#drawTile(tile, tile.plane, tile.index, frame));
    }
    this.#overlay.replaceChildren(...parts);
  }

  get #scan(): Scan | null {
    return this.#host.state?.scan ?? null;
  }

  get #shown(): (Plane | "3d")[] {
    const all = this.#view.tiles().map(({ plane }) => plane);
    return [...all.filter((plane) => plane !== "3d"), ...all.filter((plane) => plane === "3d")];
  }

  #drawTile(tile: Tile, plane: Plane, index: number, frame: Frame): SVGElement {
    const { x, y, width, height } = tile;
    const viewBox = `${x} ${y} ${width} ${height}`;
    const clip = element("svg", { x, y, width, height, viewBox, class: "tile", "data-plane": plane });
    const add = (prompt: NewPrompt, ...classes: string[]): SVGGElement | null => {
      const mark = drawPrompt(prompt, plane, index, frame);
      mark?.classList.add(...classes);
      if (mark !== null) clip.append(mark);
      return mark;
    };
    const { state, highlighted } = this.#host;
    const target = state?.targets.find((one) => one.id === state.target);
    if (target?.visible === true)
      for (const prompt of target.prompts) {
        if (prompt.kind === "mask") continue;
        const mark = add(prompt);
        mark?.setAttribute("data-prompt", String(prompt.id));
        mark?.classList.toggle("pending", prompt.id < 0);
        mark?.classList.toggle("highlighted", prompt.id === highlighted);
      }
    if (this.#draft !== null) this.#drawDraft(this.#draft, plane, index, frame, clip, add);
    if (plane === this.#plane)
      clip.append(element("rect", { x, y, width, height, class: "active" }));
    return clip;
  }

  #drawDraft(
    draft: Draft,
    plane: Plane,
    index: number,
    frame: Frame,
    clip: SVGElement,
    add: (prompt: NewPrompt, ...classes: string[]) => void,
  ): void {
    const [first] = draft.places;
    if (draft.preview !== null) add(draft.preview, "draft");
    // Of a lasso with an edge alone, there is no prompt to be drawn yet.
    else if (first?.plane === plane && first.voxel[NORMAL[plane]] === index) {
      const points = [...draft.places, draft.tip].map((place) => place.point);
      clip.append(element("path", { d: pathThrough(points, frame, false), class: "edge" }));
    }
    // An open line whose slice was left is still to be seen.
    if (first?.plane === plane && this.#isElsewhere(draft)) {
      const points = draft.places.map((place) => place.point);
      clip.append(element("path", { d: pathThrough(points, frame, false), class: "edge left" }));
    }
  }

  #press(event: PointerEvent): void {
    this.#overlay.focus({ preventScroll: true });
    const { x, y } = this.#at(event);
    const tile = this.#tileAt(x, y);
    if (this.#scan === null || tile === null) return;
    this.#overlay.setPointerCapture(event.pointerId);
    this.#pointer = { x, y };
    if (event.pointerType === "touch") {
      this.#fingers.set(event.pointerId, { x, y });
      if (this.#fingers.size > 1) {
        this.#stop();
        this.#pinch = new Pinch(this.#view, tile.plane, [...this.#fingers.values()]);
        return;
      }
    }
    if (this.#stroke !== null || this.#drag !== null) return;
    if (tile.plane === "3d") {
      this.#drag = turnDrag(this.#view, x, y);
      return;
    }
    this.#plane = tile.plane;
    if (event.button === MIDDLE || (event.button === LEFT && this.#isSpaceDown))
      this.#drag = panDrag(this.#view, tile.plane, x, y);
    else if (
      event.button === LEFT &&
      (this.#tool === "window" || event.ctrlKey || event.metaKey)
    )
      this.#drag = windowDrag(this.#host, x, y);
    else if (event.button === LEFT && this.#tool === "navigate") this.#pick(event, tile.plane);
    else if (event.button === LEFT || event.button === RIGHT)
      this.#beginStroke(x, y, event.button === LEFT && this.#host.positive);
    this.draw();
  }

  /** Takes the cross along; what was touched, which nothing hovers over before, is pointed at. */
  #pick(event: PointerEvent, plane: Plane): void {
    const { x, y } = this.#at(event);
    this.#highlight(promptUnder(event));
    this.#drag = (toX, toY) => {
      const place = this.#placeAt(plane, toX, toY);
      if (place !== null) this.#view.setCrosshair(place.voxel);
    };
    this.#drag(x, y);
  }

  #beginStroke(x: number, y: number, positive: boolean): void {
    const tool = DRAWING[this.#tool];
    const place = this.#view.voxelAt(x, y);
    if (this.#draft?.plane === place?.plane && this.#returnToLine()) return;
    if (tool !== undefined && place !== null)
      this.#stroke = { tool, positive, place, x, y, isDrag: false };
  }

  #move(event: PointerEvent): void {
    const { x, y } = this.#at(event);
    this.#pointer = { x, y };
    if (this.#fingers.has(event.pointerId)) this.#fingers.set(event.pointerId, { x, y });
    if (this.#pinch !== null) {
      // One that stays after the other was lifted does nothing.
      if (this.#fingers.size > 1) this.#pinch.move([...this.#fingers.values()]);
    } else if (this.#drag !== null) this.#drag(x, y);
    else if (this.#stroke !== null) {
      // A fast hand's ways between two frames belong to a line, too.
      const steps = event.getCoalescedEvents();
      for (const step of steps.length > 0 ? steps : [event]) this.#drawTo(this.#at(step));
      this.draw();
    } else {
      this.#highlight(promptUnder(event));
      if (this.#draft !== null) {
        this.#followPointer();
        this.draw();
      }
    }
  }

  #drawTo({ x, y }: Finger): void {
    const stroke = this.#stroke;
    if (stroke === null) return;
    if (!stroke.isDrag) {
      if (Math.hypot(x - stroke.x, y - stroke.y) <= STILL) return;
      stroke.isDrag = true;
      const { tool, positive, place } = stroke;
      this.#draft = this.#isOpenLine(place)
        ? (this.#draft?.mark(place) ?? null)
        : Draft.begin(tool, positive, place);
    }
    const place = this.#placeAt(stroke.place.plane, x, y);
    if (place === null || this.#draft === null) return;
    this.#draft = stroke.tool.isFreehand ? this.#draft.mark(place) : this.#draft.moveTo(place);
  }

  /** Whether a line is open that can go on at a place. */
  #isOpenLine(place: Place): boolean {
    const draft = this.#draft;
    return draft !== null && draft.tool.isFreehand && draft.plane === place.plane;
  }

  /** Whether an open line was begun on another slice of its plane than the one that is shown. */
  #isElsewhere(draft: Draft): boolean {
    const normal = NORMAL[draft.plane];
    return draft.tool.isFreehand && draft.places[0]?.voxel[normal] !== this.#view.crosshair[normal];
  }

  /** Shows the slice of an open line that was left: it can't go on elsewhere; returns whether so. */
  #returnToLine(): boolean {
    const draft = this.#draft;
    const [first] = draft?.places ?? [];
    if (draft === null || first === undefined || !this.#isElsewhere(draft)) return false;
    const voxel = this.#view.crosshair;
    voxel[NORMAL[draft.plane]] = first.voxel[NORMAL[draft.plane]];
    this.#view.setCrosshair(voxel);
    this.#host.announce(`Back on the line's slice, ${draft.plane} ${voxel[NORMAL[draft.plane]]}`);
    return true;
  }

  #release(event: PointerEvent): void {
    this.#fingers.delete(event.pointerId);
    this.#drag = null;
    if (this.#pinch !== null) {
      // The finger that is lifted last must not draw.
      if (this.#fingers.size === 0) this.#pinch = null;
      return;
    }
    const stroke = this.#stroke;
    if (stroke === null) return;
    this.#stroke = null;
    if (!stroke.isDrag) this.#click(stroke);
    else if (this.#draft !== null)
      this.#finish(stroke.tool.isFreehand ? this.#draft : this.#draft.mark(this.#draft.tip));
    this.draw();
  }

  /** Marks the place of a click. */
  #click({ tool, positive, place, x, y }: Stroke): void {
    if (tool.isFreehand && !this.#isOpenLine(place)) this.#draft = null;
    this.#mark(tool, positive, this.#snap(x, y) ?? place);
  }

  /** Returns the first or last corner of an open line where a click means it. */
  #snap(x: number, y: number): Place | null {
    const draft = this.#draft;
    if (draft === null || !draft.tool.isFreehand) return null;
    const isNear = (place: Place): boolean => {
      const { plane, voxel } = place;
      const where = this.#view.positionOf(plane, onSlice(plane, voxel[NORMAL[plane]], place.point));
      return where !== null && Math.hypot(where.x - x, where.y - y) <= SNAP;
    };
    return [draft.places.at(-1), draft.places[0]].find((one) => one && isNear(one)) ?? null;
  }

  #mark(tool: DrawingTool, positive: boolean, place: Place): void {
    const draft = this.#draft?.mark(place) ?? Draft.begin(tool, positive, place);
    if (draft.isComplete) this.#finish(draft);
    else this.#draft = draft;
  }

  #finish(draft: Draft): void {
    this.#draft = null;
    const { prompt } = draft;
    if (prompt === null) {
      this.#host.announce("Nothing was drawn: a lasso needs an area.");
      return;
    }
    this.#host.addPrompt(prompt);
    // The other planes show what was marked.
    if (prompt.kind === "point") this.#view.setCrosshair(prompt.voxel);
    if (prompt.kind === "box") this.#view.setCrosshair(middleOf(prompt.low, prompt.high));
  }

  /** Ends a pointer that the browser has taken away: nothing of it counts. */
  #abandon(event: PointerEvent): void {
    this.#fingers.delete(event.pointerId);
    if (this.#fingers.size === 0) this.#pinch = null;
    this.#stop();
    this.draw();
  }

  /** Drops a drag; the corners of an open line stay. */
  #stop(): void {
    if (this.#stroke?.isDrag === true) this.#draft = null;
    this.#stroke = null;
    this.#drag = null;
  }

  #drop(): void {
    this.#draft = null;
    this.#stroke = null;
    this.draw();
  }

  #turnWheel(event: WheelEvent): void {
    event.preventDefault();
    const { x, y } = this.#at(event);
    const tile = this.#tileAt(x, y);
    if (this.#scan === null || tile === null) return;
    const turned = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : event.deltaY * 40;
    if (tile.plane === "3d" || event.ctrlKey || event.metaKey)
      this.#view.zoom(tile.plane, wheelZoom(turned), x, y);
    else {
      const steps = this.#wheel.turn(turned);
      if (steps !== 0) this.#view.scroll(tile.plane, steps);
    }
  }

  #takeKey(event: KeyboardEvent): boolean {
    const { key } = event;
    if (key === "Escape") {
      if (!this.isDrawing) return false;
      this.#drop();
      return true;
    }
    if (isControl(event.target)) return false;
    const arrow = ARROWS[key];
    const page = PAGES[key];
    const zoom = ZOOMS[key];
    const plane = this.#plane;
    const count = event.shiftKey ? LEAP : 1;
    if (arrow !== undefined) this.#step(arrow, count);
    else if (page !== undefined && plane !== "3d") this.#view.scroll(plane, page * count);
    else if (zoom !== undefined) this.#zoom(zoom);
    else if (event.repeat && ONCE.has(key.toLowerCase())) return true;
    else if (key.toLowerCase() === "x") this.#chooseNextPlane();
    else if (key === "Enter") return this.#enter();
    else if (key === " ") this.#isSpaceDown = true;
    else if (key === "Backspace" && this.#draft !== null) {
      this.#draft = this.#draft.takeBack();
      this.draw();
    } else if (key === "Delete" || key === "Backspace") return this.#remove();
    else return false;
    return true;
  }

  /** Moves the cross in a direction of the screen. */
  #step([dx, dy]: [number, number], voxels: number): void {
    const plane = this.#plane;
    if (plane === "3d") {
      this.#view.rotate(dx * TURN, dy * TURN);
      return;
    }
    const scan = this.#scan;
    const cross = this.#view.crosshair;
    const frame = Frame.of(this.#view, plane, cross[NORMAL[plane]]);
    if (scan === null || frame === null) return;
    const [a, b] = frame.stepTowards(dx, dy);
    const [x, y] = inPlane(plane, cross);
    const position = onSlice(plane, cross[NORMAL[plane]], [x + a * voxels, y + b * voxels]);
    const voxel = nearestVoxel(position, scan.shape);
    this.#pointer = null;
    this.#view.setCrosshair(voxel);
    this.#followCross();
    this.#host.announce(`Voxel ${fileVoxel(scan, voxel).join(", ")}`);
  }

  #chooseNextPlane(): void {
    const shown = this.#shown;
    this.#plane = shown[(shown.indexOf(this.#plane) + 1) % shown.length] ?? this.#plane;
    this.#host.announce(this.#plane === "3d" ? "3-D view" : `${this.#plane} plane`);
    this.draw();
  }

  /** Zooms around the cross, or the 3-D view. */
  #zoom(factor: number): void {
    const plane = this.#plane;
    const place = plane === "3d" ? { x: 0, y: 0 } : this.#view.positionOf(plane, this.#view.crosshair);
    if (place !== null) this.#view.zoom(plane, factor, place.x, place.y);
  }

  #enter(): boolean {
    const tool = DRAWING[this.#tool];
    if (tool === undefined || this.#stroke !== null) return false;
    const plane = this.#draft?.plane ?? this.#plane;
    if (plane === "3d") return false;
    if (this.#returnToLine()) return true;
    this.#mark(tool, this.#host.positive, centreOf(plane, this.#view.crosshair));
    this.draw();
    return true;
  }

  #remove(): boolean {
    const { state, highlighted } = this.#host;
    const target = state?.targets.find((one) => one.id === state.target);
    if (!target?.prompts.some(({ id }) => id === highlighted) || highlighted === null) return false;
    // It is as good as gone: the key again must not ask for it again.
    this.#host.highlight(null);
    this.#host.removePrompt(highlighted);
    return true;
  }

  /** Brings what is drawn to where the pointer is, also where a slice has moved under it. */
  #followPointer(): void {
    const [pointer, draft] = [this.#pointer, this.#draft];
    if (draft === null) return;
    if (pointer === null) this.#followCross();
    else {
      const place = this.#placeAt(this.#planeFor(draft, pointer), pointer.x, pointer.y);
      if (place !== null) this.#draft = draft.moveTo(place);
    }
  }

  /** Returns the plane that the next place is on: a box may end on another one than it was begun on. */
  #planeFor(draft: Draft, { x, y }: Finger): Plane {
    if (this.#stroke !== null || draft.tool.isFreehand) return draft.plane;
    return this.#view.voxelAt(x, y)?.plane ?? draft.plane;
  }

  #followCross(): void {
    const draft = this.#draft;
    if (draft !== null) this.#draft = draft.moveTo(centreOf(draft.plane, this.#view.crosshair));
    this.draw();
  }

  #highlight(id: number | null): void {
    if (id !== this.#host.highlighted) this.#host.highlight(id);
  }

  /** Returns the place on a plane's slice at a pixel, or the nearest one of the volume. */
  #placeAt(plane: Plane, x: number, y: number): Place | null {
    const place = this.#view.voxelAt(x, y);
    if (place?.plane === plane) return place;
    const tile = this.#view.tiles().find((one) => one.plane === plane);
    const scan = this.#scan;
    if (tile === undefined || tile.index === null || scan === null) return null;
    const frame = Frame.of(this.#view, plane, tile.index);
    return frame && placeOn(plane, tile.index, frame.toPlane(x, y), scan.shape);
  }

  #tileAt(x: number, y: number): Tile | null {
    const holds = (one: Tile): boolean =>
      x >= one.x && x < one.x + one.width && y >= one.y && y < one.y + one.height;
    return this.#view.tiles().find(holds) ?? null;
  }

  /** Returns where on the canvas an event was. */
  #at(event: MouseEvent): Finger {
    const { left, top } = this.#overlay.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }
}

function promptUnder(event: PointerEvent): number | null {
  const mark = event.target instanceof Element ? event.target.closest("[data-prompt]") : null;
  const id = mark?.getAttribute("data-prompt");
  return id ? Number(id) : null;
}

/** Whether keys have a meaning of their own where the focus is. */
function isControl(target: EventTarget | null): boolean {
  const controls = "button, input, select, textarea, a, summary, dialog, [contenteditable]";
  return target instanceof Element && target.closest(controls) !== null;
}

function middleOf(low: Vec3, high: Vec3): Vec3 {
  const middle = (n: 0 | 1 | 2): number => Math.floor((low[n] + high[n] - 1) / 2);
  return [middle(0), middle(1), middle(2)];
}
