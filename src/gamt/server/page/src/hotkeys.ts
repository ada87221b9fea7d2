/** Which key does what; the help dialog shows the same table. */

import type { App } from "./app.ts";
import type { Layout } from "./store.ts";
import type { Tool } from "./tools/tool.ts";

export interface Hotkey {
  /** As `comboOf` writes it. */
  combo: string;
  does: string;
  run(): void;
}

export interface HotkeyGroup {
  title: string;
  hotkeys: Hotkey[];
}

/** What of a keyboard event says which key was pressed. */
interface Pressed {
  key: string;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
  shiftKey: boolean;
}

/**
 * A key with its modifiers, such as "Ctrl+Shift+Z" and "?"; the Command key counts as Ctrl.
 *
 * Shift is left out where the character has it already.
 */
export function comboOf(event: Pressed): string {
  const isLetter = /^[a-z]$/i.test(event.key);
  const isNamed = event.key.length > 1;
  const parts = [];
  if (event.ctrlKey || event.metaKey) parts.push("Ctrl");
  if (event.altKey) parts.push("Alt");
  if (event.shiftKey && (isLetter || isNamed)) parts.push("Shift");
  parts.push(isLetter ? event.key.toUpperCase() : event.key === " " ? "Space" : event.key);
  return parts.join("+");
}

/** What keys do beside the app's own actions. */
export interface PageActions {
  save(): void;
  help(): void;
  /** Have the keys that come next go to the slices. */
  focusSlices(): void;
}

const TOOL_KEYS: [string, Tool, string][] = [
  ["P", "point", "Point"],
  ["B", "box", "Box"],
  ["S", "scribble", "Scribble"],
  ["L", "lasso", "Lasso"],
  ["W", "window", "Window: drag changes level and width"],
  ["N", "navigate", "Navigate: drag moves the crosshair"],
];

const LAYOUT_KEYS: [string, Layout, string][] = [
  ["1", "all", "All views"],
  ["2", "axial", "Axial alone"],
  ["3", "coronal", "Coronal alone"],
  ["4", "sagittal", "Sagittal alone"],
  ["5", "3d", "3-D alone"],
];

export function hotkeysOf(app: App, page: PageActions): HotkeyGroup[] {
  const tools = TOOL_KEYS.map(([combo, tool, does]) => ({
    combo,
    does,
    run: () => {
      app.setTool(tool);
      page.focusSlices();
    },
  }));
  const layouts = LAYOUT_KEYS.map(([combo, layout, does]) => ({
    combo,
    does,
    run: () => app.setLayout(layout),
  }));
  const togglePositive = () => app.setPositive(!app.store.now.positive);
  const toggleDisagreement = () => app.setDisagreement(!app.store.now.disagreement);
  return [
    {
      title: "Draw",
      hotkeys: [
        ...tools,
        { combo: "T", does: "Add, or take away (as the right button)", run: togglePositive },
        { combo: "Escape", does: "Drop the drawing; stop the prediction", run: () => app.cancel() },
      ],
    },
    {
      title: "Correct",
      hotkeys: [
        { combo: "Ctrl+Z", does: "Undo", run: () => app.step("undo") },
        { combo: "Ctrl+Shift+Z", does: "Redo", run: () => app.step("redo") },
        { combo: "Ctrl+Y", does: "Redo", run: () => app.step("redo") },
        { combo: "R", does: "Reset the target", run: () => app.step("reset") },
      ],
    },
    {
      title: "Targets",
      hotkeys: [
        { combo: "E", does: "Next target", run: () => app.chooseNextTarget() },
        { combo: "A", does: "Add a target", run: () => app.addTarget() },
        { combo: "V", does: "Show or hide the target", run: () => app.toggleVisible() },
      ],
    },
    {
      title: "Views",
      hotkeys: [
        ...layouts,
        { combo: "D", does: "Where the views disagree", run: toggleDisagreement },
        { combo: "0", does: "Whole slices again", run: () => app.resetView() },
      ],
    },
    {
      title: "Page",
      hotkeys: [
        { combo: "Ctrl+S", does: "Save", run: () => page.save() },
        { combo: "?", does: "This help", run: () => page.help() },
      ],
    },
  ];
}

/** Whether a field or a choice takes what is typed there. */
function takesLetters(target: EventTarget | null): boolean {
  if (target instanceof HTMLInputElement) {
    return !["checkbox", "radio", "range"].includes(target.type);
  }
  return target instanceof HTMLSelectElement;
}

/**
 * Listen for the keys, wherever the focus is but in a field or a dialog.
 *
 * @param onSlices takes a key that is meant for the slices, and says whether it was.
 */
export function listenForHotkeys(
  groups: readonly HotkeyGroup[],
  onSlices: (event: KeyboardEvent) => boolean,
): void {
  const runs = new Map(groups.flatMap(({ hotkeys }) => hotkeys).map((key) => [key.combo, key.run]));
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    const combo = comboOf(event);
    // The browser's own Save is meant nowhere on this page.
    if (combo === "Ctrl+S") event.preventDefault();
    else if (takesLetters(event.target)) return;
    if (document.querySelector("dialog[open]") || onSlices(event)) return;
    const run = runs.get(combo);
    if (!run) return;
    event.preventDefault();
    // A key that is held down is pressed once.
    if (!event.repeat) run();
  });
}
