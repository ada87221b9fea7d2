/** The server's paths below /annotate/api/, typed. */

import { decodeChange } from "./change.ts";
import type { Change, NewPrompt, Scale, State, Target } from "./types.ts";

const ROOT = "api/";

/** An answer that says no. */
export class Refusal extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }
}

/** The server did not answer at all. */
export class Unreachable extends Error {}

/** Where the scan is, as NIfTI-1. */
export function volumeUrl(image: string): string {
  return `${ROOT}images/${encodeURIComponent(image)}/volume`;
}

/** The page that explains a target's mask. */
export function explanationUrl(target: number): string {
  return `${ROOT}explanation?target=${target}`;
}

/** Where the server says that something has changed. */
export const EVENTS_URL = `${ROOT}events`;

function detailOf(text: string, status: number): string {
  try {
    const { detail } = JSON.parse(text) as { detail?: unknown };
    if (typeof detail === "string") return detail;
  } catch {
    // Not JSON: something between the page and its server has answered.
  }
  return `The server answered ${status}.`;
}

async function request(method: string, path: string, body?: BodyInit): Promise<Response> {
  const json = typeof body === "string" ? { "Content-Type": "application/json" } : {};
  let response: Response;
  try {
    response = await fetch(ROOT + path, { method, body: body ?? null, headers: json });
  } catch {
    throw new Unreachable("The server can't be reached.");
  }
  if (!response.ok)
    throw new Refusal(response.status, detailOf(await response.text(), response.status));
  return response;
}

async function askState(method: string, path: string, body?: unknown): Promise<State> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  return (await (await request(method, path, text)).json()) as State;
}

async function askChange(method: string, path: string, body?: unknown): Promise<Change> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  return decodeChange(await received(await request(method, path, text)));
}

async function received(response: Response): Promise<ArrayBuffer> {
  try {
    return await response.arrayBuffer();
  } catch {
    throw new Unreachable("The server's answer broke off.");
  }
}

export const readState = (): Promise<State> => askState("GET", "state");
export const readLabels = (): Promise<Change> => askChange("GET", "labels");

export const addPrompt = (target: number, prompt: NewPrompt): Promise<Change> =>
  askChange("POST", "prompts", { ...prompt, target });
export const removePrompt = (target: number, prompt: number): Promise<Change> =>
  askChange("DELETE", `prompts/${prompt}?target=${target}`);

/** Take back a target's last step, do it again, or take back all of them. */
export const step = (name: "undo" | "redo" | "reset", target: number): Promise<Change> =>
  askChange("POST", name, { target });
export const chooseScale = (target: number, scale: Scale): Promise<Change> =>
  askChange("POST", "scale", { target, scale });
export const cancel = (): Promise<State> => askState("POST", "cancel");

export const addTarget = (): Promise<State> => askState("POST", "targets", {});
export const changeTarget = (
  target: number,
  change: Partial<Pick<Target, "name" | "color" | "visible" | "locked">>,
): Promise<State> => askState("PATCH", `targets/${target}`, change);
export const removeTarget = (target: number): Promise<Change> =>
  askChange("DELETE", `targets/${target}`);
export const chooseTarget = (target: number): Promise<State> =>
  askState("POST", "target", { target });

/** 0 where a target's views agree, up to 255 where they disagree most. */
export const readDisagreement = (target: number): Promise<Change> =>
  askChange("GET", `disagreement?target=${target}`);

export const openImage = (image: string): Promise<State> =>
  askState("POST", `images/${encodeURIComponent(image)}/open`);
export const openSample = (): Promise<State> => askState("POST", "images/sample", {});
export const restore = (wanted: boolean): Promise<Change> =>
  askChange("POST", "recovery", { restore: wanted });

export async function loadMask(file: File): Promise<Change> {
  const path = `mask?name=${encodeURIComponent(file.name)}`;
  return decodeChange(await received(await request("POST", path, file)));
}

export interface Saved {
  state: State;
  files: string[];
  /** What the files don't hold of the work; null where they hold all. */
  note: string | null;
}

export async function save(format: string, overwrite: boolean): Promise<Saved> {
  const body = JSON.stringify({ format, overwrite });
  return (await (await request("POST", "save", body)).json()) as Saved;
}

export interface Download {
  name: string;
  content: Blob;
  /** As of `Saved`. */
  note: string | null;
}

/** The file that Save would write. */
export async function download(format: string, name: string): Promise<Download> {
  const response = await request("GET", `download?format=${encodeURIComponent(format)}`);
  const note = response.headers.get("Gamt-Note");
  const content = new Blob([await received(response)]);
  return { name, content, note: note === null ? null : decodeURIComponent(note) };
}

/**
 * Send a scan's file, or the several of a DICOM series, and open it.
 *
 * `fetch` doesn't tell how much of it has been sent: hence XMLHttpRequest.
 */
export function sendImage(files: File[], sent: (fraction: number) => void): Promise<State> {
  const [first] = files;
  if (!first) return Promise.reject(new Error("no file"));
  let body: File | FormData = first;
  if (files.length > 1) {
    body = new FormData();
    for (const file of files) body.append("files", file, file.name);
  }
  return new Promise((resolve, reject) => {
    const upload = new XMLHttpRequest();
    upload.open("POST", `${ROOT}images?name=${encodeURIComponent(first.name)}`);
    upload.upload.onprogress = (event) => {
      if (event.lengthComputable) sent(event.loaded / event.total);
    };
    upload.onload = () => {
      if (upload.status < 300) resolve(JSON.parse(upload.responseText) as State);
      else reject(new Refusal(upload.status, detailOf(upload.responseText, upload.status)));
    };
    upload.onerror = () => reject(new Unreachable("The server can't be reached."));
    upload.send(body);
  });
}
