/** What users do, and what becomes of it: requests to the server, answers onto the page. */

import * as api from "./api.ts";
import { Connection } from "./connection.ts";
import { Revisions } from "./revisions.ts";
import type { Layout, Loading, Store, Theme, Waiting } from "./store.ts";
import { currentTarget, nextTarget, notReceived, withWaiting } from "./store.ts";
import type { Tool } from "./tools/tool.ts";
import type { Busy, Change, NewPrompt, Scale, State, Target } from "./types.ts";
import type { Viewer } from "./viewer/viewer.ts";

const THEME_KEY = "gamt-theme";

/** Where messages to users appear. */
export interface Notices {
  /** Stays until it is closed. */
  error(message: string): void;
  /** Goes by itself. */
  info(message: string): void;
}

export class App {
  readonly store: Store;
  private readonly viewer: Viewer;
  private readonly notices: Notices;
  private readonly connection: Connection;
  private readonly revisions = new Revisions(0);
  /** The scan in the viewer. */
  private loaded: string | null = null;
  /** The one that is on its way there. */
  private opening: { scan: string } | null = null;
  /** The scan that can't be drawn, which isn't fetched again until users ask for it. */
  private unshowable: string | null = null;
  /** What is waited for, by its number. */
  private readonly loadings = new Map<number, Loading>();
  private lastLoading = 0;
  /** As the events say: an answer may be older than they are. */
  private busy: Busy | null = null;
  /** Requests that aren't answered yet. */
  private open = 0;
  private refreshing = false;
  private lastWaiting = 0;
  /** Prompts that may not have reached the server. */
  private unsent: Waiting[] = [];
  /** Whether the prediction that begins next is to be stopped. */
  private isStopping = false;
  /** What the disagreement that is drawn is of. */
  private disagreementOf: string | null = null;

  constructor(store: Store, viewer: Viewer, notices: Notices) {
    this.store = store;
    this.viewer = viewer;
    this.notices = notices;
    this.connection = new Connection({
      opening: () => this.revisions.forgetTold(),
      connected: (state) => void this.connected(state),
      told: (revision, busy) => this.told(revision, busy),
      lost: () => this.lost(),
      refused: () => this.store.change({ connection: "refused" }),
    });
  }

  start(): void {
    this.connection.start();
  }

  /** Whether the scan that is worked on is seen: before, nothing can be drawn on it. */
  get isScanShown(): boolean {
    const { scan } = this.store.now.state;
    return scan !== null && scan.id === this.loaded;
  }

  /** The state with the prompts in it that are still on their way. */
  get state(): State {
    const { state, waiting } = this.store.now;
    // Another prompt's answer may have those in it already that aren't answered themselves.
    return withWaiting(state, notReceived(state, waiting));
  }

  /** Whether a prompt waits for the server to be reached; until then it can be taken back. */
  isUnsent(id: number): boolean {
    return this.unsent.some((one) => one.id === id);
  }

  // Prompts of the current target

  addPrompt(prompt: NewPrompt): void {
    const target = this.editableTarget();
    const { scan } = this.store.now.state;
    if (!target || !scan || !this.isScanShown) return;
    const isFirst = currentTarget(this.state)?.prompts.length === 0;
    this.send({ id: --this.lastWaiting, scan: scan.id, target: target.id, prompt });
    if (isFirst && prompt.kind === "box" && this.store.now.tool === "box") {
      // What follows a box are clicks, of which two would draw another one.
      this.setTool("point");
      this.notices.info("Now click what is missing (the tool is Point; B draws another box).");
    }
  }

  removePrompt(id: number): void {
    const target = this.editableTarget();
    if (!target) return;
    // A prompt on its way has no number yet; Cancel is what takes that one back.
    if (id < 0) this.withdraw(this.unsent.find((one) => one.id === id));
    else void this.change("Removing a prompt", api.removePrompt(target.id, id));
  }

  step(name: "undo" | "redo" | "reset"): void {
    const target = this.editableTarget();
    if (!target) return;
    if (name === "undo" && this.withdrawLast()) return;
    const possible = { undo: target.can_undo, redo: target.can_redo, reset: target.can_undo };
    const what = { undo: "Undo", redo: "Redo", reset: "Resetting the target" }[name];
    if (possible[name]) void this.change(what, api.step(name, target.id));
  }

  chooseScale(scale: Scale): void {
    const target = this.editableTarget();
    if (target) void this.change("Choosing the scale", api.chooseScale(target.id, scale));
  }

