"""napari and its plugin napari-nninteractive, driven as a user would: runs in napari's environment.

    python drive.py URL IMAGE.npy RESULTS.npz [PICTURE.png]

Connects to the server, uploads the image and takes each tool in turn, through the plugin's own
widget and layers. What the label layer shows after each step is written to RESULTS.npz. With a
picture, the window is opened on a real display; without, there is none.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.components import ViewerModel
from napari_nninteractive import nnInteractiveWidget
from qtpy.QtWidgets import QApplication

POSITIVE, NEGATIVE = 0, 1
POINT, BOX, SCRIBBLE, LASSO = range(4)
PATIENCE_S = 60


class User:
    """Uses the plugin on one image.

    Attributes:
        widget: the plugin's.
    """

    def __init__(self, viewer: Any, image: np.ndarray, spacing_mm: tuple[float, ...]) -> None:
        """Opens an image (z, y, x) and the plugin."""
        self._viewer = viewer
        viewer.add_image(image, name="scan", scale=spacing_mm)
        self.widget = nnInteractiveWidget(viewer)

    def connect(self, url: str) -> None:
        """Presses Initialize, and waits until prompts may be placed."""
        self.widget.server_url_edit.setText(url)
        self.widget.on_init()
        wait(lambda: self.widget.label_layer_name in self._viewer.layers, self.widget)
        wait(lambda: self.widget.point_layer_name in self._viewer.layers, self.widget)

    def choose(self, tool: int, sign: int) -> Any:
        """Chooses a tool, and positive or negative; returns the tool's layer."""
        for button, index in ((self.widget.prompt_button, sign), (self.widget.interaction_button, tool)):
            button._uncheck()
            button._check(index)
        self.widget.on_prompt_selected()
        self.widget.on_interaction_selected()
        return self._viewer.layers[self.widget.layer_dict[tool]]

    def labels(self) -> np.ndarray:
        """Returns what the label layer shows, (z, y, x) bool."""
        return np.asarray(self._viewer.layers[self.widget.label_layer_name].data) > 0

    def go_to(self, z: int) -> None:
        """Shows an axial slice."""
        self._viewer.dims.set_current_step(0, z)


def wait(done: Callable[[], bool], widget: Any) -> None:
    """Lets the plugin's threads and events go on until something is done."""
    until = time.monotonic() + PATIENCE_S
    while not done():
        QApplication.processEvents()
        time.sleep(0.01)
        if time.monotonic() > until:
            sys.exit(f"nothing came; the plugin says: {widget.remote_status_label.text()}")


def main(url: str, image: Path, results: Path, picture: Path | None) -> None:
    """Runs the command."""
    app = QApplication.instance() or QApplication([])
    scan = np.load(image)
    plan = json.loads(image.with_suffix(".json").read_text())
    viewer = ViewerModel() if picture is None else napari.Viewer(show=True)
    user = User(viewer, scan, tuple(plan["spacing_mm"]))
    user.connect(url)
    steps = {}
    z, y, x = plan["inside"]
    user.go_to(z)
    user.choose(POINT, POSITIVE).add(np.array([[z, y, x]], float))
    steps["point"] = user.labels()
    if picture is not None:
        viewer.window.add_dock_widget(user.widget, area="right", name="nnInteractive")
        viewer.window.resize(1500, 950)
        for _ in range(50):
            app.processEvents()
            time.sleep(0.02)
        viewer.screenshot(str(picture), canvas_only=False)
    user.widget.on_undo()
    steps["undone"] = user.labels()
    low, high = plan["box"]
    corners = np.array([low, [z, low[1], high[2]], high, [z, high[1], low[2]]], float)
    user.choose(BOX, POSITIVE).add(corners, shape_type="rectangle")
    steps["box"] = user.labels()
    user.widget.on_reset_interactions()
    steps["reset"] = user.labels()
    layer = user.choose(SCRIBBLE, POSITIVE)
    layer.paint((z, y, low[2] + (high[2] - low[2]) // 4), 1)
    layer.paint((z, y, x), 1)
    steps["scribble"] = user.labels()
    user.widget.on_reset_interactions()
    user.choose(LASSO, POSITIVE).add(np.array(plan["outline"], float), shape_type="polygon")
    steps["lasso"] = user.labels()
    far = user.choose(POINT, NEGATIVE)
    far.add(np.array([plan["outside"]], float))
    steps["negative"] = user.labels()
    user.widget._release_session()
    np.savez_compressed(results, **steps)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]) if sys.argv[4:] else None)
