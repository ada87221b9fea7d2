/** Where files come in: the welcome, buttons, and dropping them anywhere. */

import type { App } from "../app.ts";
import { byId, element, updateList } from "../dom.ts";
import { loadingOf } from "../store.ts";
import type { Question } from "./question.ts";

export function mountFiles(app: App, question: Question): void {
  const scans = byId<HTMLInputElement>("scan-files");
  const folder = byId<HTMLInputElement>("scan-folder");
  const mask = byId<HTMLInputElement>("mask-file");
  const welcome = byId<HTMLElement>("welcome");
  const kept = byId<HTMLElement>("kept");
  const keptScans = byId<HTMLElement>("kept-scans");

  chooseBy(scans, ["open-scan", "welcome-open"], (files) => app.openFiles(files));
  chooseBy(folder, ["welcome-folder"], (files) => app.openFiles(files));
  chooseBy(mask, ["load-mask"], ([file]) => void (file && app.loadMask(file)));
  byId("welcome-sample").addEventListener("click", () => app.openSample());

  const { documentElement } = document;
  addEventListener("dragover", (event) => {
    event.preventDefault();
    documentElement.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) documentElement.classList.remove("dropping");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    documentElement.classList.remove("dropping");
    // What is asked there comes first.
    if (document.querySelector("dialog[open]")) return;
    droppedFiles(event.dataTransfer)
      .then((files) => dropped(app, question, files))
      .catch((error: unknown) => app.fail(error));
  });
  app.store.subscribe(() => {
    const { state, connection } = app.store.now;
    const isWaiting = connection === "connecting" || loadingOf(app.store.now) !== null;
    welcome.hidden = isWaiting || state.scan !== null;
    // Until one is open, images are those that an earlier run has left unsaved.
    kept.hidden = state.images.length === 0;
    updateList(
      keptScans,
      state.images,
      ({ id }) => id,
      ({ id, name }) =>
        element("button", { type: "button", class: "button", onclick: () => app.openImage(id) }, name),
      () => {},
    );
  });
}

function chooseBy(input: HTMLInputElement, buttons: string[], use: (files: File[]) => void): void {
  for (const id of buttons) byId(id).addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    use([...(input.files ?? [])]);
    // So that the same file can be chosen again.
    input.value = "";
  });
}

/** Over an open scan, one file may be a mask of it. */
async function dropped(app: App, question: Question, files: File[]): Promise<void> {
  const [first] = files;
  const scan = app.store.now.state.scan;
  if (!first) return;
  if (!scan || files.length > 1) {
    app.openFiles(files);
    return;
  }
  const text = `Is it a mask of ${scan.name} to go on from, or another scan?`;
  const answers = { yes: "It is a mask", no: "Another scan" };
  const isMask = await question.ask(`Open ${first.name}`, text, answers);
  if (isMask === true) await app.loadMask(first);
  if (isMask === false) app.openFiles(files);
}

/** All files that were dropped, those within folders, too. */
async function droppedFiles(transfer: DataTransfer | null): Promise<File[]> {
  const entries = [...(transfer?.items ?? [])].map((item) => item.webkitGetAsEntry());
  const files = await Promise.all(entries.map((entry) => (entry ? filesOf(entry) : [])));
  return files.flat();
}

async function filesOf(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) {
    return [
      await new Promise<File>((resolve, reject) =>
        (entry as FileSystemFileEntry).file(resolve, reject),
      ),
    ];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const files: File[] = [];
  for (;;) {
    // A folder is read in parts; an empty one is the end.
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    if (part.length === 0) return files;
    for (const one of part) files.push(...(await filesOf(one)));
  }
}
