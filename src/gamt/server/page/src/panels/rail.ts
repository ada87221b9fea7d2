/** The rail of tools at the left. */

import type { App } from "../app.ts";
import { byId, element, focusSlices, setAttribute } from "../dom.ts";
import type { IconName } from "../icons.ts";
import { icon } from "../icons.ts";
import { currentTarget } from "../store.ts";
import type { Tool } from "../tools/tool.ts";

const TOOLS: { tool: Tool; label: string; key: string }[] = [
  { tool: "point", label: "Point", key: "P" },
  { tool: "box", label: "Box", key: "B" },
  { tool: "scribble", label: "Scribble", key: "S" },
  { tool: "lasso", label: "Lasso", key: "L" },
];

const HANDS: { tool: Tool; label: string; key: string }[] = [
  { tool: "navigate", label: "Navigate", key: "N" },
  { tool: "window", label: "Window", key: "W" },
];

export function mountRail(app: App): void {
  const { store } = app;
  const rail = byId<HTMLElement>("rail");
  const choices = new Map<Tool, HTMLButtonElement>();
  const chooser = ({ tool, label, key }: (typeof TOOLS)[number]) => {
    const made = button(tool, label, key, () => app.setTool(tool));
    choices.set(tool, made);
    return made;
  };
  const positive = button("positive", "Add", "T", () => app.setPositive(true));
  const negative = button("negative", "Take away", "T", () => app.setPositive(false));
  positive.classList.add("positive");
  negative.classList.add("negative");
  const undo = button("undo", "Undo", "Ctrl+Z", () => app.step("undo"));
  const redo = button("redo", "Redo", "Ctrl+Shift+Z", () => app.step("redo"));
  const reset = button("reset", "Reset the target", "R", () => app.step("reset"));
  const cancel = button("cancel", "Stop the prediction", "Esc", () => app.cancel());
  rail.append(
    group("Prompts", ...TOOLS.map(chooser)),
    group("What prompts do", positive, negative),
    group("Steps", undo, redo, reset, cancel),
    group("Views", ...HANDS.map(chooser)),
  );
  moveByArrows(rail);
  // After a click, unlike after Enter, the keys are meant for the slices again.
  rail.addEventListener("click", (event) => {
    if (event.detail > 0) focusSlices();
  });

  store.subscribe(() => {
    const { state, tool } = store.now;
    const target = currentTarget(state);
    const isReady = target !== null && !target.locked;
    for (const [name, made] of choices) setAttribute(made, "aria-pressed", String(name === tool));
    setAttribute(positive, "aria-pressed", String(store.now.positive));
    setAttribute(negative, "aria-pressed", String(!store.now.positive));
    setDisabled(undo, !isReady || !target.can_undo);
    setDisabled(redo, !isReady || !target.can_redo);
    setDisabled(reset, !isReady || !target.can_undo);
    setDisabled(cancel, !state.busy);
  });
}

function button(name: IconName, label: string, key: string, run: () => void): HTMLButtonElement {
  const shortcut = key.replace("Ctrl", "Control").replace("Esc", "Escape");
  return element(
    "button",
    {
      type: "button",
      class: "tool",
      "aria-label": label,
      "aria-keyshortcuts": shortcut,
      onclick: run,
    },
    icon(name),
    element("span", { class: "tip", "aria-hidden": "true" }, label, element("kbd", {}, key)),
  );
}

function group(label: string, ...buttons: HTMLButtonElement[]): HTMLElement {
  return element("div", { role: "group", "aria-label": label }, ...buttons);
}

/** Not the attribute `disabled`, which would take the focus away from who has just pressed it. */
function setDisabled(of: HTMLButtonElement, disabled: boolean): void {
  setAttribute(of, "aria-disabled", disabled ? "true" : null);
}

/** One stop for Tab, arrows within, as toolbars have it. */
function moveByArrows(rail: HTMLElement): void {
  const buttons = [...rail.querySelectorAll("button")];
  const stopAt = (stop: HTMLButtonElement | undefined) => {
    for (const one of buttons) one.tabIndex = one === stop ? 0 : -1;
  };
  stopAt(buttons[0]);
  rail.addEventListener("focusin", (event) => stopAt(event.target as HTMLButtonElement));
  rail.addEventListener("keydown", (event) => {
    const moves: Record<string, number> = {
      ArrowDown: 1,
      ArrowRight: 1,
      ArrowUp: -1,
      ArrowLeft: -1,
    };
    const move = moves[event.key];
    if (move === undefined) return;
    event.preventDefault();
    const place = buttons.indexOf(document.activeElement as HTMLButtonElement);
    buttons[(place + move + buttons.length) % buttons.length]?.focus();
  });
}
