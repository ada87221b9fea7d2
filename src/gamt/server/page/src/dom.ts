/** Making and updating elements. */

type Attribute = string | number | boolean | null | ((event: Event) => void);

/**
 * Make an element.
 *
 * A function is a listener, under its property's name (`onclick`); `true` is an empty attribute;
 * `false` and null are none.
 */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, Attribute> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else setAttribute(made, name, value);
  }
  made.append(...children);
  return made;
}

export function setAttribute(
  of: Element,
  name: string,
  value: string | number | boolean | null,
): void {
  if (value === null || value === false) of.removeAttribute(name);
  else of.setAttribute(name, value === true ? "" : String(value));
}

/** Set a text where it differs, so that screen readers aren't told the same again. */
export function setText(of: Element, text: string): void {
  if (of.textContent !== text) of.textContent = text;
}

/** The page's own element of that id, which index.html has. */
export function byId<T extends Element>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found as Element as T;
}

/**
 * Make a list's children those of `items`, keeping the element of every item that stays: focus,
 * and what is being typed, stay with it.
 */
export function updateList<T>(
  list: Element,
  items: readonly T[],
  keyOf: (item: T) => string | number,
  make: (item: T) => HTMLElement,
  update: (row: HTMLElement, item: T) => void,
): void {
  const rows = new Map<string, HTMLElement>();
  for (const row of list.children) {
    if (row instanceof HTMLElement && row.dataset["key"]) rows.set(row.dataset["key"], row);
  }
  let place: Element | null = list.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const row = rows.get(key) ?? make(item);
    row.dataset["key"] = key;
    rows.delete(key);
    update(row, item);
    if (row === place) place = place.nextElementSibling;
    else list.insertBefore(row, place);
  }
  for (const row of rows.values()) removeRow(row);
}

/** Have the keys that come next go to the slices. */
export function focusSlices(): void {
  byId<SVGSVGElement>("overlay").focus({ preventScroll: true });
}

/** Remove a row; the focus goes on to the same control of the next one, not to nowhere. */
function removeRow(row: HTMLElement): void {
  const controlsOf = (of: Element) => [...of.querySelectorAll<HTMLElement>("button, input")];
  const focused = document.activeElement;
  const place = focused ? controlsOf(row).indexOf(focused as HTMLElement) : -1;
  const next = row.nextElementSibling ?? row.previousElementSibling;
  const heir = next && controlsOf(next)[place];
  // First: a row that is removed with the focus in it tells its listeners, who may update the list.
  if (place >= 0 && heir) heir.focus();
  else if (place >= 0) focusSlices();
  row.remove();
}
