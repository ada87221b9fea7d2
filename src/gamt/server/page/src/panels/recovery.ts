/** What an earlier run didn't save is offered once for each scan that is opened. */

import type { App } from "../app.ts";
import type { Question } from "./question.ts";

export function mountRecovery(app: App, question: Question): void {
  let offered: string | null = null;
  let isAsking = false;
  app.store.subscribe(() => {
    const { state, loading } = app.store.now;
    const scan = state.scan;
    const recovery = state.recovery;
    // Another tab has answered.
    if (isAsking && !recovery) question.dismiss();
    if (!scan || !recovery || loading || question.isOpen) return;
    const offer = `${scan.id} ${recovery.saved_at}`;
    if (offer === offered) return;
    offered = offer;
    const targets = counted(recovery.targets, "target");
    const prompts = counted(recovery.prompts, "prompt");
    const when = new Date(recovery.saved_at).toLocaleString();
    const text = `An earlier run ended before its work on ${scan.name} was saved: ${targets} with ${prompts}, of ${when}.`;
    isAsking = true;
    void question.ask("Go on from where you were?", text, "Restore", "Discard").then((wanted) => {
      isAsking = false;
      if (wanted !== null) void app.restore(wanted);
    });
  });
}

function counted(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
