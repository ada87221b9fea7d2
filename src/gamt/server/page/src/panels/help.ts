/** The help dialog: how to begin, and all keys. */

import { byId, element } from "../dom.ts";
import type { HotkeyGroup } from "../hotkeys.ts";
import { TOOL_HELP } from "../tools/help.ts";
import type { Tool } from "../tools/tool.ts";

/** What the pointer and the keys do on the slices themselves. */
const ON_SLICES: [string, string][] = [
  ["Right button", "Draw what to take away"],
  ["Wheel", "Scroll the slices"],
  ["Ctrl+Wheel", "Zoom"],
  ["Ctrl+Drag", "Window: level and width"],
  ["Space+Drag", "Pan, as with the middle button"],
  ["Arrows", "Move the crosshair (with Shift, ten voxels), or turn the 3-D view"],
  ["Page Up/Down", "Scroll; with Shift, ten slices"],
  ["X", "Next view for the keys"],
  ["+ and -", "Zoom"],
  ["Enter", "Point, corner, end of a line"],
  ["Backspace", "Take the last corner back"],
  ["Delete", "Remove the prompt pointed at"],
];

const TOOL_NAMES: [Tool, string][] = [
  ["point", "Point"],
  ["box", "Box"],
  ["scribble", "Scribble"],
  ["lasso", "Lasso"],
  ["navigate", "Navigate"],
  ["window", "Window"],
];

export class HelpDialog {
  private readonly dialog = byId<HTMLDialogElement>("help");

  constructor() {
    byId("help-open").addEventListener("click", () => this.show());
  }

  fill(groups: readonly HotkeyGroup[]): void {
    const close = element(
      "button",
      { type: "button", class: "button", onclick: () => this.dialog.close() },
      "Close",
    );
    const tables = groups.map(({ title, hotkeys }) =>
      table(
        title,
        hotkeys.map(({ combo, does }) => [combo, does]),
      ),
    );
    const tools = TOOL_NAMES.flatMap(([tool, name]) => [
      element("dt", {}, name),
      element("dd", {}, TOOL_HELP[tool]),
    ]);
    this.dialog.replaceChildren(
      element(
        "div",
        { class: "title" },
        element("h2", { id: "help-title" }, "How it works"),
        close,
      ),
      element(
        "p",
        {},
        "Begin with a box or a click; a mask follows each prompt. Where it is too small, click " +
          "what is missing; where it is too large, click there with the right button.",
      ),
      element("dl", { class: "tools" }, ...tools),
      element("div", { class: "tables" }, ...tables, table("On the slices", ON_SLICES)),
    );
  }

  show(): void {
    if (!this.dialog.open) this.dialog.showModal();
  }
}

function table(title: string, rows: [string, string][]): HTMLElement {
  const lines = rows.flatMap(([keys, does]) => [
    element("dt", {}, element("kbd", {}, keys)),
    element("dd", {}, does),
  ]);
  return element("section", {}, element("h3", {}, title), element("dl", {}, ...lines));
}
