/** The bar at the top: scans, window, views, theme, help, Save. */

import type { App } from "../app.ts";
import { byId, element, focusSlices, setAttribute, updateList } from "../dom.ts";
import { setIcon } from "../icons.ts";
import type { Layout } from "../store.ts";
import type { ImageEntry, NamedWindow } from "../types.ts";
import { segments } from "./segments.ts";

const LAYOUTS: { value: Layout; label: string }[] = [
  { value: "all", label: "All" },
  { value: "axial", label: "Axial" },
  { value: "coronal", label: "Coronal" },
  { value: "sagittal", label: "Sagittal" },
  { value: "3d", label: "3-D" },
];

/** Shown until a scan is open. */
const NO_IMAGE: ImageEntry = { id: "none", name: "Choose a scan", is_open: false };

/** Chosen by the numbers alone. */
const CUSTOM = "custom";

export function mountBar(app: App): void {
  const { store } = app;
  const image = byId<HTMLSelectElement>("image");
  const windowName = byId<HTMLSelectElement>("window-name");
  const level = byId<HTMLInputElement>("level");
  const width = byId<HTMLInputElement>("width");
  const theme = byId<HTMLButtonElement>("theme");
  const unsaved = byId<HTMLElement>("unsaved");
  const layouts = segments(byId("layout"), "layout", LAYOUTS, (value) => app.setLayout(value));

  onChoice(image, () => {
    const open = app.store.now.state.images.find(({ is_open }) => is_open);
    if (image.value !== open?.id) app.openImage(image.value);
  });
  onChoice(windowName, () => {
    const chosen = windowsOf(app).find(({ name }) => name === windowName.value);
    if (chosen) app.setWindow(chosen.level, chosen.width);
  });
  const setNumbers = () => {
    if (width.valueAsNumber > 0 && Number.isFinite(level.valueAsNumber)) {
      app.setWindow(level.valueAsNumber, width.valueAsNumber);
    } else {
      // What can't be a window isn't left standing as if it were.
      level.value = numberText(store.now.window?.level);
      width.value = numberText(store.now.window?.width);
    }
  };
  for (const field of [level, width]) {
    field.addEventListener("change", setNumbers);
    field.addEventListener("keydown", ({ key }) => {
      if (key === "Enter" || key === "Escape") focusSlices();
    });
  }
  theme.addEventListener("click", () =>
    app.setTheme(store.now.theme === "dark" ? "light" : "dark"),
  );

  store.subscribe(() => {
    const { state, window, layout } = store.now;
    const { scan } = state;
    const title = scan ? `${state.unsaved ? "• " : ""}${scan.name} – GAMT` : "GAMT";
    if (document.title !== title) document.title = title;
    document.documentElement.dataset["theme"] = store.now.theme;
    const other = store.now.theme === "dark" ? "light" : "dark";
    for (const name of ["aria-label", "title"])
      setAttribute(theme, name, other === "dark" ? "Dark theme" : "Light theme");
    setIcon(theme, other === "dark" ? "moon" : "sun");

    const images = state.images;
    byId<HTMLElement>("image-field").hidden = images.length === 0;
    const open = images.find(({ is_open }) => is_open);
    // Without it, the only one would be chosen already, and choosing it no change.
    const choices = open ? images : [NO_IMAGE, ...images];
    updateList(image, choices, (one) => one.id, makeImage, updateImage);
    if (document.activeElement !== image) image.value = (open ?? NO_IMAGE).id;

    for (const id of ["save-open", "load-mask"]) byId<HTMLButtonElement>(id).disabled = !scan;
    unsaved.hidden = !state.unsaved;
    byId<HTMLFieldSetElement>("window-group").disabled = !scan;
    const windows = windowsOf(app);
    updateList(
      windowName,
      [...windows.map(({ name }) => name), CUSTOM],
      (name) => name,
      makeName,
      () => {},
    );
    const shown = windows.find(
      (one) => one.level === window?.level && one.width === window.width,
    );
    if (document.activeElement !== windowName) {
      windowName.value = scan ? (shown?.name ?? CUSTOM) : "";
    }
    showNumber(level, window?.level);
    showNumber(width, window?.width);
    layouts(layout, scan === null);
  });
}

/**
 * Have what is chosen from a list take effect, and give the keys back to the slices.
 *
 * In a closed list, arrows and letters choose all that they pass: they count once Enter is pressed
 * or the list is left.
 */
function onChoice(list: HTMLSelectElement, use: () => void): void {
  let isPassing = false;
  let isChanged = false;
  const take = () => {
    if (isChanged) use();
    isChanged = false;
  };
  list.addEventListener("keydown", ({ key, altKey }) => {
    isPassing = key !== "Enter" && key !== " " && !altKey;
    if (key !== "Enter" || !isChanged) return;
    take();
    focusSlices();
  });
  list.addEventListener("pointerdown", () => {
    isPassing = false;
  });
  list.addEventListener("change", () => {
    isChanged = true;
    if (isPassing) return;
    take();
    focusSlices();
  });
  list.addEventListener("blur", take);
}

/** The named ones, after the one that the scan is shown in at first. */
function windowsOf(app: App): NamedWindow[] {
  const scan = app.store.now.state.scan;
  return scan ? [{ name: "Default", ...scan.window }, ...scan.windows] : [];
}

function showNumber(field: HTMLInputElement, value: number | undefined): void {
  if (document.activeElement !== field) field.value = numberText(value);
}

function numberText(value: number | undefined): string {
  return value === undefined ? "" : String(Number(value.toPrecision(5)));
}

function makeImage(image: ImageEntry): HTMLOptionElement {
  return element("option", { value: image.id, hidden: image === NO_IMAGE }, image.name);
}

function updateImage(option: HTMLElement, image: ImageEntry): void {
  option.textContent = image.name;
}

function makeName(name: string): HTMLOptionElement {
  return element(
    "option",
    { value: name, hidden: name === CUSTOM },
    name === CUSTOM ? "Custom" : capital(name),
  );
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
