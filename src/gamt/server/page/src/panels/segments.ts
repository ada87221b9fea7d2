/** One choice of several, side by side: radio buttons, so that arrows move between them. */

import { element, focusSlices } from "../dom.ts";

/**
 * Fill a fieldset with choices.
 *
 * @returns what shows which of them is chosen, and which can't be.
 */
export function segments<T extends string>(
  fieldset: HTMLFieldSetElement,
  name: string,
  choices: readonly { value: T; label: string }[],
  choose: (value: T) => void,
): (value: T | null, disabled: boolean) => void {
  const inputs = choices.map(({ value, label }) => {
    const input = element("input", { type: "radio", name, value, onchange: () => choose(value) });
    fieldset.append(element("label", {}, input, element("span", {}, label)));
    return input;
  });
  // After a click, unlike after an arrow, the keys are meant for the slices again.
  fieldset.addEventListener("click", (event) => {
    if (event.detail > 0 && event.target instanceof HTMLInputElement) focusSlices();
  });
  return (value, disabled) => {
    fieldset.disabled = disabled;
    for (const input of inputs) input.checked = input.value === value;
  };
}
