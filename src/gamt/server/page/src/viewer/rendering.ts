/**
 * The 3-D view: the scan and its labels, rendered by NiiVue on a canvas of its own.
 *
 * It shows a coarser copy, and follows what happens on the slices once that has come to rest, so
 * that it never holds them up.
 */

import { Niivue, SLICE_TYPE, type NVImage } from "@niivue/niivue";
import type { Patch, Target, Vec3 } from "../types.ts";
import { colorTable } from "./colors.ts";
import type { Grid } from "./geometry.ts";
import type { Volume, Voxels } from "./nifti.ts";
import { thin, thinShape } from "./thinning.ts";

/** Along an axis of the coarser copy, with a graphics processor and without one. */
const MOST_VOXELS = 256;
const MOST_VOXELS_IN_SOFTWARE = 64;

/** Of the canvas's pixels per device pixel, without a graphics processor. */
const RESOLUTION_IN_SOFTWARE = 0.5;

/**
 * Milliseconds without any change before the view follows; more without a graphics processor, where
 * it takes the slices' time.
 */
const REST = 200;
const REST_IN_SOFTWARE = 1000;

/** How opaque the scan is, for the labels within it to be seen. */
const OPACITY = 0.3;

/** Voxels by which the labels' surfaces are smoothed. */
const SMOOTHING = 1;

/** Degrees per CSS pixel of a drag. */
const DEGREES = 0.5;

/** From the patient's left front, somewhat above. */
const AZIMUTH = 150;
const ELEVATION = 15;

const LEAST_ZOOM = 0.3;
const LARGEST_ZOOM = 10;

/** NIfTI's codes. */
const UINT8 = 2;
const INT16 = 4;
const FLOAT32 = 16;

interface Coarse {
  /** Of the full scan. */
  grid: Grid;
  shape: Vec3;
  voxels: Voxels;
  labels: Uint8Array<ArrayBuffer>;
  slope: number;
  intercept: number;
}

export class Rendering {
  private readonly canvas: HTMLCanvasElement;
  private readonly isSoftware: boolean;
  private niivue: Niivue | null = null;
  private image: NVImage | null = null;
  private coarse: Coarse | null = null;
  private isScanStale = false;
  private areLabelsStale = false;
  private areColorsStale = false;
  private isWindowStale = false;
  private colors = colorTable([], 1);
  private window: [number, number] = [0, 1];
  private crosshair: Vec3 = [0, 0, 0];
  /** That the canvas shall have, in its own pixels. */
  private size: [number, number] = [0, 0];
  private azimuth = AZIMUTH;
  private elevation = ELEVATION;
  private scale = 1;
  private timer = 0;
  private frame = 0;
  private work: Promise<void> = Promise.resolve();
  private readonly onError: (error: unknown) => void;

  /**
   * @param holder Gets the canvas. NiiVue colours it.
   * @param isSoftware Whether WebGL is computed without a graphics processor.
   * @param onError Is told why the view can't be drawn.
   */
  constructor(holder: HTMLElement, isSoftware: boolean, onError: (error: unknown) => void) {
    this.canvas = document.createElement("canvas");
    this.canvas.style.cssText = "display: block; width: 100%; height: 100%";
    holder.append(this.canvas);
    this.isSoftware = isSoftware;
    this.onError = onError;
  }

  setScan({ shape, voxels, slope, intercept }: Volume, spacing_mm: Vec3): void {
    const coarseShape = thinShape(shape, this.isSoftware ? MOST_VOXELS_IN_SOFTWARE : MOST_VOXELS);
    const count = coarseShape[0] * coarseShape[1] * coarseShape[2];
    const coarse = new (voxels.constructor as new (size: number) => Voxels)(count);
    thin(coarse, coarseShape, shape, [0, 0, 0], shape, voxels);
    this.coarse = {
      grid: { shape, spacing_mm },
      shape: coarseShape,
      voxels: coarse,
      labels: new Uint8Array(count),
      slope,
      intercept,
    };
    this.isScanStale = true;
    this.follow();
  }

  clear(): void {
    this.coarse = null;
    this.isScanStale = true;
    this.canvas.style.visibility = "hidden";
    this.follow();
  }

  setLabels({ low, high, labels }: Patch): void {
    if (!this.coarse) return;
    thin(this.coarse.labels, this.coarse.shape, this.coarse.grid.shape, low, high, labels);
    this.areLabelsStale = true;
    this.follow();
  }

  /** Surfaces are opaque, whatever the labels are on the slices. */
  setTargets(targets: Target[]): void {
    const colors = colorTable(targets, 1);
    // Most changes to targets are none of their colours.
    if (colors.every((value, n) => value === this.colors[n])) return;
    this.colors = colors;
    this.areColorsStale = true;
    this.follow();
  }

  /** @param window Values of the scan that are shown black and white. */
  setWindow(window: [number, number]): void {
    this.window = window;
    this.isWindowStale = true;
    this.follow();
  }

  setCrosshair(voxel: Vec3): void {
    this.crosshair = voxel;
    this.follow();
  }

