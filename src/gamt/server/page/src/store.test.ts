import assert from "node:assert/strict";
import { test } from "node:test";

import { nextTarget, notReceived, Store, withWaiting } from "./store.ts";
import type { PointPrompt, Prompt, Scan, State, Target } from "./types.ts";

function target(id: number, prompts: Prompt[] = []): Target {
  return {
    id,
    name: `target ${id}`,
    color: "#56b4e9",
    visible: true,
    locked: false,
    voxels: 0,
    volume_ml: 0,
    prompts,
    can_undo: false,
    can_redo: false,
    scales: [],
    scale: null,
    note: null,
  };
}

const scan: Scan = {
  id: "a",
  name: "scan",
  shape: [7, 6, 5],
  spacing_mm: [1, 1, 2],
  file_voxel: [
    [1, 0, 0, 0],
    [0, 1, 0, 0],
    [0, 0, 1, 0],
  ],
  range: [0, 1],
  window: { level: 0.5, width: 1 },
  windows: [],
  output: null,
  formats: [],
};

function stateOf(targets: Target[], current = 1): State {
  return {
    revision: 1,
    version: "0",
    segmenter: "statistical",
    images: [],
    scan,
    targets,
    target: current,
    busy: null,
    last: null,
    unsaved: false,
    recovery: null,
  };
}

const click: PointPrompt = { kind: "point", positive: true, voxel: [3, 4, 5] };

test("a prompt on its way is shown with its own target's, after them", () => {
  const state = stateOf([target(1, [{ ...click, id: 9 }]), target(2)]);
  const shown = withWaiting(state, [{ id: -1, scan: "a", target: 1, prompt: click }]);
  assert.deepEqual(
    shown.targets.map((one) => one.prompts.map(({ id }) => id)),
    [[9, -1], []],
  );
  assert.equal(state.targets[0]?.prompts.length, 1);
});

test("of two equal clicks, of which the server got one, one is sent again", () => {
  const waiting = [
    { id: -1, scan: "a", target: 1, prompt: click },
    { id: -2, scan: "a", target: 1, prompt: click },
  ];
  const received: Prompt = { id: 4, voxel: [3, 4, 5], positive: true, kind: "point" };
  assert.deepEqual(notReceived(stateOf([target(1, [received])]), waiting), [waiting[1]]);
});

test("the same click on another target is another prompt", () => {
  const waiting = [{ id: -1, scan: "a", target: 2, prompt: click }];
  const state = stateOf([target(1, [{ ...click, id: 4 }]), target(2)]);
  assert.deepEqual(notReceived(state, waiting), waiting);
});

test("a prompt of another scan is neither shown nor sent, though that has a target 1, too", () => {
  const waiting = [{ id: -1, scan: "b", target: 1, prompt: click }];
  const state = stateOf([target(1)]);
  assert.deepEqual(notReceived(state, waiting), []);
  assert.deepEqual(withWaiting(state, waiting), state);
});

test("a prompt of a target that is gone is not sent again", () => {
  const waiting = [{ id: -1, scan: "a", target: 2, prompt: click }];
  assert.deepEqual(notReceived(stateOf([target(1)]), waiting), []);
});

test("the target after the last one is the first; one alone has no next", () => {
  assert.equal(nextTarget(stateOf([target(1), target(4)], 1)), 4);
  assert.equal(nextTarget(stateOf([target(1), target(4)], 4)), 1);
  assert.equal(nextTarget(stateOf([target(1)])), null);
});

test("a listener that changes something is called again only once it is done", () => {
  const store = new Store();
  const heard: string[] = [];
  store.subscribe(() => {
    heard.push("begin");
    if (store.now.highlighted === 1) store.change({ highlighted: null });
    heard.push("end");
  });
  store.change({ highlighted: 1 });
  assert.deepEqual(heard, ["begin", "end", "begin", "end"]);
  assert.equal(store.now.highlighted, null);
});
