/** The list of targets. */

import type { App } from "../app.ts";
import { byId, element, setAttribute, setText, updateList } from "../dom.ts";
import { icon, setIcon } from "../icons.ts";
import { volumeText } from "../text.ts";
import type { Target } from "../types.ts";
import type { Question } from "./question.ts";

/** Okabe and Ito's, which colour-blind people tell apart, too. */
const COLORS = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"];
const COLOR_LIST = "target-colors";

export function mountTargets(app: App, question: Question): void {
  const list = byId<HTMLElement>("targets");
  const add = byId<HTMLButtonElement>("add-target");
  add.addEventListener("click", () => app.addTarget());
  const options = COLORS.map((value) => element("option", { value }));
  list.after(element("datalist", { id: COLOR_LIST }, ...options));
  let current: number | null = null;
  app.store.subscribe(() => {
    const { state } = app.store.now;
    add.disabled = !state.scan;
    updateList(
      list,
      state.targets,
      (target) => target.id,
      (target) => makeRow(app, question, target.id),
      (row, target) => updateRow(row, target, target.id === state.target),
    );
    if (state.target !== current) {
      current = state.target;
      list.querySelector(".current")?.scrollIntoView({ block: "nearest" });
    }
  });
}

function makeRow(app: App, question: Question, id: number): HTMLElement {
  const now = () => app.store.now.state.targets.find((target) => target.id === id);
  const name = element("input", {
    class: "name",
    type: "text",
    maxlength: 80,
    spellcheck: "false",
  });
  const rename = () => {
    const wanted = name.value.trim();
    if (wanted && wanted !== now()?.name) app.changeTarget(id, { name: wanted });
    else name.value = now()?.name ?? "";
  };
  name.addEventListener("change", rename);
  name.addEventListener("keydown", (event) => {
    if (event.key === "Escape") name.value = now()?.name ?? "";
    if (event.key === "Enter" || event.key === "Escape") name.blur();
  });
  const color = element("input", {
    class: "color",
    type: "color",
    list: COLOR_LIST,
    onchange: (event) => app.changeTarget(id, { color: (event.target as HTMLInputElement).value }),
  });
  const choice = element("input", {
    class: "choice",
    type: "radio",
    name: "target",
    onchange: () => app.chooseTarget(id),
  });
  const remove = async () => {
    const target = now();
    if (!target) return;
    const text = `Its mask (${volumeText(target.volume_ml)}) and its prompts go with it.`;
    const isEmpty = target.voxels === 0 && target.prompts.length === 0;
    const answers = { yes: "Delete", isDanger: true };
    if (isEmpty || (await question.ask(`Delete ${target.name}?`, text, answers)))
      app.removeTarget(id);
  };
  const row = element(
    "li",
    { class: "target" },
    choice,
    color,
    name,
    element("span", { class: "volume numbers" }),
    element(
      "button",
      {
        type: "button",
        class: "mini see",
        onclick: () => app.changeTarget(id, { visible: !now()?.visible }),
      },
      icon("eye"),
    ),
    element(
      "button",
      {
        type: "button",
        class: "mini lock",
        onclick: () => app.changeTarget(id, { locked: !now()?.locked }),
      },
      icon("unlock"),
    ),
    element(
      "button",
      { type: "button", class: "mini delete", onclick: () => void remove() },
      icon("trash"),
    ),
  );
  row.addEventListener("click", (event) => {
    if (!(event.target as Element).closest("button, .color, .choice")) app.chooseTarget(id);
  });
  return row;
}

function updateRow(row: HTMLElement, target: Target, isCurrent: boolean): void {
  const part = <T extends HTMLElement>(selector: string) => row.querySelector(selector) as T;
  row.classList.toggle("current", isCurrent);
  row.classList.toggle("hidden", !target.visible);
  const choice = part<HTMLInputElement>(".choice");
  choice.checked = isCurrent;
  setAttribute(choice, "aria-label", `Work on ${target.name}`);
  const color = part<HTMLInputElement>(".color");
  // While it is chosen from, it shows what is tried.
  if (document.activeElement !== color) color.value = target.color;
  setAttribute(color, "aria-label", `Colour of ${target.name}`);
  const name = part<HTMLInputElement>(".name");
  if (document.activeElement !== name) name.value = target.name;
  setAttribute(name, "aria-label", `Name of target ${target.id}`);
  setText(part(".volume"), volumeText(target.volume_ml));
  toggle(part(".see"), target.visible, `Show ${target.name}`, target.visible ? "eye" : "eyeOff");
  toggle(part(".lock"), target.locked, `Lock ${target.name}`, target.locked ? "lock" : "unlock");
  const remove = part<HTMLButtonElement>(".delete");
  remove.disabled = target.locked;
  setAttribute(remove, "aria-label", `Delete ${target.name}`);
}

function toggle(
  button: HTMLElement,
  on: boolean,
  label: string,
  shown: "eye" | "eyeOff" | "lock" | "unlock",
): void {
  setAttribute(button, "aria-pressed", String(on));
  setAttribute(button, "aria-label", label);
  setAttribute(button, "title", label);
  setIcon(button, shown);
}
