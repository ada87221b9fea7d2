/**
 * Slices of a scan and its labels, drawn by WebGL from the scan's own numbers.
 *
 * The window of intensities is applied while drawing, and labels change by their sub-volume:
 * neither reads the volume anew, and there is one copy of each on the graphics side. (NiiVue, which
 * draws the 3-D view, keeps 8 bytes of colours and gradients per voxel and computes them anew for
 * every window, which takes too long for a drag.)
 */

import { AXES, inPlane } from "../planes.ts";
import type { Patch, Plane, Target, Vec3 } from "../types.ts";
import { colorTable } from "./colors.ts";
import { type Mapping, placeOf, type SliceTile } from "./geometry.ts";
import type { Volume, Voxels } from "./nifti.ts";
import { fragment, VERTEX } from "./shaders.ts";

export interface Slice {
  tile: SliceTile;
  index: number;
  mapping: Mapping;
}

interface Uploaded {
  shape: Vec3;
  slope: number;
  intercept: number;
  scan: WebGLTexture;
  labels: WebGLTexture;
  programs: Record<Plane, WebGLProgram>;
}

/** How voxels are stored on the graphics side. */
interface Storage {
  sampler: string;
  internal: GLenum;
  format: GLenum;
  type: GLenum;
}

/** Texture units. */
const SCAN = 0;
const LABELS = 1;
const DISAGREEMENT = 2;
const COLORS = 3;

/** A volume goes to the graphics side in parts of so many voxels, as it is copied on the way. */
const PART = 8 * 1024 * 1024;

/** CSS pixels. */
const OUTLINE = 1.25;
const CROSSHAIR = 1;
const CROSSHAIR_GAP = 24;

export class SliceRenderer {
  private readonly gl: WebGL2RenderingContext;
  private readonly bytes: Storage;
  private uploaded: Uploaded | null = null;
  private disagreement: WebGLTexture;
  private disagreementBounds: { low: Vec3; high: Vec3 } | null = null;

