/** A page of the viewer alone, for tests: they draw with `viewer`, or with what `begin` says. */

import { Viewer } from "../../src/gamt/server/page/src/viewer/viewer.ts";

declare global {
  interface Window {
    begin: () => void;
    viewer: Viewer;
  }
}

window.begin = () => {
  window.viewer = new Viewer(document.querySelector("canvas") as HTMLCanvasElement);
};
