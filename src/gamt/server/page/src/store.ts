/** What the page shows, and who wants to know when that changes. */

import type { Tool } from "./tools/tool.ts";
import type { NewPrompt, Plane, Prompt, State, Target } from "./types.ts";

export type Layout = "all" | Plane | "3d";
export type Theme = "dark" | "light";

/**
 * "lost": asked for again and again. "refused": the server there is of another start, whose key
 * this page hasn't got.
 */
export type Connection = "connecting" | "connected" | "lost" | "refused";

/** A prompt that the server hasn't answered yet. */
export interface Waiting {
  /** Negative: no prompt of the server's has such a number. */
  id: number;
  /** That it was drawn on. */
  scan: string;
  target: number;
  prompt: NewPrompt;
}

/** What the page can't go on without; a fraction where it is known. */
export interface Loading {
  text: string;
  fraction: number | null;
}

export interface Shown {
  state: State;
  waiting: Waiting[];
  connection: Connection;
  loading: Loading | null;
  tool: Tool;
  positive: boolean;
  layout: Layout;
  window: { level: number; width: number } | null;
  theme: Theme;
  /** Whether the views' disagreement is drawn. */
  disagreement: boolean;
  /** The prompt that is pointed at, in the list or on a slice. */
  highlighted: number | null;
}

/** What is known before the server has answered. */
const NO_STATE: State = {
  revision: 0,
  version: "",
  segmenter: "",
  images: [],
  scan: null,
  targets: [],
  target: null,
  busy: null,
  last: null,
  unsaved: false,
  recovery: null,
};

export class Store {
  private shown: Shown = {
    state: NO_STATE,
    waiting: [],
    connection: "connecting",
    loading: null,
    tool: "box",
    positive: true,
    layout: "all",
    window: null,
    theme: "dark",
    disagreement: false,
    highlighted: null,
  };
  private readonly listeners: (() => void)[] = [];
  private isTelling = false;
  private hasChanged = false;

  get now(): Readonly<Shown> {
    return this.shown;
  }

  /**
   * Change something, and tell everybody who wants to know.
   *
   * What a listener changes, or sets off (a row that is removed loses the focus), all are told of
   * once they have heard of the change before: none is called in the middle of its own work.
   */
  change(part: Partial<Shown>): void {
    this.shown = { ...this.shown, ...part };
    this.hasChanged = true;
    if (this.isTelling) return;
    this.isTelling = true;
    try {
      while (this.hasChanged) {
        this.hasChanged = false;
        for (const listener of this.listeners) listener();
      }
    } finally {
      this.isTelling = false;
    }
  }

  subscribe(listener: () => void): void {
    this.listeners.push(listener);
  }
}

/** What is waited for, by this page or, where the server opens a scan, by all. */
export function loadingOf({ loading, state }: Readonly<Shown>): Loading | null {
  if (loading) return loading;
  return state.busy?.kind === "open" ? { text: "Opening the scan", fraction: null } : null;
}

/** The state with the prompts in it that are on their way to the server. */
export function withWaiting(state: State, waiting: readonly Waiting[]): State {
  if (waiting.length === 0) return state;
  const targets = state.targets.map((target) => {
    const added = waiting.filter(
      (one) => one.scan === state.scan?.id && one.target === target.id,
    );
    if (added.length === 0) return target;
    const prompts: Prompt[] = added.map(({ id, prompt }) => ({ ...prompt, id }));
    return { ...target, prompts: [...target.prompts, ...prompts] };
  });
  return { ...state, targets };
}

/**
 * Those of `waiting` that the server hasn't got: what to send again after a broken connection. None
 * of another scan's, or of a target that is gone.
 */
export function notReceived(state: State, waiting: readonly Waiting[]): Waiting[] {
  const received = new Map<number, string[]>();
  for (const target of state.targets) received.set(target.id, target.prompts.map(contentOf));
  return waiting.filter(({ scan, target, prompt }) => {
    if (scan !== state.scan?.id) return false;
    const prompts = received.get(target);
    if (!prompts) return false;
    const place = prompts.lastIndexOf(contentOf(prompt));
    if (place < 0) return true;
    prompts.splice(place, 1);
    return false;
  });
}

/** What a prompt says, whatever its number and the order of its keys. */
function contentOf(prompt: NewPrompt | Prompt): string {
  const entries = Object.entries(prompt).filter(([key]) => key !== "id");
  return JSON.stringify(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

export function currentTarget(state: State): Target | null {
  return state.targets.find((target) => target.id === state.target) ?? null;
}

/** The target after the current one, going round; null where there is no other. */
export function nextTarget(state: State): number | null {
  if (state.targets.length < 2) return null;
  const place = state.targets.findIndex((target) => target.id === state.target);
  return state.targets[(place + 1) % state.targets.length]?.id ?? null;
}