  /** @throws Error for users if the browser has no WebGL 2. */
  constructor(canvas: HTMLCanvasElement) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false });
    if (!gl) {
      throw new Error(
        "This browser can't draw the scan, as it has no WebGL 2. Turn on hardware acceleration " +
          "in its settings, or open the page in a current Firefox, Chrome, Edge or Safari.",
      );
    }
    this.gl = gl;
    this.bytes = storageOf(gl, new Uint8Array(0));
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.disagreement = this.newVolume(DISAGREEMENT, this.bytes, [1, 1, 1]);
    this.newTexture(COLORS, gl.TEXTURE_2D);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, 256, 1);
  }

  /** What computes WebGL, such as a graphics processor's name. */
  get processor(): string {
    const { gl } = this;
    const names = gl.getExtension("WEBGL_debug_renderer_info");
    return String(gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  }

  /** @throws Error for users if the scan is larger than this machine's graphics can draw. */
  setScan({ shape, voxels, slope, intercept }: Volume): void {
    const { gl } = this;
    this.clear();
    const most = gl.getParameter(gl.MAX_3D_TEXTURE_SIZE) as number;
    if (Math.max(...shape) > most) {
      throw new Error(
        `The scan has ${shape.join(" x ")} voxels; this browser draws at most ${most} per axis.`,
      );
    }
    const storage = storageOf(gl, voxels);
    const scan = this.newVolume(SCAN, storage, shape);
    this.fill(SCAN, storage, { low: [0, 0, 0], high: shape }, voxels);
    const labels = this.newVolume(LABELS, this.bytes, shape);
    const programs = {
      axial: this.newProgram(fragment(storage.sampler, "axial")),
      coronal: this.newProgram(fragment(storage.sampler, "coronal")),
      sagittal: this.newProgram(fragment(storage.sampler, "sagittal")),
    };
    this.uploaded = { shape, slope, intercept, scan, labels, programs };
    if (gl.getError() === gl.OUT_OF_MEMORY) {
      this.clear();
      throw new Error(
        `This machine's graphics have too little memory for ${shape.join(" x ")} voxels.`,
      );
    }
  }

  /** Forgets the scan. */
  clear(): void {
    if (this.uploaded) {
      this.gl.deleteTexture(this.uploaded.scan);
      this.gl.deleteTexture(this.uploaded.labels);
      Object.values(this.uploaded.programs).forEach((program) => this.gl.deleteProgram(program));
    }
    this.uploaded = null;
    this.setDisagreement(null);
  }

  setLabels(patch: Patch): void {
    this.fill(LABELS, this.bytes, patch, patch.labels);
  }

  setTargets(targets: Target[], opacity: number): void {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + COLORS);
    const table = colorTable(targets, opacity);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, 256, 1, gl.RGBA, gl.UNSIGNED_BYTE, table);
  }

  setDisagreement(patch: Patch | null): void {
    this.disagreementBounds = patch;
    this.gl.deleteTexture(this.disagreement);
    const low: Vec3 = [0, 0, 0];
    const high: Vec3 = patch
      ? (patch.high.map((end, axis) => end - (patch.low[axis] as number)) as Vec3)
      : [1, 1, 1];
    this.disagreement = this.newVolume(DISAGREEMENT, this.bytes, high);
    if (patch) this.fill(DISAGREEMENT, this.bytes, { low, high }, patch.labels);
  }

  /**
   * Draws slices, and black where there are none.
   *
   * @param crosshair Where it is, in voxels.
   * @param window Values of the scan that are shown black and white.
   * @param ratio Pixels of the canvas per CSS pixel.
   */
  draw(slices: Slice[], crosshair: Vec3, window: [number, number], ratio: number): void {
    const { gl, uploaded } = this;
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(0, 0, 0, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!uploaded) return;
    const { programs, shape, slope, intercept } = uploaded;
    const { low, high } = this.disagreementBounds ?? { low: [0, 0, 0], high: [0, 0, 0] };
    for (const { tile, index, mapping } of slices) {
      const program = programs[tile.plane];
      const at = (name: string) => gl.getUniformLocation(program, name);
      gl.useProgram(program);
      gl.uniform1i(at("scan"), SCAN);
      gl.uniform1i(at("labels"), LABELS);
      gl.uniform1i(at("disagreement"), DISAGREEMENT);
      gl.uniform1i(at("colors"), COLORS);
      gl.uniform1i(at("index"), index);
      const [column, row] = AXES[tile.plane];
      gl.uniform2i(at("last"), shape[column] - 1, shape[row] - 1);
      gl.uniform2fv(at("origin"), mapping.origin);
      gl.uniform2fv(at("stride"), mapping.step);
      gl.uniform1f(at("canvasHeight"), gl.drawingBufferHeight);
      gl.uniform2f(at("window"), (window[0] - intercept) / slope, (window[1] - intercept) / slope);
      gl.uniform3iv(at("low"), low);
      gl.uniform3iv(at("high"), high);
      gl.uniform1f(at("outline"), OUTLINE * ratio);
      gl.uniform2f(at("crosshairSize"), (CROSSHAIR * ratio) / 2, (CROSSHAIR_GAP * ratio) / 2);
      const [x, y] = placeOf(mapping, inPlane(tile.plane, crosshair));
      // On a pixel's centre, a line of odd width covers whole pixels.
      gl.uniform2f(at("crosshair"), Math.floor(x) + 0.5, Math.floor(y) + 0.5);
      gl.viewport(tile.x, gl.drawingBufferHeight - tile.y - tile.height, tile.width, tile.height);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
    }
  }

  private newVolume(unit: number, storage: Storage, [width, height, depth]: Vec3): WebGLTexture {
    const { gl } = this;
    const texture = this.newTexture(unit, gl.TEXTURE_3D);
    gl.texStorage3D(gl.TEXTURE_3D, 1, storage.internal, width, height, depth);
    return texture;
  }

  private newTexture(unit: number, target: GLenum): WebGLTexture {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(target, texture);
    gl.texParameteri(target, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(target, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    return texture;
  }

  /** Puts voxels within bounds, i fastest, into a unit's volume. */
  private fill(
    unit: number,
    storage: Storage,
    { low, high }: { low: Vec3; high: Vec3 },
    voxels: Voxels,
  ): void {
    const { gl } = this;
    const [width, height, depth] = [high[0] - low[0], high[1] - low[1], high[2] - low[2]];
    const perSlice = width * height;
    const atOnce = Math.max(Math.floor(PART / perSlice), 1);
    gl.activeTexture(gl.TEXTURE0 + unit);
    for (let k = 0; k < depth; k += atOnce) {
      const count = Math.min(atOnce, depth - k);
      gl.texSubImage3D(
        gl.TEXTURE_3D,
        0,
        low[0],
        low[1],
        low[2] + k,
        width,
        height,
        count,
        storage.format,
        storage.type,
        voxels.subarray(k * perSlice, (k + count) * perSlice),
      );
    }
  }

  private newProgram(fragmentShader: string): WebGLProgram {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [type, source] of [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, fragmentShader],
    ] as const) {
      const shader = gl.createShader(type) as WebGLShader;
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
      gl.deleteShader(shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(`This browser can't draw the scan: ${gl.getProgramInfoLog(program) ?? ""}`);
    }
    return program;
  }
}

function storageOf(gl: WebGL2RenderingContext, voxels: Voxels): Storage {
  if (voxels instanceof Uint8Array) {
    return {
      sampler: "usampler3D",
      internal: gl.R8UI,
      format: gl.RED_INTEGER,
      type: gl.UNSIGNED_BYTE,
    };
  }
  if (voxels instanceof Int16Array) {
    return { sampler: "isampler3D", internal: gl.R16I, format: gl.RED_INTEGER, type: gl.SHORT };
  }
  return { sampler: "sampler3D", internal: gl.R32F, format: gl.RED, type: gl.FLOAT };
}