  /** Stop the prediction and take its prompt back. */
  cancel(): void {
    if (this.withdrawLast()) return;
    const { state, waiting } = this.store.now;
    if (state.busy) this.askState("Stopping the prediction", api.cancel());
    // It may not have reached the server.
    else this.isStopping = waiting.length > 0;
  }

  // Targets

  addTarget(): void {
    if (this.store.now.state.scan) this.askState("Adding a target", api.addTarget());
  }

  changeTarget(
    id: number,
    change: Partial<Pick<Target, "name" | "color" | "visible" | "locked">>,
  ): void {
    this.askState("Changing the target", api.changeTarget(id, change));
  }

  removeTarget(id: number): void {
    void this.change("Deleting the target", api.removeTarget(id));
  }

  chooseTarget(id: number): void {
    if (id === this.store.now.state.target) return;
    this.askState("Choosing the target", api.chooseTarget(id));
  }

  chooseNextTarget(): void {
    const next = nextTarget(this.store.now.state);
    if (next) this.chooseTarget(next);
  }

  toggleVisible(): void {
    const target = currentTarget(this.store.now.state);
    if (target) this.changeTarget(target.id, { visible: !target.visible });
  }

  // Files

  openImage(id: string): void {
    void this.load("Opening the scan", () => api.openImage(id));
  }

  openSample(): void {
    void this.load("Drawing the sample", () => api.openSample());
  }

  openFiles(files: File[]): void {
    const [first] = files;
    if (!first) return;
    const name = files.length > 1 ? `${files.length} files` : first.name;
    void this.load(`Sending ${name}`, (show) =>
      api.sendImage(files, (fraction) => {
        // All sent: what follows is the server's reading, which doesn't say how far it is.
        const text = fraction < 1 ? `Sending ${name}` : `Reading ${name}`;
        show({ text, fraction: fraction < 1 ? fraction : null });
      }),
    );
  }

  async loadMask(file: File): Promise<void> {
    const loading = this.beginLoading(`Reading ${file.name}`);
    await this.change("Loading the mask", api.loadMask(file));
    this.endLoading(loading);
  }

  async restore(wanted: boolean): Promise<void> {
    // What is unsent belongs to what is discarded.
    if (!wanted) this.forgetUnsent();
    await this.change(wanted ? "Restoring" : "Discarding", api.restore(wanted));
  }

  /**
   * Save on the server's side.
   *
   * @returns what was saved; the question to ask where it would overwrite something; null where it
   *   failed, which has been said.
   */
  async save(
    format: string,
    overwrite: boolean,
  ): Promise<api.Saved | { question: string } | null> {
    const saving = api.save(format, overwrite).catch((error: unknown) => {
      if (error instanceof api.Refusal && error.status === 409) return { question: error.message };
      throw error;
    });
    return this.ask("Saving", saving, (answer) => {
      if ("state" in answer) this.answered(answer.state);
    });
  }

  /** The file that Save would write; null where there is none, which has been said. */
  async download(format: string): Promise<api.Download | null> {
    const file = this.store.now.state.scan?.formats.find(({ id }) => id === format)?.file;
    return file === undefined
      ? null
      : this.ask("Downloading", api.download(format, file), () => undefined);
  }

  /** Tell users what failed. */
  fail(error: unknown): void {
    this.notices.error(error instanceof Error ? error.message : String(error));
  }

  // Looks

  setTool(tool: Tool): void {
    this.store.change({ tool });
  }

  setPositive(positive: boolean): void {
    this.store.change({ positive });
  }

  setLayout(layout: Layout): void {
    this.viewer.setLayout(layout);
    this.store.change({ layout });
  }

  setWindow(level: number, width: number): void {
    this.viewer.setWindow(level, width);
    this.store.change({ window: { level, width } });
  }

  setTheme(theme: Theme): void {
    localStorage.setItem(THEME_KEY, theme);
    this.store.change({ theme });
  }

  /** 0 to 1. */
  setOpacity(opacity: number): void {
    this.viewer.setOpacity(opacity);
  }

  resetView(): void {
    this.viewer.resetView();
  }

  highlight(prompt: number | null): void {
    if (prompt !== this.store.now.highlighted) this.store.change({ highlighted: prompt });
  }

  setDisagreement(disagreement: boolean): void {
    this.store.change({ disagreement });
    this.drawDisagreement();
  }

  // Answers

  private editableTarget(): Target | null {
    const target = currentTarget(this.store.now.state);
    if (target?.locked) {
      this.notices.info(`${target.name} is locked. Unlock it in the list of targets to go on.`);
      return null;
    }
    return target;
  }

