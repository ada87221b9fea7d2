import assert from "node:assert/strict";
import { test } from "node:test";

import { decodeChange } from "./change.ts";

function encode(head: object, labels: number[]): ArrayBuffer {
  const json = new TextEncoder().encode(JSON.stringify(head));
  const body = new Uint8Array(4 + json.length + labels.length);
  new DataView(body.buffer).setUint32(0, json.length, true);
  body.set(json, 4);
  body.set(labels, 4 + json.length);
  return body.buffer;
}

test("a change has its state, its bounds and its labels", () => {
  const head = { state: { revision: 7 }, low: [1, 2, 3], high: [3, 3, 4] };
  const change = decodeChange(encode(head, [5, 6]));
  assert.equal(change.state.revision, 7);
  assert.deepEqual(change.patch?.low, [1, 2, 3]);
  assert.deepEqual(change.patch?.high, [3, 3, 4]);
  assert.deepEqual([...(change.patch?.labels ?? [])], [5, 6]);
});

test("a change that changed no voxel has no patch", () => {
  assert.equal(decodeChange(encode({ state: {}, low: null, high: null }, [])).patch, null);
});

test("names of any alphabet arrive whole", () => {
  const head = { state: { targets: [{ name: "Leber ≥ 肝" }] }, low: null, high: null };
  assert.equal(decodeChange(encode(head, [])).state.targets[0]?.name, "Leber ≥ 肝");
});

test("a change that was cut short is refused", () => {
  const body = encode({ state: {}, low: [0, 0, 0], high: [2, 2, 2] }, [1, 1, 1]);
  assert.throws(() => decodeChange(body), /8 voxels with 3 labels/);
  assert.throws(() => decodeChange(body.slice(0, 9)), /ends within its head/);
  assert.throws(() => decodeChange(new ArrayBuffer(2)), /2 bytes/);
});
