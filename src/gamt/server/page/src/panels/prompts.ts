/** The current target's prompts, and what can be asked of its result. */

import { explanationUrl } from "../api.ts";
import type { App } from "../app.ts";
import { byId, element, setAttribute, setText, updateList } from "../dom.ts";
import { icon, setIcon } from "../icons.ts";
import { currentTarget } from "../store.ts";
import { kindText, placeText } from "../text.ts";
import type { Prompt, Scale } from "../types.ts";
import { segments } from "./segments.ts";

const SCALES: { value: Scale; label: string }[] = [
  { value: "tight", label: "Tight" },
  { value: "medium", label: "Medium" },
  { value: "large", label: "Large" },
];

export function mountPrompts(app: App): void {
  const { store } = app;
  const list = byId<HTMLElement>("prompts");
  const title = byId<HTMLElement>("prompts-title");
  const count = byId<HTMLElement>("prompt-count");
  const note = byId<HTMLElement>("note");
  const none = byId<HTMLElement>("no-prompts");
  const why = byId<HTMLAnchorElement>("why");
  const disagreement = byId<HTMLInputElement>("disagreement");
  const scales = segments(byId("scales"), "scale", SCALES, (scale) => app.chooseScale(scale));
  const legend = byId<HTMLElement>("disagreement-legend");
  disagreement.addEventListener("change", () => app.setDisagreement(disagreement.checked));
  const opacity = byId<HTMLInputElement>("opacity");
  const setOpacity = () => app.setOpacity(opacity.valueAsNumber / 100);
  opacity.addEventListener("input", setOpacity);
  setOpacity();
  list.addEventListener("mouseleave", () => app.highlight(null));

  store.subscribe(() => {
    const target = currentTarget(app.state);
    const prompts = target?.prompts ?? [];
    setText(title, target ? `Prompts of ${target.name}` : "Prompts");
    setText(count, prompts.length > 0 ? String(prompts.length) : "");
    none.hidden = target === null || prompts.length > 0;
    const isPredicting = target !== null && store.now.state.busy?.target === target.id;
    // What is said of a target may be outdated by then, but nothing moves until there is a result.
    if (!isPredicting) {
      note.hidden = !target?.note;
      setText(note, target?.note ?? "");
    }
    updateList(
      list,
      prompts,
      (prompt) => prompt.id,
      (prompt) => makeRow(app, prompt.id),
      (row, prompt) =>
        updateRow(row, prompt, app.state.scan ? placeText(app.state.scan, prompt) : "", {
          isHighlighted: prompt.id === store.now.highlighted,
          isUnsent: app.isUnsent(prompt.id),
          isLocked: target?.locked ?? true,
        }),
    );
    scales(target?.scale ?? null, !target || target.locked || target.scales.length === 0);
    for (const input of document.querySelectorAll<HTMLInputElement>("#scales input")) {
      input.disabled = !target?.scales.includes(input.value as Scale);
    }
    disagreement.checked = store.now.disagreement;
    disagreement.disabled = !target;
    legend.hidden = !store.now.disagreement;
    const canExplain = target !== null && target.prompts.some(({ id }) => id > 0);
    setAttribute(why, "href", canExplain ? explanationUrl(target.id) : null);
    // A link without an address is none to screen readers.
    setAttribute(why, "role", canExplain ? null : "link");
    setAttribute(why, "aria-disabled", canExplain ? null : "true");
  });
}

function makeRow(app: App, id: number): HTMLElement {
  const row = element(
    "li",
    { class: "given" },
    icon("positive"),
    element("span", { class: "kind" }),
    element("span", { class: "where numbers" }),
    element(
      "button",
      { type: "button", class: "mini", onclick: () => app.removePrompt(id) },
      icon("cancel"),
    ),
  );
  row.addEventListener("mouseenter", () => app.highlight(id));
  row.addEventListener("focusin", () => app.highlight(id));
  row.addEventListener("focusout", () => app.highlight(null));
  return row;
}

function updateRow(
  row: HTMLElement,
  prompt: Prompt,
  place: string,
  { isHighlighted, isUnsent, isLocked }: Record<"isHighlighted" | "isUnsent" | "isLocked", boolean>,
): void {
  const [sign, kind, where, remove] = row.children;
  if (!sign || !kind || !where || !(remove instanceof HTMLButtonElement)) return;
  const isWaiting = prompt.id < 0;
  row.classList.toggle("positive", prompt.positive);
  row.classList.toggle("negative", !prompt.positive);
  row.classList.toggle("waiting", isWaiting);
  row.classList.toggle("highlighted", isHighlighted);
  setIcon(row, prompt.positive ? "positive" : "negative");
  setText(kind, kindText(prompt.kind));
  setText(where, isUnsent ? "not sent" : isWaiting ? "sending" : place);
  remove.disabled = (isWaiting && !isUnsent) || isLocked;
  const does = prompt.positive ? "adding" : "taking away";
  setAttribute(remove, "aria-label", `Remove the ${prompt.kind} ${does}, ${place}`);
}
