/** A scan in three planes and in 3-D, with labels: what is shown, and where on the screen. */

import { inPlane, nearestVoxel, NORMAL, onSlice } from "../planes.ts";
import type { Patch, Plane, Scan, Target, Vec3 } from "../types.ts";
import * as geometry from "./geometry.ts";
import type { Layout, Tile } from "./geometry.ts";
import { Letters } from "./letters.ts";
import { readVolume } from "./nifti.ts";
import { Rendering } from "./rendering.ts";
import { SliceRenderer } from "./slices.ts";

const SOFTWARE = /swiftshader|llvmpipe|software|basic render/i;

/** A tile as the rest of the page sees it: in CSS pixels from the canvas's corner. */
export interface ShownTile extends Tile {
  /** The slice that is shown; null in 3-D. */
  index: number | null;
}

/**
 * Draws on a canvas, and lays letters of orientation and the 3-D view over it.
 *
 * All positions are in CSS pixels from the canvas's upper left corner. The viewer takes no events:
 * whatever is laid over the canvas does.
 */
export class Viewer {
  private readonly canvas: HTMLCanvasElement;
  private readonly slices: SliceRenderer;
  private readonly rendering: Rendering;
  private readonly renderingHolder: HTMLElement;
  private readonly letters: Letters;
  private readonly changed: (() => void)[] = [];
  private readonly failed: ((message: string) => void)[] = [];
  private grid: geometry.Grid | null = null;
  private view: geometry.View = { center: [0, 0, 0], zoom: 1 };
  private voxel: Vec3 = [0, 0, 0];
  private layout: Layout = "all";
  private tilesOnCanvas: Tile[] = [];
  private window: [number, number] = [0, 1];
  private targets: Target[] = [];
  private opacity = 0.5;
  /** Of the canvas, in CSS pixels. */
  private width = 1;
  private height = 1;
  private frame = 0;
  private loading: AbortController | null = null;

  /** @throws Error for users if the browser can't draw. */
  constructor(canvas: HTMLCanvasElement) {
    this.canvas = canvas;
    this.slices = new SliceRenderer(canvas);
    this.renderingHolder = document.createElement("div");
    this.renderingHolder.style.cssText = "position: absolute; pointer-events: none";
    this.letters = new Letters();
    canvas.after(this.renderingHolder, this.letters.element);
    this.rendering = new Rendering(
      this.renderingHolder,
      SOFTWARE.test(this.slices.processor),
      (error) => this.fail(`The 3-D view can't be drawn: ${String(error)}`),
    );
    canvas.addEventListener("webglcontextlost", () =>
      this.fail("The browser's graphics have stopped. Reload the page: nothing is lost."),
    );
    const isExact = "devicePixelContentBoxSize" in ResizeObserverEntry.prototype;
    new ResizeObserver(([entry]) => {
      if (entry) this.resize(entry);
    }).observe(canvas, { box: isExact ? "device-pixel-content-box" : "content-box" });
  }

  /**
   * Shows a scan, without labels.
   *
   * @param onProgress Is told the fraction that has arrived, 0 to 1.
   * @throws Error for users if it can't be fetched or drawn; AbortError if another came instead.
   */
  async load(url: string, scan: Scan, onProgress?: (fraction: number) => void): Promise<void> {
    this.clear();
    const loading = new AbortController();
    this.loading = loading;
    const response = await fetch(url, { signal: loading.signal });
    if (!response.ok || !response.body) {
      throw new Error(`The server did not send the scan ${scan.name} (status ${response.status}).`);
    }
    const volume = await readVolume(response.body, onProgress);
    loading.signal.throwIfAborted();
    this.slices.setScan(volume);
    this.rendering.setScan(volume, scan.spacing_mm);
    this.grid = { shape: volume.shape, spacing_mm: scan.spacing_mm };
    this.setWindow(scan.window.level, scan.window.width);
    this.setCrosshair(volume.shape.map((size) => Math.floor(size / 2)) as Vec3);
    this.resetView();
  }

