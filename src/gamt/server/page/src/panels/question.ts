/** A dialog that asks something, and what was answered. */

import { byId, element } from "../dom.ts";

export class Question {
  private readonly dialog = byId<HTMLDialogElement>("question");

  get isOpen(): boolean {
    return this.dialog.open;
  }

  /** Close it unanswered, where the question has become idle. */
  dismiss(): void {
    this.dialog.close();
  }

  /**
   * Ask, and wait for the answer.
   *
   * @returns whether `yes` was chosen; false for `no`, null where it was left unanswered.
   */
  ask(title: string, text: string, yes: string, no = "Cancel"): Promise<boolean | null> {
    const { dialog } = this;
    const answer = (value: string) => () => dialog.close(value);
    dialog.replaceChildren(
      element("h2", { id: "question-title" }, title),
      element("p", {}, text),
      element(
        "div",
        { class: "row end" },
        element("button", { type: "button", class: "button", onclick: answer("no") }, no),
        element("button", { type: "button", class: "button primary", autofocus: true, onclick: answer("yes") }, yes),
      ),
    );
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      const answered = () => resolve(dialog.returnValue === "" ? null : dialog.returnValue === "yes");
      dialog.addEventListener("close", answered, { once: true });
    });
  }
}
