/** What an earlier run didn't save is offered once for each scan that is opened. */

import type { App } from "../app.ts";
import { byId } from "../dom.ts";
import type { State } from "../types.ts";
import type { Question } from "./question.ts";

type Recovery = NonNullable<State["recovery"]>;

export function mountRecovery(app: App, question: Question): void {
  let offered: string | null = null;
  let isAsking = false;
  const offer = async (name: string, recovery: Recovery) => {
    isAsking = true;
    const wanted = await ask(question, name, recovery);
    isAsking = false;
    // Another tab may have answered, or opened another scan, before this one did.
    if (wanted !== null && app.store.now.state.recovery) await app.restore(wanted);
  };
  const update = () => {
    const { state, loading } = app.store.now;
    const { scan, recovery } = state;
    if (isAsking && !recovery) question.dismiss();
    if (!scan || !recovery || loading || question.isOpen || isAsking) return;
    const found = `${scan.id} ${recovery.saved_at}`;
    if (found === offered) return;
    offered = found;
    void offer(scan.name, recovery);
  };
  app.store.subscribe(update);
  // One that had to wait for another question.
  byId("question").addEventListener("close", update);
}

/** Whether it is to be restored; false to discard it, null where that was left open. */
async function ask(question: Question, name: string, recovery: Recovery): Promise<boolean | null> {
  const targets = counted(recovery.targets, "target");
  const prompts = counted(recovery.prompts, "prompt");
  const work = `${targets} with ${prompts}, from ${new Date(recovery.saved_at).toLocaleString()}`;
  const text = `There is work on ${name} that was not saved: ${work}.`;
  for (;;) {
    const wanted = await question.ask("Go on from where you were?", text, {
      yes: "Restore",
      no: "Discard",
    });
    if (wanted !== false) return wanted;
    const discarded = `This deletes ${work}. It can't be brought back.`;
    const isSure = await question.ask("Discard the unsaved work?", discarded, {
      yes: "Discard for good",
      no: "Back",
      isDanger: true,
    });
    if (isSure !== false) return isSure === null ? null : false;
  }
}

function counted(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
