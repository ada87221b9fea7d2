/** What users do, and what becomes of it: requests to the server, answers onto the page. */

import * as api from "./api.ts";
import { Connection } from "./connection.ts";
import { Revisions } from "./revisions.ts";
import type { Layout, Store, Theme, Waiting } from "./store.ts";
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
  private opening: string | null = null;
  /** As the events say: an answer may be older than they are. */
  private busy: Busy | null = null;
  /** Requests that aren't answered yet. */
  private open = 0;
  private refreshing = false;
  private lastWaiting = 0;
  /** Prompts that may not have reached the server. */
  private unsent: Waiting[] = [];
  /** What the disagreement that is drawn is of. */
  private disagreementOf: string | null = null;

  constructor(store: Store, viewer: Viewer, notices: Notices) {
    this.store = store;
    this.viewer = viewer;
    this.notices = notices;
    this.connection = new Connection({
      connected: (state) => void this.connected(state),
      told: (revision, busy) => this.told(revision, busy),
      lost: () => {
        if (this.store.now.connection !== "refused") this.store.change({ connection: "lost" });
      },
      refused: () => this.store.change({ connection: "refused" }),
    });
  }

  start(): void {
    this.connection.open();
  }

  /** The state with the prompts in it that are still on their way. */
  get state(): State {
    const { state, waiting } = this.store.now;
    return withWaiting(state, waiting);
  }

  // Prompts of the current target

  addPrompt(prompt: NewPrompt): void {
    const target = this.editableTarget();
    if (target) this.send({ id: --this.lastWaiting, target: target.id, prompt });
  }

  removePrompt(id: number): void {
    const target = this.editableTarget();
    // A prompt on its way has no number yet; Cancel is what takes that one back.
    if (target && id > 0) void this.change(api.removePrompt(target.id, id));
  }

  step(name: "undo" | "redo" | "reset"): void {
    const target = this.editableTarget();
    if (!target) return;
    const possible = { undo: target.can_undo, redo: target.can_redo, reset: target.can_undo };
    if (possible[name]) void this.change(api.step(name, target.id));
  }

  chooseScale(scale: Scale): void {
    const target = this.editableTarget();
    if (target) void this.change(api.chooseScale(target.id, scale));
  }

  cancel(): void {
    if (this.store.now.state.busy) void this.ask(api.cancel(), (state) => this.answered(state));
  }

  // Targets

  addTarget(): void {
    if (this.store.now.state.scan) void this.ask(api.addTarget(), (state) => this.answered(state));
  }

  changeTarget(id: number, change: Partial<Pick<Target, "name" | "color" | "visible" | "locked">>): void {
    void this.ask(api.changeTarget(id, change), (state) => this.answered(state));
  }

  removeTarget(id: number): void {
    void this.change(api.removeTarget(id));
  }

  chooseTarget(id: number): void {
    if (id === this.store.now.state.target) return;
    void this.ask(api.chooseTarget(id), (state) => this.answered(state));
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
    this.load("Opening the scan", api.openImage(id));
  }

  openSample(): void {
    this.load("Drawing the sample", api.openSample());
  }

  openFiles(files: File[]): void {
    const [first] = files;
    if (!first) return;
    const name = files.length > 1 ? `${files.length} files` : first.name;
    const sent = (fraction: number) => {
      // All sent: what follows is the server's reading, which doesn't say how far it is.
      const text = fraction < 1 ? `Sending ${name}` : `Reading ${name}`;
      this.store.change({ loading: { text, fraction: fraction < 1 ? fraction : null } });
    };
    this.load(`Sending ${name}`, api.sendImage(files, sent));
  }

  async loadMask(file: File): Promise<void> {
    this.store.change({ loading: { text: `Reading ${file.name}`, fraction: null } });
    await this.change(api.loadMask(file));
    this.store.change({ loading: null });
  }

  async restore(wanted: boolean): Promise<void> {
    // What is unsent belongs to what is discarded.
    if (!wanted) this.forgetUnsent();
    await this.change(api.restore(wanted));
  }

  /**
   * Save on the server's side.
   *
   * @returns the paths of the files; the question to ask where it would overwrite something; null
   *   where it failed, which has been said.
   */
  async save(format: string, overwrite: boolean): Promise<string[] | { question: string } | null> {
    try {
      const saved = await api.save(format, overwrite);
      this.answered(saved.state);
      return saved.files;
    } catch (error) {
      if (error instanceof api.Refusal && error.status === 409) return { question: error.message };
      this.failed(error);
      return null;
    }
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
    const gone = () => this.store.now.waiting.filter(({ id }) => id !== one.id);
    const used = (change: Change) => {
      this.store.change({ waiting: gone() });
      this.changed(change);
    };
    void this.ask(api.addPrompt(one.target, one.prompt), used, (error) => {
      if (error instanceof api.Unreachable) this.unsent.push(one);
      else this.store.change({ waiting: gone() });
    });
  }

  private change(request: Promise<Change>): Promise<void> {
    return this.ask(request, (change) => this.changed(change));
  }

  /** Wait for an answer, and use it; a failure is said. */
  private async ask<T>(
    request: Promise<T>,
    use: (answer: T) => void,
    onFailure?: (error: unknown) => void,
  ): Promise<void> {
    this.open += 1;
    try {
      use(await request);
    } catch (error) {
      onFailure?.(error);
      this.failed(error);
    } finally {
      this.open -= 1;
    }
    await this.catchUp();
    this.sendUnsent();
  }

  private failed(error: unknown): void {
    const isCutOff = error instanceof api.Refusal && error.status === 401;
    if (isCutOff || error instanceof api.Unreachable) this.connection.reopen();
    else this.notices.error(error instanceof Error ? error.message : String(error));
  }

  private changed({ state, patch }: Change): void {
    if (patch && this.revisions.behind === false && state.scan?.id === this.loaded) {
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
    if (this.open === 0) {
      this.revisions.told(revision);
      void this.catchUp();
    }
  }

  /** Ask for state and labels again where this page has missed something. */
  private async catchUp(): Promise<void> {
    if (this.open > 0 || this.refreshing || !this.revisions.behind) return;
    this.refreshing = true;
    try {
      await this.refresh(await api.readState());
    } catch (error) {
      this.failed(error);
    }
    this.refreshing = false;
  }

  private async connected(state: State): Promise<void> {
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
    this.forgetUnsent();
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
      this.viewer.clear();
      return;
    }
    if (this.opening === scan.id) return;
    this.opening = scan.id;
    this.loaded = null;
    this.store.change({ loading: { text: `Loading ${scan.name}`, fraction: null } });
    try {
      await this.viewer.load(api.volumeUrl(scan.id), scan, (fraction) =>
        this.store.change({ loading: { text: `Loading ${scan.name}`, fraction } }),
      );
      this.loaded = scan.id;
      this.setWindow(scan.window.level, scan.window.width);
      await this.readLabels();
    } catch (error) {
      // What `fetch` throws where the server can't be reached: once it can, this is tried again.
      const failure = error instanceof TypeError ? new api.Unreachable() : error;
      if (this.opening === scan.id) this.failed(failure);
    }
    // Another scan that came instead has its own sign of loading.
    if (this.opening !== scan.id) return;
    this.opening = null;
    this.store.change({ loading: null });
  }

  private load(text: string, request: Promise<State>): void {
    this.store.change({ loading: { text, fraction: null } });
    void this.ask(
      request,
      (state) => {
        this.answered(state);
        if (this.opening === null) this.store.change({ loading: null });
      },
      () => this.store.change({ loading: null }),
    );
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
    void this.ask(api.readDisagreement(state.target), ({ patch }) => {
      if (this.disagreementOf === wanted) this.viewer.showDisagreement(patch);
    });
  }
}

/** The theme chosen earlier; dark where none was. */
export function rememberedTheme(): Theme {
  return localStorage.getItem(THEME_KEY) === "light" ? "light" : "dark";
}
