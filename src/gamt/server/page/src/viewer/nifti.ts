/** Reading the NIfTI-1 image that the server sends: little-endian, one volume, i fastest. */

import type { Vec3 } from "../types.ts";

export type Voxels = Uint8Array<ArrayBuffer> | Int16Array<ArrayBuffer> | Float32Array<ArrayBuffer>;

export interface Volume {
  shape: Vec3;
  /** As stored, i fastest; the scan's own value is slope * stored + intercept. */
  voxels: Voxels;
  slope: number;
  intercept: number;
}

/** Bytes of the fixed header, and where its fields are. */
const HEADER = 348;
const DIMENSIONS = 40;
const DATATYPE = 70;
const OFFSET = 108;
const SLOPE = 112;
const INTERCEPT = 116;

const TYPES = new Map<
  number,
  typeof Uint8Array<ArrayBuffer> | typeof Int16Array<ArrayBuffer> | typeof Float32Array<ArrayBuffer>
>([
  [2, Uint8Array],
  [4, Int16Array],
  [16, Float32Array],
]);

/**
 * Reads a volume as it arrives, into memory that is taken once.
 *
 * @param stream Uncompressed bytes of the file.
 * @param onProgress Is told the fraction that has arrived, 0 to 1.
 * @throws Error saying what was found and what was expected.
 */
export async function readVolume(
  stream: ReadableStream<Uint8Array>,
  onProgress: (fraction: number) => void = () => undefined,
): Promise<Volume> {
  const reader = stream.getReader();
  let head = new Uint8Array(0);
  while (head.length < HEADER) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`The scan ended within its header, after ${head.length} bytes.`);
    head = concatenate(head, value);
  }
  const { shape, type, offset, slope, intercept } = readHeader(new DataView(head.buffer));
  const count = shape[0] * shape[1] * shape[2];
  const bytes = new Uint8Array(offset + count * type.BYTES_PER_ELEMENT);
  let position = 0;
  for (let part: Uint8Array | undefined = head; part; part = (await reader.read()).value) {
    if (position + part.length > bytes.length) {
      throw new Error(
        `The scan has more than the ${bytes.length} bytes that its header announces.`,
      );
    }
    bytes.set(part, position);
    position += part.length;
    onProgress(position / bytes.length);
  }
  if (position < bytes.length) {
    throw new Error(`The scan ended after ${position} of ${bytes.length} bytes.`);
  }
  return { shape, voxels: new type(bytes.buffer, offset, count), slope, intercept };
}

function concatenate(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

function readHeader(header: DataView) {
  if (header.getInt32(0, true) !== HEADER) throw new Error("The scan is not a NIfTI-1 file.");
  const code = header.getInt16(DATATYPE, true);
  const type = TYPES.get(code);
  if (!type) throw new Error(`The scan's voxels are of NIfTI's type ${code}; expected 2, 4 or 16.`);
  const size = (axis: number) => header.getInt16(DIMENSIONS + 2 * axis, true);
  const shape: Vec3 = [size(1), size(2), size(3)];
  // A slope of 0 says that values are not scaled.
  const slope = header.getFloat32(SLOPE, true);
  return {
    shape,
    type,
    offset: header.getFloat32(OFFSET, true),
    slope: slope === 0 ? 1 : slope,
    intercept: slope === 0 ? 0 : header.getFloat32(INTERCEPT, true),
  };
}
