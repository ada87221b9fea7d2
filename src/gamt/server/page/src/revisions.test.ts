import assert from "node:assert/strict";
import { test } from "node:test";

import { Revisions } from "./revisions.ts";

test("answers one after the other leave nothing to ask for", () => {
  const revisions = new Revisions(3);
  assert.equal(revisions.answered(4), true);
  assert.equal(revisions.answered(5), true);
  revisions.told(5);
  assert.equal(revisions.behind, false);
});

test("an answer that was overtaken is old, and the labels are asked for again", () => {
  const revisions = new Revisions(3);
  assert.equal(revisions.answered(5), true);
  assert.equal(revisions.answered(4), false);
  assert.equal(revisions.behind, true);
});

test("another tab's change between two of this page's is noticed", () => {
  const revisions = new Revisions(3);
  revisions.answered(5);
  assert.equal(revisions.behind, true);
  revisions.restart(5);
  assert.equal(revisions.behind, false);
});

test("what the server says while an answer is on its way is no miss once that is here", () => {
  const revisions = new Revisions(3);
  revisions.told(4);
  assert.equal(revisions.behind, false);
  revisions.answered(4);
  assert.equal(revisions.outdated, false);
});

test("another tab's change that was told of before this page's answer isn't forgotten", () => {
  const revisions = new Revisions(3);
  revisions.told(5);
  revisions.answered(4);
  assert.equal(revisions.outdated, true);
});

test("what is older than an answer is no news", () => {
  const revisions = new Revisions(3);
  revisions.answered(4);
  revisions.told(3);
  assert.equal(revisions.outdated, false);
});

test("a server that has begun anew counts from lower down", () => {
  const revisions = new Revisions(30);
  revisions.told(31);
  revisions.forgetTold();
  revisions.restart(1);
  assert.equal(revisions.outdated, false);
  revisions.told(2);
  assert.equal(revisions.outdated, true);
});