  private send(one: Waiting): void {
    this.store.change({ waiting: [...this.store.now.waiting, one] });
    const answered = () => {
      const waiting = this.store.now.waiting.filter(({ id }) => id !== one.id);
      this.isStopping &&= waiting.length > 0;
      this.store.change({ waiting });
    };
    const used = (change: Change) => {
      answered();
      this.changed(change);
    };
    const request = api.addPrompt(one.target, one.prompt);
    // Nothing to be said where the server can't be reached: it is sent again.
    void this.ask(null, request, used, (error) => {
      if (error instanceof api.Unreachable) this.unsent.push(one);
      else answered();
    });
  }

  /** Take back a prompt that hasn't reached the server; whether there was one. */
  private withdraw(one: Waiting | undefined): boolean {
    if (!one) return false;
    this.unsent = this.unsent.filter((other) => other !== one);
    this.store.change({ waiting: this.store.now.waiting.filter((other) => other !== one) });
    return true;
  }

  private withdrawLast(): boolean {
    const { scan, target } = this.store.now.state;
    const own = this.unsent.filter((one) => one.scan === scan?.id && one.target === target);
    return this.withdraw(own.at(-1));
  }

  private async change(what: string, request: Promise<Change>): Promise<void> {
    await this.ask(what, request, (change) => this.changed(change));
  }

  private askState(what: string, request: Promise<State>): void {
    void this.ask(what, request, (state) => this.answered(state));
  }

  /**
   * Wait for an answer, and use it; a failure is said.
   *
   * @param what was asked for, said where the server can't be reached; null where that isn't lost.
   * @returns the answer; null where it failed.
   */
  private async ask<T>(
    what: string | null,
    request: Promise<T>,
    use: (answer: T) => void,
    onFailure?: (error: unknown) => void,
  ): Promise<T | null> {
    this.open += 1;
    let answer: T | null = null;
    try {
      answer = await request;
      use(answer);
    } catch (error) {
      onFailure?.(error);
      this.failed(error, what);
    } finally {
      this.open -= 1;
    }
    void this.catchUp().then(() => this.sendUnsent());
    return answer;
  }

  private failed(error: unknown, what: string | null = null): void {
    const isCutOff = error instanceof api.Refusal && error.status === 401;
    if (!isCutOff && !(error instanceof api.Unreachable)) {
      this.fail(error);
      return;
    }
    if (what) this.notices.error(`${what} may not have been done: ${error.message}`);
    this.connection.reopen();
  }

  private changed({ state, patch }: Change): void {
    if (patch && !this.revisions.behind && state.scan?.id === this.loaded) {
      this.viewer.applyPatch(patch);
    }
    this.answered(state);
  }

  private adopt(state: State): void {
    this.store.change({ state: { ...state, busy: this.busy } });
  }

  private answered(state: State): void {
    if (!this.revisions.answered(state.revision)) return;
    this.adopt(state);
    if ((state.scan?.id ?? null) !== this.loaded) void this.show(state);
    else this.viewer.setTargets(state.targets);
    this.drawDisagreement();
  }

  private told(revision: number, busy: Busy | null): void {
    this.busy = busy;
    this.adopt(this.store.now.state);
    this.revisions.told(revision);
    if (busy && this.isStopping) {
      this.isStopping = false;
      this.cancel();
    }
    void this.catchUp();
  }

  private lost(): void {
    // Whether it still predicts isn't known.
    this.busy = null;
    this.adopt(this.store.now.state);
    if (this.store.now.connection !== "refused") this.store.change({ connection: "lost" });
  }

  /** Ask for state and labels again where this page has missed something. */
  private async catchUp(): Promise<void> {
    if (this.refreshing) return;
    this.refreshing = true;
    try {
      // With an answer on its way, that may be all that is missing.
      while (this.open === 0 && this.revisions.outdated) await this.refresh(await api.readState());
    } catch (error) {
      this.failed(error);
    }
    this.refreshing = false;
  }

  private async connected(state: State): Promise<void> {
    if (this.store.now.connection !== "connected") this.unshowable = null;
    this.store.change({ connection: "connected" });
    try {
      await this.refresh(state);
    } catch (error) {
      this.failed(error);
    }
    this.sendUnsent();
  }

