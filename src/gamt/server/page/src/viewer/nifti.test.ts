import assert from "node:assert/strict";
import { test } from "node:test";

import { readVolume } from "./nifti.ts";

/** A file of 2 x 1 x 3 voxels. */
function file(type: number, voxels: ArrayBufferView, slope = 0, intercept = 0): Uint8Array {
  const bytes = new Uint8Array(352 + voxels.byteLength);
  const header = new DataView(bytes.buffer);
  header.setInt32(0, 348, true);
  [3, 2, 1, 3].forEach((size, n) => header.setInt16(40 + 2 * n, size, true));
  header.setInt16(70, type, true);
  header.setFloat32(108, 352, true);
  header.setFloat32(112, slope, true);
  header.setFloat32(116, intercept, true);
  bytes.set(new Uint8Array(voxels.buffer), 352);
  return bytes;
}

/** Sends bytes in parts that end at `ends`. */
function stream(bytes: Uint8Array, ...ends: number[]): ReadableStream<Uint8Array> {
  const starts = [0, ...ends];
  return new ReadableStream({
    start(controller) {
      starts.forEach((start, n) =>
        controller.enqueue(bytes.subarray(start, ends[n] ?? bytes.length)),
      );
      controller.close();
    },
  });
}

test("voxels are read however the bytes are divided", async () => {
  const voxels = Int16Array.of(-1024, 5, 3071, 0, -1, 300);
  for (const ends of [[], [1, 347, 349, 353], [352], [100, 363]]) {
    const volume = await readVolume(stream(file(4, voxels), ...ends));
    assert.deepEqual(volume, { shape: [2, 1, 3], voxels: volume.voxels, slope: 1, intercept: 0 });
    assert.deepEqual([...volume.voxels], [...voxels]);
  }
});

test("bytes and floats keep their type, and how they are scaled", async () => {
  const bytes = await readVolume(stream(file(2, Uint8Array.of(1, 2, 3, 4, 5, 255), 2, -10)));
  assert.ok(bytes.voxels instanceof Uint8Array);
  assert.deepEqual([bytes.slope, bytes.intercept], [2, -10]);
  const floats = await readVolume(stream(file(16, Float32Array.of(0.5, 2, 3, 4, 5, 6))));
  assert.equal(floats.voxels[0], 0.5);
});

test("progress ends at 1", async () => {
  const fractions: number[] = [];
  const bytes = file(2, new Uint8Array(6));
  await readVolume(stream(bytes, 355), (fraction) => fractions.push(fraction));
  assert.deepEqual(fractions, [355 / 358, 1]);
});

test("a file that is cut off says how much came", async () => {
  const bytes = file(2, new Uint8Array(6));
  await assert.rejects(readVolume(stream(bytes.subarray(0, 355))), /355 of 358 bytes/);
  await assert.rejects(readVolume(stream(bytes.subarray(0, 200))), /header, after 200 bytes/);
});

test("a file that is longer than its header says is refused", async () => {
  await assert.rejects(readVolume(stream(file(2, new Uint8Array(7)))), /more than the 358 bytes/);
});

test("another type of voxels is named", async () => {
  await assert.rejects(
    readVolume(stream(file(64, new Float64Array(6)))),
    /type 64; expected 2, 4 or 16/,
  );
});

test("what isn't NIfTI is refused", async () => {
  await assert.rejects(readVolume(stream(new Uint8Array(400))), /not a NIfTI-1 file/);
});
