/** Messages over the views. */

import type { Notices } from "../app.ts";
import { byId, element } from "../dom.ts";
import { icon } from "../icons.ts";

const INFO_MS = 6000;

export class Toasts implements Notices {
  private readonly place = byId<HTMLElement>("toasts");

  error(message: string): void {
    this.show(message, "alert");
  }

  info(message: string): void {
    const toast = this.show(message, "status");
    setTimeout(() => toast.remove(), INFO_MS);
  }

  private show(message: string, role: "alert" | "status"): HTMLElement {
    for (const earlier of this.place.children) {
      if (earlier.firstElementChild?.textContent === message) earlier.remove();
    }
    const toast = element("div", { class: `toast ${role}`, role }, element("p", {}, message));
    const close = element(
      "button",
      { type: "button", class: "mini", "aria-label": "Close", onclick: () => toast.remove() },
      icon("cancel"),
    );
    toast.append(close);
    this.place.append(toast);
    return toast;
  }
}
