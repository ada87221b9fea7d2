/** Colours of the labels. */

import type { Target } from "../types.ts";

/**
 * Returns red, green, blue and opacity of each of the 256 labels, 0 to 255 each.
 *
 * @param opacity How opaque labels are filled, 0 to 1. Labels that are hidden, or no target's,
 * have 0.
 */
export function colorTable(targets: Target[], opacity: number): Uint8Array<ArrayBuffer> {
  const table = new Uint8Array(4 * 256);
  // An alpha of 0 says hidden: also without any fill, a label that is shown has its outline.
  const alpha = Math.max(Math.round(255 * opacity), 1);
  for (const { id, color, visible } of targets) {
    const number = Number.parseInt(color.slice(1), 16);
    table.set([number >> 16, (number >> 8) & 255, number & 255, visible ? alpha : 0], 4 * id);
  }
  return table;
}