  /** Shows nothing. */
  clear(): void {
    this.loading?.abort();
    this.grid = null;
    this.slices.clear();
    this.rendering.clear();
    this.redraw();
  }

  /** Replaces all labels: uint8, i fastest, of the scan's shape. */
  setLabels(shape: Vec3, labels: Uint8Array<ArrayBuffer>): void {
    this.applyPatch({ low: [0, 0, 0], high: shape, labels });
  }

  applyPatch(patch: Patch): void {
    if (!this.grid) return;
    this.slices.setLabels(patch);
    this.rendering.setLabels(patch);
    this.redraw();
  }

  setTargets(targets: Target[]): void {
    this.targets = targets;
    this.color();
  }

  /** @param opacity How opaque labels are filled, 0 to 1; their outlines are opaque. */
  setOpacity(opacity: number): void {
    this.opacity = opacity;
    this.color();
  }

  setWindow(level: number, width: number): void {
    this.window = [level - width / 2, level + width / 2];
    this.rendering.setWindow(this.window);
    this.redraw();
  }

  setLayout(layout: Layout): void {
    this.layout = layout;
    this.layOut();
  }

  /** The voxel where the planes meet. */
  get crosshair(): Vec3 {
    return [...this.voxel];
  }

  /** Moves the planes to a voxel, or the nearest one of the scan, and brings it into sight. */
  setCrosshair(voxel: Vec3): void {
    if (!this.grid) return;
    this.voxel = nearestVoxel(voxel, this.grid.shape);
    for (const tile of this.sliceTiles()) {
      this.view = geometry.bringIntoSight(this.grid, this.view, tile, this.voxel);
    }
    this.rendering.setCrosshair(this.voxel);
    this.redraw();
  }

  /**
   * What is at a place of the canvas; null where there is no slice, or no voxel of it.
   *
   * `point` is in voxels along the plane's two axes, in the order i, j, k, as in `DrawnPrompt`.
   */
  voxelAt(x: number, y: number): { plane: Plane; voxel: Vec3; point: [number, number] } | null {
    const { grid } = this;
    const [px, py] = this.toCanvas(x, y);
    const tile = this.sliceTiles().find((one) => geometry.covers(one, px, py));
    if (!grid || !tile) return null;
    const point = geometry.pointAt(geometry.mapTile(grid, this.view, tile), px, py);
    const place = onSlice(tile.plane, this.voxel[NORMAL[tile.plane]], point);
    const voxel = place.map((coordinate) => Math.floor(coordinate + 0.5)) as Vec3;
    return geometry.isInside(grid, voxel) ? { plane: tile.plane, voxel, point } : null;
  }

  /** Where a place of the scan, in voxels, is in a plane's tile; null where that isn't shown. */
  positionOf(plane: Plane, place: Vec3): { x: number; y: number } | null {
    const tile = this.sliceTiles().find((one) => one.plane === plane);
    if (!this.grid || !tile) return null;
    const mapping = geometry.mapTile(this.grid, this.view, tile);
    const [x, y] = this.toPage(...geometry.placeOf(mapping, inPlane(plane, place)));
    return { x, y };
  }

  tiles(): ShownTile[] {
    return this.tilesOnCanvas.map((tile) => {
      const [x, y] = this.toPage(tile.x, tile.y);
      const [width, height] = this.toPage(tile.width, tile.height);
      const index = tile.plane === "3d" ? null : this.voxel[NORMAL[tile.plane]];
      return { plane: tile.plane, x, y, width, height, index };
    });
  }

  /** Shows another slice of a plane: so many further to the right, front or head. */
  scroll(plane: Plane, steps: number): void {
    const voxel = this.crosshair;
    voxel[NORMAL[plane]] += steps;
    this.setCrosshair(voxel);
  }

  /** Enlarges by `factor`; what a slice shows at a place stays there. */
  zoom(plane: Plane | "3d", factor: number, x: number, y: number): void {
    if (plane === "3d") {
      this.rendering.zoom(factor);
      return;
    }
    const tile = this.sliceTiles().find((one) => one.plane === plane);
    if (!this.grid || !tile) return;
    this.view = geometry.zoomAround(this.grid, this.view, tile, factor, ...this.toCanvas(x, y));
    this.redraw();
  }

