"""napari and its plugin napari-nninteractive, driven as a user would: runs in napari's environment.

    xvfb-run python drive.py URL IMAGE.npy RESULTS.npz PICTURE.png

IMAGE.json beside the image says where to click. Connects to the server, uploads the image and takes
each tool in turn, through the plugin's own widget and layers in napari's window. What the label
layer shows after each step is written to RESULTS.npz, the window after the first point to
PICTURE.png.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
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
        viewer.window.add_dock_widget(self.widget, area="right", name="nnInteractive")
        viewer.window.resize(1500, 950)

    def connect(self, url: str) -> None:
        """Presses Initialize, and waits until prompts may be placed."""
        self.widget.server_url_edit.setText(url)
        self.widget.on_init()
        wait(lambda: self.widget.label_layer_name in self._viewer.layers, self.widget)
        wait(lambda: self.widget.point_layer_name in self._viewer.layers, self.widget)

    def choose(self, tool: int, sign: int) -> Any:
        """Chooses a tool, and positive or negative; returns the tool's layer."""
        for button, index in (
            (self.widget.prompt_button, sign),
            (self.widget.interaction_button, tool),
        ):
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


def main(url: str, image: Path, results: Path, picture: Path) -> None:
    """Runs the command."""
    scan = np.load(image)
    plan = json.loads(image.with_suffix(".json").read_text())
    viewer = napari.Viewer()
    user = User(viewer, scan, tuple(plan["spacing_mm"]))
    user.connect(url)
    steps: dict[str, Any] = {}
    z, y, x = plan["inside"]
    user.go_to(z)
    user.choose(POINT, POSITIVE).add(np.array([[z, y, x]], float))
    steps["point"] = user.labels()
    for _ in range(50):  # until the window has been drawn
        QApplication.processEvents()
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
    with layer.block_history():  # one stroke, from the button's press to its release
        for column in range(low[2] + 4, high[2] - 4):
            layer.paint((z, y, column), 1)
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
    main(sys.argv[1], *(Path(name) for name in sys.argv[2:]))
