/** The page's icons: strokes on a grid of 24 x 24. */

const SVG = "http://www.w3.org/2000/svg";

const PATHS = {
  point: "M12 3v5M12 16v5M3 12h5M16 12h5M12 11.5v1",
  box: "M5 5h14v14H5zM3.5 3.5h3v3h-3zM17.5 3.5h3v3h-3zM3.5 17.5h3v3h-3zM17.5 17.5h3v3h-3z",
  scribble: "M3 17c3-9 6-11 7.5-9s-3 9-.5 9.5 4-7.5 6.5-7-.5 6 4.5 5",
  lasso: "M12 4c5 0 9 2.5 9 6s-4 6-9 6-9-2.5-9-6 4-6 9-6zM7 15.3c-1.5.7-2 3 0 3.4s3 1 2.5 2.8",
  navigate:
    "M12 3v18M3 12h18M12 3 9.5 5.5M12 3l2.5 2.5M12 21l-2.5-2.5M12 21l2.5-2.5" +
    "M3 12l2.5-2.5M3 12l2.5 2.5M21 12l-2.5-2.5M21 12l-2.5 2.5",
  window: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 3v18M12 7h6.5M12 11h8.8M12 15h8.3",
  positive: "M12 5v14M5 12h14",
  negative: "M5 12h14",
  undo: "M8 5 4 9l4 4M4 9h10a6 6 0 0 1 0 12h-4",
  redo: "M16 5l4 4-4 4M20 9H10a6 6 0 0 0 0 12h4",
  reset: "M4 12a8 8 0 1 0 2.6-5.9M4 4v4.5h4.5",
  cancel: "M6 6l12 12M18 6 6 18",
  eye:
    "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z" +
    "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  eyeOff: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM4 4l16 16",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlock: "M6 11h12v9H6zM8.5 11V7a3.5 3.5 0 0 1 6.8-1.2",
  trash: "M4 7h16M9.5 7V4h5v3M6.5 7l.8 13h9.4l.8-13M10.3 11v5.5M13.7 11v5.5",
  plus: "M12 5v14M5 12h14",
  save: "M12 4v11M7.5 10.5 12 15l4.5-4.5M4 16v4h16v-4",
  help:
    "M9 9.2a3 3 0 1 1 4.3 2.7c-.9.5-1.3 1-1.3 2.1M12 17.5v.3" +
    "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
  sun:
    "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2" +
    "M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M18.7 5.3l-1.4 1.4M6.7 17.3l-1.4 1.4",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  scan: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4M7.5 12h9",
  mask: "M4 4h16v16H4zM8 14.5c1-4 3-6.5 5.5-5.5s3.5 3.5 1.5 5.5-5 3-7 0z",
  drop: "M12 15V4M7.5 8.5 12 4l4.5 4.5M4 14v6h16v-6",
  question: "M9 8.7a3 3 0 1 1 4.3 2.7c-.9.5-1.3 1-1.3 2.6M12 18v.3",
} as const;

export type IconName = keyof typeof PATHS;

/** An icon, hidden from screen readers: whatever holds it has the name. */
export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** Show another icon in place of the one that an element holds. */
export function setIcon(of: Element, name: IconName): void {
  of.querySelector("svg.icon path")?.setAttribute("d", PATHS[name]);
}
