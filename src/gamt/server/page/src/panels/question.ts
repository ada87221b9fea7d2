/** A dialog that asks something, and what was answered. */

import { byId, element } from "../dom.ts";

interface Answers {
  yes: string;
  /** "Cancel" where it isn't given. */
  no?: string;
  /** Whether `yes` destroys something: it looks so, and Enter means `no`. */
  isDanger?: boolean;
}

/** Asks one question at a time. */
export class Question {
  private readonly dialog = byId<HTMLDialogElement>("question");
  /** Hands over the answer to the question that is open. */
  private settle: ((answer: boolean | null) => void) | null = null;

  constructor() {
    this.dialog.addEventListener("close", () => {
      // The event comes late: by now, the next question may be open.
      if (!this.dialog.open) this.answer(null);
    });
  }

  get isOpen(): boolean {
    return this.settle !== null;
  }

  /** Close it unanswered, where the question has become idle. */
  dismiss(): void {
    this.answer(null);
  }

  /**
   * Ask, and wait for the answer.
   *
   * @returns whether `yes` was chosen; false for `no`, null where it was left unanswered, as it is
   *   where another question is open.
   */
  ask(title: string, text: string, answers: Answers): Promise<boolean | null> {
    if (this.isOpen) return Promise.resolve(null);
    const { yes, no = "Cancel", isDanger = false } = answers;
    const button = (label: string, kind: string, isFirst: boolean, answer: boolean) =>
      element(
        "button",
        {
          type: "button",
          class: `button ${kind}`,
          autofocus: isFirst,
          onclick: () => this.answer(answer),
        },
        label,
      );
    this.dialog.replaceChildren(
      element("h2", { id: "question-title" }, title),
      element("p", {}, text),
      element(
        "div",
        { class: "row end" },
        button(no, "", isDanger, false),
        button(yes, isDanger ? "danger" : "primary", !isDanger, true),
      ),
    );
    this.dialog.showModal();
    return new Promise((resolve) => (this.settle = resolve));
  }

  private answer(answer: boolean | null): void {
    const { settle } = this;
    this.settle = null;
    this.dialog.close();
    settle?.(answer);
  }
}