  /** Says how large the view is in device pixels; 0 where it isn't shown. */
  resize(width: number, height: number): void {
    const resolution = this.isSoftware ? RESOLUTION_IN_SOFTWARE : 1;
    this.size = [Math.round(width * resolution), Math.round(height * resolution)];
    this.follow();
  }

  rotate(dx: number, dy: number): void {
    this.azimuth = (this.azimuth + DEGREES * dx) % 360;
    this.elevation = Math.min(Math.max(this.elevation + DEGREES * dy, -90), 90);
    this.redraw();
  }

  zoom(factor: number): void {
    this.scale = Math.min(Math.max(this.scale * factor, LEAST_ZOOM), LARGEST_ZOOM);
    this.redraw();
  }

  reset(): void {
    [this.azimuth, this.elevation, this.scale] = [AZIMUTH, ELEVATION, 1];
    this.redraw();
  }

  /** Turns with the next frame. */
  private redraw(): void {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      if (this.image) this.draw();
    });
  }

  /** Takes changes over when there have been none for a while. */
  private follow(): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(
      () => {
        this.work = this.work.then(() => this.update()).catch(this.onError);
      },
      this.isSoftware ? REST_IN_SOFTWARE : REST,
    );
  }

  private async update(): Promise<void> {
    if (this.size[0] * this.size[1] === 0) return;
    this.niivue ??= await begin(this.canvas);
    const { niivue, coarse } = this;
    if (this.isScanStale) {
      this.isScanStale = false;
      if (this.image) niivue.removeVolume(this.image);
      this.image = coarse && (await imageOf(niivue, coarse));
      if (this.image) {
        niivue.addVolume(this.image);
        niivue.createEmptyDrawing();
      }
      this.areLabelsStale = true;
      this.areColorsStale = true;
      this.isWindowStale = true;
    }
    // Another scan may have come meanwhile; this is called for it again.
    if (!coarse || !this.image || coarse !== this.coarse) return;
    if (this.isWindowStale) {
      this.isWindowStale = false;
      [this.image.cal_min, this.image.cal_max] = this.window;
      niivue.updateGLVolume();
    }
    if (this.areColorsStale) {
      this.areColorsStale = false;
      niivue.drawLut.lut = new Uint8ClampedArray(this.colors);
      niivue.refreshColormaps();
      this.areLabelsStale = true;
    }
    if (this.areLabelsStale) {
      this.areLabelsStale = false;
      // A label without opacity would still have a surface, and hide what is behind it.
      const isShown = (label: number) => (this.colors[4 * label + 3] ?? 0) > 0;
      const shown = coarse.labels.map((label) => (isShown(label) ? label : 0));
      niivue.drawBitmap = shown;
      // NiiVue would go on showing the surfaces of labels that are all gone.
      niivue.opts.smoothDrawing = shown.some((label) => label > 0) ? SMOOTHING : 0;
      niivue.refreshDrawing(false);
    }
    this.draw();
    this.canvas.style.visibility = "visible";
  }

  private draw(): void {
    const { niivue, coarse, canvas } = this;
    if (!niivue || !coarse) return;
    // Not before: a canvas that changes its size is empty until it is drawn.
    const [width, height] = this.size;
    if (canvas.width !== width && width > 0) canvas.width = width;
    if (canvas.height !== height && height > 0) canvas.height = height;
    const { shape } = coarse.grid;
    niivue.scene.crosshairPos = this.crosshair.map(
      (index, axis) => (index + 0.5) / (shape[axis] as number),
    ) as Vec3;
    niivue.scene.volScaleMultiplier = this.scale;
    niivue.scene.renderAzimuth = this.azimuth;
    niivue.scene.renderElevation = this.elevation;
    niivue.drawScene();
  }
}

async function begin(canvas: HTMLCanvasElement): Promise<Niivue> {
  const niivue = new Niivue({
    interactive: false,
    isResizeCanvas: false,
    forceDevicePixelRatio: -1,
    show3Dcrosshair: true,
    crosshairColor: [0.34, 0.71, 0.91, 1],
    loadingText: "",
    logLevel: "error",
    sliceType: SLICE_TYPE.RENDER,
  });
  niivue.drawOpacity = 1;
  await niivue.attachToCanvas(canvas, false);
  return niivue;
}

async function imageOf(niivue: Niivue, coarse: Coarse): Promise<NVImage> {
  const { grid, shape, voxels, slope, intercept } = coarse;
  const spacing = grid.spacing_mm.map(
    (mm, axis) => (mm * (grid.shape[axis] as number)) / (shape[axis] as number),
  ) as Vec3;
  const [x, y, z] = spacing;
  const affine = [x, 0, 0, 0, 0, y, 0, 0, 0, 0, z, 0, 0, 0, 0, 1];
  const type =
    voxels instanceof Uint8Array ? UINT8 : voxels instanceof Int16Array ? INT16 : FLOAT32;
  const file = await niivue.createNiftiArray(shape, spacing, affine, type, voxels as Uint8Array);
  const image = await niivue.niftiArray2NVImage(file);
  image.opacity = OPACITY;
  if (image.hdr) [image.hdr.scl_slope, image.hdr.scl_inter] = [slope, intercept];
  return image;
}
