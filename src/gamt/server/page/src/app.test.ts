import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { App } from "./app.ts";
import { Store } from "./store.ts";
import type { BoxPrompt, Busy, PointPrompt, Scan, State, Target } from "./types.ts";
import type { Viewer } from "./viewer/viewer.ts";

const scan: Scan = {
  id: "1",
  name: "thorax",
  shape: [4, 3, 2],
  spacing_mm: [1, 1, 2],
  file_voxel: [
    [1, 0, 0, 0],
    [0, 1, 0, 0],
    [0, 0, 1, 0],
  ],
  range: [0, 1],
  window: { level: 0.5, width: 1 },
  windows: [],
  output: "/scans",
  formats: [{ id: "nifti", label: "NIfTI (.nii.gz)", file: "thorax_seg.nii.gz" }],
};

const target: Target = {
  id: 1,
  name: "liver",
  color: "#56b4e9",
  visible: true,
  locked: false,
  voxels: 0,
  volume_ml: 0,
  prompts: [],
  can_undo: true,
  can_redo: false,
  scales: [],
  scale: null,
  note: null,
};

const click: PointPrompt = { kind: "point", positive: true, voxel: [1, 2, 1] };
const box: BoxPrompt = {
  kind: "box",
  positive: true,
  low: [0, 0, 1],
  high: [3, 2, 2],
  plane: "axial",
};
const busy: Busy = { kind: "point", target: 1, done: 0, planned: 0, seconds: 0 };

/** A server with one state; requests can be kept waiting, and cut off. */
class FakeServer {
  state: State = {
    revision: 1,
    version: "0",
    segmenter: "statistical",
    images: [],
    scan,
    targets: [target],
    target: 1,
    busy: null,
    last: null,
    unsaved: false,
    recovery: null,
  };
  isReachable = true;
  /** Such as "POST prompts". */
  readonly asked: string[] = [];
  /** What is answered to a request in place of the state. */
  readonly answers = new Map<string, () => Response>();
  private readonly held = new Map<string, Promise<void>>();

  /** Keep the answers to a request waiting until what is returned is called. */
  hold(request: string): () => void {
    let letGo: () => void = () => undefined;
    this.held.set(request, new Promise((resolve) => (letGo = resolve)));
    return letGo;
  }

  async fetch(path: string, method = "GET"): Promise<Response> {
    const request = `${method} ${path.replace("api/", "")}`;
    this.asked.push(request);
    await this.held.get(request);
    if (!this.isReachable) throw new TypeError("Failed to fetch");
    const answer = this.answers.get(request);
    if (answer) return answer();
    const isChange = /labels|prompts|undo/.test(path);
    return isChange ? new Response(changeOf(this.state)) : Response.json(this.state);
  }

  count(request: string): number {
    return this.asked.filter((one) => one === request).length;
  }
}

/** A change without labels, as it travels. */
function changeOf(state: State): Uint8Array<ArrayBuffer> {
  const head = new TextEncoder().encode(JSON.stringify({ state, low: null, high: null }));
  const body = new Uint8Array(4 + head.length);
  new DataView(body.buffer).setUint32(0, head.length, true);
  body.set(head, 4);
  return body;
}

class FakeEvents {
  static latest: FakeEvents;
  onopen: () => void = () => undefined;
  onmessage: (event: { data: string }) => void = () => undefined;
  onerror: () => void = () => undefined;

  constructor() {
    FakeEvents.latest = this;
  }

  tell(revision: number, busy: Busy | null = null): void {
    this.onmessage({ data: JSON.stringify({ revision, busy }) });
  }

  close(): void {
    this.onmessage = () => undefined;
  }
}

let server: FakeServer;
let said: string[];
let store: Store;
let load: () => Promise<void>;

/** Until all that was asked for is answered. */
const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20));

async function start(): Promise<App> {
  const nothing = (): void => undefined;
  const viewer = {
    load: () => load(),
    clear: nothing,
    setTargets: nothing,
    setLabels: nothing,
    applyPatch: nothing,
    setWindow: nothing,
    showDisagreement: nothing,
  };
  const notices = { error: (text: string) => said.push(text), info: (text: string) => said.push(text) };
  const app = new App(store, viewer as unknown as Viewer, notices);
  app.start();
  FakeEvents.latest.onopen();
  await settle();
  return app;
}

beforeEach(() => {
  server = new FakeServer();
  said = [];
  store = new Store();
  load = () => Promise.resolve();
  Object.assign(globalThis, {
    document: { hidden: false, addEventListener: () => undefined },
    EventSource: FakeEvents,
    fetch: (path: string, options: RequestInit) => server.fetch(path, options.method),
  });
});

test("another tab's change that is told of during a request is asked for after it", async () => {
  const app = await start();
  const letGo = server.hold("POST prompts");
  app.addPrompt(click);
  FakeEvents.latest.tell(3);
  const before = server.count("GET labels");
  const own = { ...server.state, revision: 2 };
  server.answers.set("POST prompts", () => new Response(changeOf(own)));
  server.state = { ...server.state, revision: 3 };
  letGo();
  await settle();
  assert.equal(server.count("GET labels"), before + 1);
});

