/** The help dialog: how to begin, and all keys. */

import { byId, element } from "../dom.ts";
import type { HotkeyGroup } from "../hotkeys.ts";

/** What the mouse and the keys do on the slices themselves. */
const ON_SLICES: [string, string][] = [
  ["Wheel", "Scroll the slices"],
  ["Ctrl + wheel", "Zoom"],
  ["Middle button, Space + drag", "Pan"],
  ["Right button", "Draw what to take away"],
  ["Arrows", "Move the crosshair"],
  ["Page up, Page down", "Next, previous slice"],
  ["Enter", "Place a point, a corner"],
  ["Backspace", "Take the last corner back"],
  ["Delete", "Remove the selected prompt"],
];

export class HelpDialog {
  private readonly dialog = byId<HTMLDialogElement>("help");

  constructor() {
    byId("help-open").addEventListener("click", () => this.show());
  }

  fill(groups: readonly HotkeyGroup[]): void {
    const close = element("button", { type: "button", class: "button primary", onclick: () => this.dialog.close() }, "Close");
    const tables = groups.map(({ title, hotkeys }) =>
      table(title, hotkeys.map(({ combo, does }) => [combo, does])),
    );
    this.dialog.replaceChildren(
      element("h2", { id: "help-title" }, "How it works"),
      element(
        "p",
        {},
        "Drag a box around the target on any slice, or click into it. A mask follows each prompt. Where it is too small, click what is missing; where it is too large, click there with the right button.",
      ),
      element("div", { class: "tables" }, ...tables, table("On the slices", ON_SLICES)),
      element("div", { class: "row end" }, close),
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
