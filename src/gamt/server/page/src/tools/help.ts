/** What the help says of each tool. */

import type { Tool } from "./tool.ts";

export const TOOL_HELP: Readonly<Record<Tool, string>> = {
  point: "Click inside of the target. With the right button, click where it should not be.",
  box:
    "Drag around the target on one slice of any plane: it is found above and below as well. " +
    "To say where it begins and ends, scroll to its last slice while you drag, or click one corner, " +
    "scroll, and click the opposite one: nothing is found outside of such a box.",
  scribble: "Draw a line inside of the target: all that it covers is certain.",
  lasso:
    "Draw the target's outline on one slice, or click its corners and the first one again to close.",
  window: "Drag to the right for less contrast, upwards for a darker picture.",
  navigate:
    "Drag the cross that the other planes follow; a drag in 3-D turns it, with any tool.",
};
