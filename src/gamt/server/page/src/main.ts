/** The page: its parts, made and made known to each other. */

import { App, rememberedTheme } from "./app.ts";
import { byId, element, setText } from "./dom.ts";
import { hotkeysOf, listenForHotkeys } from "./hotkeys.ts";
import { icon, type IconName } from "./icons.ts";
import { mountBar } from "./panels/bar.ts";
import { mountFiles } from "./panels/files.ts";
import { HelpDialog } from "./panels/help.ts";
import { mountPrompts } from "./panels/prompts.ts";
import { Question } from "./panels/question.ts";
import { mountRail } from "./panels/rail.ts";
import { mountRecovery } from "./panels/recovery.ts";
import { SaveDialog } from "./panels/save.ts";
import { mountStatus } from "./panels/status.ts";
import { mountTargets } from "./panels/targets.ts";
import { Toasts } from "./panels/toasts.ts";
import { Store } from "./store.ts";
import { ToolLayer } from "./tools/layer.ts";
import type { ToolHost } from "./tools/tool.ts";
import { Viewer } from "./viewer/viewer.ts";

for (const holder of document.querySelectorAll<HTMLElement>("[data-icon]")) {
  holder.prepend(icon(holder.dataset["icon"] as IconName));
}

const toasts = new Toasts();
try {
  start(new Viewer(byId("canvas")));
} catch (error) {
  // No WebGL 2, say: without a viewer there is nothing to work on.
  showFailure(error instanceof Error ? error.message : String(error));
}

/** Instead of all views and panels, with the bar's controls off. */
function showFailure(message: string): void {
  const title = element("h2", {}, "The page can't draw");
  const card = element("div", { class: "drop" }, title, element("p", {}, message));
  byId("stage").append(element("div", { id: "failure", role: "alert" }, card));
  for (const id of ["rail", "panel", "status"]) byId(id).replaceChildren();
  for (const one of document.querySelectorAll<HTMLButtonElement>("button, input, select")) {
    one.disabled = true;
  }
}

function start(viewer: Viewer): void {
  const store = new Store();
  const app = new App(store, viewer, toasts);
  const overlay = byId<SVGSVGElement>("overlay");
  const tools = new ToolLayer(overlay, viewer, hostOf(app));
  const question = new Question();
  const save = new SaveDialog(app);
  const help = new HelpDialog();
  const hotkeys = hotkeysOf(app, {
    save: () => save.show(),
    help: () => help.show(),
    focusSlices: () => overlay.focus(),
  });
  help.fill(hotkeys);
  listenForHotkeys(hotkeys, (event) => tools.handleKey(event));

  mountBar(app);
  mountRail(app);
  mountTargets(app, question);
  mountPrompts(app);
  mountFiles(app, question);
  mountRecovery(app, question);
  const status = mountStatus(app, () => viewer.crosshair);
  viewer.onChange(() => status.place());
  viewer.onFailure((message) => toasts.error(message));

  let { tool } = store.now;
  let scan: string | null = null;
  tools.setTool(tool);
  store.subscribe(() => {
    const shown = store.now.state.scan?.id ?? null;
    // What is being drawn belongs to the tool and the scan that it was begun with.
    if (store.now.tool !== tool || shown !== scan) {
      tool = store.now.tool;
      scan = shown;
      tools.setTool(tool);
    }
    tools.draw();
  });
  addEventListener("beforeunload", (event) => {
    if (store.now.state.unsaved || store.now.waiting.length > 0) event.preventDefault();
  });
  store.change({ theme: rememberedTheme() });
  app.start();
}

/** What the tools see of the page. */
function hostOf(app: App): ToolHost {
  const { store } = app;
  const announcer = byId<HTMLElement>("announcer");
  return {
    get state() {
      return app.isScanShown ? app.state : null;
    },
    get positive() {
      return store.now.positive;
    },
    get highlighted() {
      return store.now.highlighted;
    },
    get window() {
      return store.now.window;
    },
    addPrompt: (prompt) => app.addPrompt(prompt),
    removePrompt: (id) => app.removePrompt(id),
    highlight: (id) => app.highlight(id),
    setWindow: (level, width) => app.setWindow(level, width),
    announce: (text) => setText(announcer, text),
  };
}
