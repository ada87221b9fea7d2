import assert from "node:assert/strict";
import { test } from "node:test";

import { WheelSteps, wheelZoom } from "./navigate.ts";

test("a notch of any wheel is one slice, towards the user one back", () => {
  const wheel = new WheelSteps();
  assert.equal(wheel.turn(-53), 1);
  assert.equal(wheel.turn(-120), 1);
  assert.equal(wheel.turn(100), -1);
});

test("small steps of a touchpad add up to slices", () => {
  const wheel = new WheelSteps();
  const steps = Array.from({ length: 10 }, () => wheel.turn(12.5));
  // 4 x 12.5 = 50 pixels are a slice.
  assert.deepEqual(steps.map((step) => step + 0), [0, 0, 0, -1, 0, 0, 0, -1, 0, 0]);
});

test("turning round begins anew", () => {
  const wheel = new WheelSteps();
  wheel.turn(40);
  assert.equal(wheel.turn(-40) + 0, 0);
  assert.equal(wheel.turn(-10), 1);
});

test("turning away zooms in, and as far back zooms out as much", () => {
  assert.equal(wheelZoom(-400), 2);
  assert.equal(wheelZoom(400), 0.5);
});