test("after saving, nothing is asked for again", async () => {
  const app = await start();
  const saved = { files: ["/scans/thorax_seg.nii.gz"], note: "1 prompt is left out" };
  server.state = { ...server.state, revision: 2 };
  server.answers.set("POST save", () => Response.json({ ...saved, state: server.state }));
  const before = server.asked.length;
  const result = app.save("nifti", false);
  FakeEvents.latest.tell(2);
  assert.deepEqual(await result, { ...saved, state: server.state });
  await settle();
  assert.deepEqual(server.asked.slice(before), ["POST save"]);
});

test("where a file is in the way, the question comes back, and no error is said", async () => {
  const app = await start();
  const refusal = () => Response.json({ detail: "it is there already" }, { status: 409 });
  server.answers.set("POST save", refusal);
  assert.deepEqual(await app.save("nifti", false), { question: "it is there already" });
  assert.deepEqual(said, []);
});

test("a download has its note, and one that is refused says why", async () => {
  const app = await start();
  const path = "GET download?format=nifti";
  const headers = { "Gamt-Note": encodeURIComponent("labels are numbered anew (Größe: 1)") };
  server.answers.set(path, () => new Response("mask", { headers }));
  const file = await app.download("nifti");
  assert.equal(file?.note, "labels are numbered anew (Größe: 1)");
  assert.equal(file.name, "thorax_seg.nii.gz");
  server.answers.set(path, () => Response.json({ detail: "nothing to save yet" }, { status: 400 }));
  assert.equal(await app.download("nifti"), null);
  assert.deepEqual(said, ["nothing to save yet"]);
});

test("after a target's first box the tool is Point; a later box leaves it", async () => {
  const app = await start();
  app.addPrompt(box);
  assert.equal(store.now.tool, "point");
  app.setTool("box");
  app.addPrompt(box);
  assert.equal(store.now.tool, "box");
});

test("what is asked for without a connection is named as perhaps not done", async () => {
  const app = await start();
  server.isReachable = false;
  app.step("undo");
  await settle();
  assert.deepEqual(said, ["Undo may not have been done: The server can't be reached."]);
  assert.equal(store.now.connection, "lost");
});

test("a prompt drawn without a connection is taken back by undo, and never sent", async () => {
  const app = await start();
  server.isReachable = false;
  app.addPrompt(click);
  await settle();
  assert.equal(app.state.targets[0]?.prompts.length, 1);
  app.step("undo");
  assert.equal(app.state.targets[0]?.prompts.length, 0);
  server.isReachable = true;
  const before = server.count("POST prompts");
  await new Promise((resolve) => setTimeout(resolve, 600));
  FakeEvents.latest.onopen();
  await settle();
  assert.equal(store.now.connection, "connected");
  assert.equal(server.count("POST prompts"), before);
});

test("a prompt drawn without a connection isn't sent to another scan", async () => {
  const app = await start();
  server.isReachable = false;
  app.addPrompt(click);
  await settle();
  server.isReachable = true;
  server.state = { ...server.state, revision: 5, scan: { ...scan, id: "2" } };
  const before = server.count("POST prompts");
  await new Promise((resolve) => setTimeout(resolve, 600));
  FakeEvents.latest.onopen();
  await settle();
  assert.equal(server.count("POST prompts"), before);
  assert.match(said.join(), /dropped/);
  assert.deepEqual(store.now.waiting, []);
});

test("nothing is drawn on a scan that isn't loaded yet", async () => {
  load = () => new Promise(() => undefined);
  const app = await start();
  app.addPrompt(click);
  assert.equal(app.isScanShown, false);
  assert.equal(server.count("POST prompts"), 0);
});

test("a scan that can't be drawn isn't fetched again with each change", async () => {
  let loads = 0;
  load = () => {
    loads += 1;
    return Promise.reject(new Error("The scan is too large for the graphics."));
  };
  const app = await start();
  server.state = { ...server.state, revision: 2 };
  app.changeTarget(1, { name: "spleen" });
  await settle();
  assert.equal(loads, 1);
  assert.deepEqual(said, ["The scan is too large for the graphics."]);
});

test("a mistake of the page's own while a scan is shown is no lost connection", async () => {
  load = () => Promise.reject(new TypeError("x is undefined"));
  await start();
  assert.deepEqual(said, ["x is undefined"]);
  assert.equal(store.now.connection, "connected");
});

test("a server that is gone predicts no more", async () => {
  await start();
  FakeEvents.latest.tell(1, busy);
  assert.deepEqual(store.now.state.busy, busy);
  server.isReachable = false;
  FakeEvents.latest.onerror();
  assert.equal(store.now.state.busy, null);
});

test("Escape before the server says that it predicts stops it once it does", async () => {
  const app = await start();
  const letGo = server.hold("POST prompts");
  app.addPrompt(click);
  app.cancel();
  assert.equal(server.count("POST cancel"), 0);
  FakeEvents.latest.tell(1, busy);
  assert.equal(server.count("POST cancel"), 1);
  letGo();
  await settle();
});

test("the disagreement is asked for again after a lost connection", async () => {
  const app = await start();
  server.isReachable = false;
  app.setDisagreement(true);
  await settle();
  server.isReachable = true;
  await new Promise((resolve) => setTimeout(resolve, 600));
  FakeEvents.latest.onopen();
  await settle();
  assert.equal(server.count("GET disagreement?target=1"), 2);
});
