/** The dialog that saves. */

import { downloadUrl } from "../api.ts";
import type { App } from "../app.ts";
import { byId, element } from "../dom.ts";
import type { Scan } from "../types.ts";

export class SaveDialog {
  private readonly dialog = byId<HTMLDialogElement>("save");
  private readonly app: App;
  private format = "";

  constructor(app: App) {
    this.app = app;
    byId("save-open").addEventListener("click", () => this.show());
  }

  show(): void {
    const scan = this.app.store.now.state.scan;
    if (!scan || this.dialog.open) return;
    if (!scan.formats.some(({ id }) => id === this.format)) this.format = scan.formats[0]?.id ?? "";
    this.ask(scan);
    this.dialog.showModal();
  }

  /** Where it goes, and as what. */
  private ask(scan: Scan): void {
    const download = element("a", { class: "button", download: true }, "Download");
    const choose = (format: string) => {
      this.format = format;
      download.href = downloadUrl(format);
    };
    choose(this.format);
    const formats = scan.formats.map(({ id, label }) =>
      element(
        "label",
        { class: "choice-line" },
        element("input", {
          type: "radio",
          name: "format",
          value: id,
          checked: id === this.format,
          onchange: () => choose(id),
        }),
        element("span", {}, label),
      ),
    );
    const where = scan.output
      ? element("p", {}, "Saved to ", element("code", {}, scan.output))
      : element(
          "p",
          {},
          "This scan came from the browser: the result goes there, too, as a download.",
        );
    const buttons = scan.output
      ? [download, this.button("Save", "primary", () => void this.save(scan, false))]
      : [download];
    if (!scan.output) download.classList.add("primary");
    const fieldset = element(
      "fieldset",
      { class: "choices" },
      element("legend", {}, "Format"),
      ...formats,
    );
    this.fill("Save the result", [where, fieldset], buttons);
  }

  private async save(scan: Scan, overwrite: boolean): Promise<void> {
    for (const button of this.dialog.querySelectorAll("button")) button.disabled = true;
    const result = await this.app.save(this.format, overwrite);
    if (result === null) {
      this.dialog.close();
    } else if ("question" in result) {
      const replace = this.button("Replace", "danger", () => void this.save(scan, true));
      const back = this.button("Back", "", () => this.ask(scan));
      this.fill("Replace the file?", [element("p", {}, result.question)], [back, replace]);
    } else {
      const files = result.map((path) => element("li", {}, element("code", {}, path)));
      const done = this.button("Done", "primary", () => this.dialog.close());
      this.fill("Saved", [element("ul", { class: "files" }, ...files)], [done]);
      done.focus();
    }
  }

  private fill(title: string, content: HTMLElement[], buttons: HTMLElement[]): void {
    const close = this.button("Close", "", () => this.dialog.close());
    const isLast = title === "Saved";
    this.dialog.replaceChildren(
      element("h2", { id: "save-title" }, title),
      ...content,
      element("div", { class: "row end" }, ...(isLast ? [] : [close]), ...buttons),
    );
  }

  private button(label: string, kind: string, run: () => void): HTMLButtonElement {
    return element("button", { type: "button", class: `button ${kind}`, onclick: run }, label);
  }
}
