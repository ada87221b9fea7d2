/** The line at the bottom, the loading sign and the sign that the server is gone. */

import type { App } from "../app.ts";
import { byId, setAttribute, setText } from "../dom.ts";
import { loadingOf, type Connection } from "../store.ts";
import { busyText, gridText, lastText, secondsText, targetName } from "../text.ts";
import type { Busy, State, Vec3 } from "../types.ts";
import { fileVoxel } from "../voxels.ts";

const CONNECTIONS: Record<Connection, string> = {
  connecting: "Connecting",
  connected: "Connected",
  lost: "Not connected",
  refused: "Not connected",
};

const BANNERS: Record<Connection, string> = {
  connecting: "",
  connected: "",
  lost:
    "The server doesn't answer; trying again. If it has stopped, start gamt annotate again: " +
    "your work is kept.",
  refused:
    "This page is of an earlier start of gamt annotate. Open the address that the new one " +
    "printed: your work is kept.",
};

export function mountStatus(app: App, crosshair: () => Vec3): { place(): void } {
  const { store } = app;
  const busy = byId<HTMLProgressElement>("busy");
  const activity = byId<HTMLElement>("activity");
  const announcer = byId<HTMLElement>("announcer");
  let begun: string | null = null;
  let ended = "";
  const connection = byId<HTMLElement>("connection");
  const engine = byId<HTMLElement>("engine");
  const banner = byId<HTMLElement>("banner");
  const loading = byId<HTMLElement>("loading");
  const loadingText = byId<HTMLElement>("loading-text");
  const fraction = byId<HTMLProgressElement>("loading-progress");

  store.subscribe(() => {
    const { state } = store.now;
    const predicting = state.busy?.kind === "open" ? null : state.busy;
    showBusy(busy, predicting);
    setText(activity, activityText(state, predicting, store.now.waiting.length));
    // Screen readers are told when a prediction begins and ends, not every slice.
    const beginning = predicting && `Predicting ${targetName(state, predicting.target)}`;
    if (beginning && beginning !== begun) setText(announcer, beginning);
    begun = beginning;
    // What it was is known a moment after it has ended.
    const end = state.last ? lastText(state, state.last) : "";
    if (!predicting && end !== ended) {
      ended = end;
      setText(announcer, end);
    }
    setText(connection, CONNECTIONS[store.now.connection]);
    setAttribute(connection, "data-state", store.now.connection);
    setText(engine, state.version ? `${state.segmenter} · GAMT ${state.version}` : "");
    setText(banner, BANNERS[store.now.connection]);
    banner.hidden = BANNERS[store.now.connection] === "";
    const waitedFor = loadingOf(store.now);
    loading.hidden = waitedFor === null;
    setText(loadingText, waitedFor?.text ?? "");
    setAttribute(fraction, "value", waitedFor?.fraction ?? null);
  });
  const place = byId<HTMLElement>("place");
  return {
    place: () => {
      const { scan } = store.now.state;
      setText(place, scan ? fileVoxel(scan, crosshair()).join(", ") : "");
    },
  };
}

function showBusy(progress: HTMLProgressElement, busy: Busy | null): void {
  // It keeps its place, so that nothing beside it moves.
  progress.classList.toggle("idle", busy === null);
  setAttribute(progress, "max", busy?.planned || null);
  setAttribute(progress, "value", busy?.planned ? busy.done : null);
}

function activityText(state: State, busy: Busy | null, waiting: number): string {
  if (busy) return `${busyText(state, busy)} · ${secondsText(busy.seconds)}`;
  if (waiting > 0) return "Sending the prompt";
  if (state.last) return lastText(state, state.last);
  return state.scan ? gridText(state.scan) : "No scan is open";
}
