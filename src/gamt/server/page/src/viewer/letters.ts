/** Letters of orientation at the edges of slices. */

import { LETTERS, type Tile } from "./geometry.ts";

/** CSS pixels from a tile's edge. */
const MARGIN = 6;

export class Letters {
  readonly element = document.createElement("div");
  private placed = "";

  constructor() {
    this.element.ariaHidden = "true";
    this.element.style.cssText =
      "position: absolute; overflow: hidden; pointer-events: none; color: #c9d1d9;" +
      "font: 600 13px system-ui, sans-serif; line-height: 1.2";
  }

  /** @param tiles In CSS pixels from the canvas's corner. */
  place(tiles: Tile[], canvas: HTMLCanvasElement): void {
    // Most redraws move nothing.
    const places = tiles.map(({ plane, x, y, width, height }) => [plane, x, y, width, height]);
    const key = JSON.stringify([places, canvas.offsetLeft, canvas.offsetTop]);
    if (key === this.placed) return;
    this.placed = key;
    const { style } = this.element;
    style.left = `${canvas.offsetLeft}px`;
    style.top = `${canvas.offsetTop}px`;
    style.width = `${canvas.offsetWidth}px`;
    style.height = `${canvas.offsetHeight}px`;
    this.element.replaceChildren(...tiles.flatMap(lettersOf));
  }
}

function lettersOf({ plane, x, y, width, height }: Tile): HTMLElement[] {
  if (plane === "3d") return [];
  const [left, top, right, bottom] = LETTERS[plane];
  const middle = [x + width / 2, y + height / 2] as const;
  return [
    letter(left, x + MARGIN, middle[1], "0, -50%"),
    letter(top, middle[0], y + MARGIN, "-50%, 0"),
    letter(right, x + width - MARGIN, middle[1], "-100%, -50%"),
    letter(bottom, middle[0], y + height - MARGIN, "-50%, -100%"),
  ];
}

function letter(text: string, x: number, y: number, shift: string): HTMLElement {
  const element = document.createElement("span");
  element.textContent = text;
  const { style } = element;
  style.position = "absolute";
  // The crosshair may run through it.
  style.background = "#000";
  style.padding = "0 3px";
  style.borderRadius = "3px";
  style.left = `${x}px`;
  style.top = `${y}px`;
  style.transform = `translate(${shift})`;
  return element;
}
