/** A change as it travels: 4 bytes (little-endian) n, n bytes of JSON, then the labels. */

import type { Change, State, Vec3 } from "./types.ts";

interface Head {
  state: State;
  low: Vec3 | null;
  high: Vec3 | null;
}

/**
 * Read a change. Its labels are a view of `body`, not a copy.
 *
 * @throws Error where the body's length doesn't fit what it says of itself.
 */
export function decodeChange(body: ArrayBuffer): Change {
  if (body.byteLength < 4) throw new Error(`a change of ${body.byteLength} bytes`);
  const length = new DataView(body).getUint32(0, true);
  if (4 + length > body.byteLength) throw new Error("a change that ends within its head");
  const text = new TextDecoder().decode(new Uint8Array(body, 4, length));
  const { state, low, high } = JSON.parse(text) as Head;
  const labels = new Uint8Array(body, 4 + length);
  const voxels = low && high ? (high[0] - low[0]) * (high[1] - low[1]) * (high[2] - low[2]) : 0;
  if (labels.length !== voxels) {
    throw new Error(`a change of ${voxels} voxels with ${labels.length} labels`);
  }
  return { state, patch: low && high ? { low, high, labels } : null };
}
