/** The dialog that saves. */

import type { Saved } from "../api.ts";
import type { App } from "../app.ts";
import { byId, element, setText } from "../dom.ts";
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
    if (!scan || document.querySelector("dialog[open]")) return;
    if (!scan.formats.some(({ id }) => id === this.format)) this.format = scan.formats[0]?.id ?? "";
    this.ask(scan);
    this.dialog.showModal();
  }

  /** Where it goes, and as what. */
  private ask(scan: Scan): void {
    const file = element("code");
    const choose = (format: string) => {
      this.format = format;
      const name = scan.formats.find(({ id }) => id === format)?.file ?? "";
      setText(file, scan.output === null ? name : `${scan.output}/${name}`);
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
    const fieldset = element(
      "fieldset",
      { class: "choices" },
      element("legend", {}, "Format"),
      ...formats,
    );
    const download = (kind: string) => this.button("Download", kind, () => void this.download());
    const [where, buttons] =
      scan.output === null
        ? [element("p", {}, "Will be downloaded as ", file), [download("primary")]]
        : [
            element("p", {}, "Will be saved as ", file),
            [download(""), this.button("Save", "primary", () => void this.save(scan, false))],
          ];
    this.fill("Save the result", [where, fieldset], [this.closing("Close", ""), ...buttons]);
  }

  private async save(scan: Scan, overwrite: boolean): Promise<void> {
    this.disable();
    const result = await this.app.save(this.format, overwrite);
    if (result === null) this.dialog.close();
    else if ("question" in result) this.askToReplace(scan, result.question);
    else this.tell(result);
  }

  private askToReplace(scan: Scan, question: string): void {
    const back = this.button("Back", "", () => this.ask(scan));
    const replace = this.button("Replace", "danger", () => void this.save(scan, true));
    this.fill(
      "Replace the file?",
      [element("p", {}, question)],
      [this.closing("Close", ""), back, replace],
    );
    this.reopen();
    back.focus();
  }

  private tell({ files, note }: Saved): void {
    const names = files.map((path) => element("li", {}, element("code", {}, path)));
    const list = element("ul", { class: "files" }, ...names);
    const done = this.closing("Done", "primary");
    this.fill("Saved", note ? [list, noteOf(note)] : [list], [done]);
    this.reopen();
    done.focus();
  }

  private async download(): Promise<void> {
    this.disable();
    const file = await this.app.download(this.format);
    if (!file) {
      this.dialog.close();
      return;
    }
    const address = URL.createObjectURL(file.content);
    element("a", { href: address, download: file.name }).click();
    // Once the browser has taken it.
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    if (!file.note) {
      this.dialog.close();
      return;
    }
    const done = this.closing("Done", "primary");
    const name = element("p", {}, element("code", {}, file.name));
    this.fill("Downloaded", [name, noteOf(file.note)], [done]);
    this.reopen();
    done.focus();
  }

  /** Until the server has answered. */
  private disable(): void {
    for (const button of this.dialog.querySelectorAll("button")) button.disabled = true;
  }

  /** Escape closes it, also while it waits: what came of it is shown all the same. */
  private reopen(): void {
    if (!this.dialog.open) this.dialog.showModal();
  }

  private fill(title: string, content: HTMLElement[], buttons: HTMLElement[]): void {
    this.dialog.replaceChildren(
      element("h2", { id: "save-title" }, title),
      ...content,
      element("div", { class: "row end" }, ...buttons),
    );
  }

  private closing(label: string, kind: string): HTMLButtonElement {
    return this.button(label, kind, () => this.dialog.close());
  }

  private button(label: string, kind: string, run: () => void): HTMLButtonElement {
    return element("button", { type: "button", class: `button ${kind}`, onclick: run }, label);
  }
}

/** What the files don't hold, which the server says without a capital and a full stop. */
function noteOf(note: string): HTMLElement {
  return element("p", { class: "note", role: "status" }, `Please note: ${note}.`);
}