  /** Send what may not have reached the server, and hasn't. */
  private sendUnsent(): void {
    const { state, connection } = this.store.now;
    // What they add to may still have to be restored.
    if (this.unsent.length === 0 || connection !== "connected" || state.recovery) return;
    const again = notReceived(state, this.unsent);
    const isOfAnother = this.unsent.some(({ scan }) => scan !== state.scan?.id);
    this.forgetUnsent();
    if (isOfAnother) {
      this.notices.error(
        "Another scan was opened meanwhile: what you drew without a connection was dropped.",
      );
    }
    for (const one of again) this.send(one);
  }

  private forgetUnsent(): void {
    const { waiting } = this.store.now;
    this.store.change({ waiting: waiting.filter((one) => !this.unsent.includes(one)) });
    this.unsent = [];
  }

  /** Take this state and the labels that are the server's now. */
  private async refresh(state: State): Promise<void> {
    this.revisions.restart(state.revision);
    this.adopt(state);
    if ((state.scan?.id ?? null) !== this.loaded) await this.show(state);
    else if (state.scan) await this.readLabels();
  }

  private async readLabels(): Promise<void> {
    const { state, patch } = await api.readLabels();
    this.revisions.restart(state.revision);
    this.adopt(state);
    this.viewer.setTargets(state.targets);
    if (patch) this.viewer.setLabels(patch.high, patch.labels);
    this.drawDisagreement();
  }

  /** Show another scan, or none. */
  private async show(state: State): Promise<void> {
    const { scan } = state;
    if (!scan) {
      this.loaded = null;
      this.opening = null;
      this.viewer.clear();
      return;
    }
    if (this.opening?.scan === scan.id || this.unshowable === scan.id) return;
    const opening = { scan: scan.id };
    this.opening = opening;
    this.unshowable = null;
    this.loaded = null;
    const text = `Loading ${scan.name}`;
    const loading = this.beginLoading(text);
    try {
      await this.viewer.load(api.volumeUrl(scan.id), scan, (fraction) =>
        this.setLoading(loading, { text, fraction }),
      );
      this.loaded = scan.id;
      this.setWindow(scan.window.level, scan.window.width);
      await this.readLabels();
    } catch (error) {
      const reason = await reasonOf(error);
      // Another scan that came instead makes the one before fail.
      if (this.opening === opening) {
        if (!this.isScanShown && !(reason instanceof api.Unreachable)) this.unshowable = scan.id;
        this.failed(reason);
      }
    }
    if (this.opening === opening) this.opening = null;
    this.endLoading(loading);
  }

  private beginLoading(text: string): number {
    const loading = ++this.lastLoading;
    this.setLoading(loading, { text, fraction: null });
    return loading;
  }

  private setLoading(number: number, loading: Loading): void {
    this.loadings.set(number, loading);
    this.showLoading();
  }

  private endLoading(number: number): void {
    this.loadings.delete(number);
    this.showLoading();
  }

  /** What has begun last is what users wait for. */
  private showLoading(): void {
    this.store.change({ loading: [...this.loadings.values()].at(-1) ?? null });
  }

  private async load(
    text: string,
    request: (show: (loading: Loading) => void) => Promise<State>,
  ): Promise<void> {
    this.unshowable = null;
    const loading = this.beginLoading(text);
    const asked = request((now) => this.setLoading(loading, now));
    await this.ask("Opening the scan", asked, (state) => this.answered(state));
    this.endLoading(loading);
  }

  private drawDisagreement(): void {
    const { state, disagreement } = this.store.now;
    const wanted = disagreement && state.target ? `${state.target} ${state.revision}` : null;
    if (wanted === this.disagreementOf) return;
    this.disagreementOf = wanted;
    if (wanted === null || !state.target) {
      this.viewer.showDisagreement(null);
      return;
    }
    const draw = ({ patch }: Change) => {
      if (this.disagreementOf === wanted) this.viewer.showDisagreement(patch);
    };
    void this.ask(null, api.readDisagreement(state.target), draw, (error) => {
      // It is asked for again once the server can be reached.
      const isLost = error instanceof api.Unreachable;
      if (isLost && this.disagreementOf === wanted) this.disagreementOf = null;
    });
  }
}

/**
 * Why a scan can't be shown.
 *
 * A TypeError is what `fetch` throws where the server can't be reached, and what any mistake of the
 * page's own throws: the server is asked which one it is.
 */
async function reasonOf(error: unknown): Promise<unknown> {
  if (!(error instanceof TypeError)) return error;
  try {
    await api.readState();
  } catch (reason) {
    return reason;
  }
  return error;
}

/** The theme chosen earlier; dark where none was. */
export function rememberedTheme(): Theme {
  return localStorage.getItem(THEME_KEY) === "light" ? "light" : "dark";
}
