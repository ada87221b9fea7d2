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

test("a server that has begun anew counts from lower down", () => {
  const revisions = new Revisions(30);
  revisions.told(1);
  assert.equal(revisions.behind, true);
});