  /** Moves a plane's picture. */
  pan(plane: Plane, dx: number, dy: number): void {
    const tile = this.sliceTiles().find((one) => one.plane === plane);
    if (!this.grid || !tile) return;
    this.view = geometry.moveBy(this.grid, this.view, tile, ...this.toCanvas(dx, dy));
    this.redraw();
  }

  /** Turns the 3-D view by a drag. */
  rotate(dx: number, dy: number): void {
    this.rendering.rotate(dx, dy);
  }

  /** Shows all of the scan, from where it was shown at first. */
  resetView(): void {
    if (!this.grid) return;
    this.view = geometry.wholeView(this.grid);
    this.rendering.reset();
    this.redraw();
  }

  /** Lays over the slices where the views disagree, 0 to 255, in place of the labels' filling. */
  showDisagreement(patch: Patch | null): void {
    this.slices.setDisagreement(patch);
    this.redraw();
  }

  /** Calls the listener after every redraw that moved or changed tiles. */
  onChange(listener: () => void): void {
    this.changed.push(listener);
  }

  /** Calls the listener, with a message for users, when drawing has stopped working. */
  onFailure(listener: (message: string) => void): void {
    this.failed.push(listener);
  }

  private fail(message: string): void {
    for (const listener of this.failed) listener(message);
  }

  private color(): void {
    this.slices.setTargets(this.targets, this.opacity);
    this.rendering.setTargets(this.targets);
    this.redraw();
  }

  private sliceTiles(): geometry.SliceTile[] {
    return this.tilesOnCanvas.filter((tile): tile is geometry.SliceTile => tile.plane !== "3d");
  }

  private toCanvas(x: number, y: number): [number, number] {
    return [(x * this.canvas.width) / this.width, (y * this.canvas.height) / this.height];
  }

  private toPage(x: number, y: number): [number, number] {
    return [(x * this.width) / this.canvas.width, (y * this.height) / this.canvas.height];
  }

  private resize({ contentRect, devicePixelContentBoxSize }: ResizeObserverEntry): void {
    // A canvas that isn't shown has no size; it is drawn once it is.
    if (contentRect.width === 0 || contentRect.height === 0) return;
    this.width = contentRect.width;
    this.height = contentRect.height;
    // Safari doesn't tell it.
    const exact = devicePixelContentBoxSize?.[0];
    this.canvas.width = exact?.inlineSize ?? Math.round(this.width * devicePixelRatio);
    this.canvas.height = exact?.blockSize ?? Math.round(this.height * devicePixelRatio);
    this.layOut();
    // A canvas that changed its size is empty: not drawing at once would be seen as a flicker.
    this.draw();
  }

  private layOut(): void {
    this.tilesOnCanvas = geometry.layTiles(this.layout, this.canvas.width, this.canvas.height);
    const tiles = this.tiles();
    const [rendered] = tiles.filter((tile) => tile.plane === "3d");
    const { x, y, width, height } = rendered ?? { x: 0, y: 0, width: 0, height: 0 };
    const { style } = this.renderingHolder;
    style.display = rendered ? "block" : "none";
    style.left = `${this.canvas.offsetLeft + x}px`;
    style.top = `${this.canvas.offsetTop + y}px`;
    style.width = `${width}px`;
    style.height = `${height}px`;
    this.rendering.resize(...this.toCanvas(width, height));
    this.redraw();
  }

  private redraw(): void {
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.draw());
  }

  private draw(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { grid } = this;
    const slices = grid
      ? this.sliceTiles().map((tile) => ({
          tile,
          index: this.voxel[NORMAL[tile.plane]],
          mapping: geometry.mapTile(grid, this.view, tile),
        }))
      : [];
    this.slices.draw(slices, this.voxel, this.window, this.canvas.width / this.width);
    this.letters.place(grid ? this.tiles() : [], this.canvas);
    for (const listener of this.changed) listener();
  }
}
