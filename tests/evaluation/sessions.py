"""Sessions that only tests need, as factories for ``session:tests.evaluation.sessions:NAME``."""

import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.sessions import Bounds


class Drawing:
    """Fills boxes, and balls of one voxel around points; notes all that it is asked for.

    Attributes:
        calls: names of methods with what matters of their arguments.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._target = np.zeros(0, np.uint8)
        self._pending: list[tuple[tuple[slice, ...], int]] = []

    def set_image(self, image: npt.NDArray[Any], image_properties: Mapping[str, Any]) -> None:
        self.calls.append(("set_image", image.shape, image_properties["spacing"]))

    def set_target_buffer(self, target_buffer: npt.NDArray[np.uint8]) -> None:
        self._target = target_buffer

    def reset_interactions(self) -> None:
        self.calls.append(("reset_interactions",))
        self._target[:] = 0

    def add_initial_seg_interaction(
        self, initial_seg: npt.NDArray[np.uint8], run_prediction: bool = False
    ) -> None:
        self.calls.append(("add_initial_seg", int(initial_seg.sum()), run_prediction))
        self._target[:] = initial_seg

    def add_bbox_interaction(
        self, bbox_coords: Bounds, include_interaction: bool, run_prediction: bool = True
    ) -> None:
        self.calls.append(("add_bbox", bbox_coords, include_interaction, run_prediction))
        self._draw(tuple(slice(*one) for one in bbox_coords), include_interaction, run_prediction)

    def add_point_interaction(
        self,
        coordinates: tuple[int, int, int],
        include_interaction: bool,
        run_prediction: bool = True,
    ) -> None:
        self.calls.append(("add_point", coordinates, include_interaction, run_prediction))
        self._draw(coordinates, include_interaction, run_prediction)

    def _draw(self, where: Any, value: bool, run_prediction: bool) -> None:
        self._pending.append((where, int(value)))
        if run_prediction:
            for part, drawn in self._pending:
                self._target[part] = drawn
            self._pending = []


class Sections(Drawing):
    """Takes boxes on one slice alone, as nnInteractive's model of 2025 does."""

    supported_interactions = {"bbox2d": True, "bbox3d": False}  # noqa: RUF012


class Loading(Drawing):
    """Notes in a file that it was made."""

    def __init__(self, notes: str) -> None:
        super().__init__()
        with Path(notes).open("a") as file:
            file.write("made\n")
        print("loading the model")
        sys.stdout.flush()

    def set_image(self, image: npt.NDArray[Any], image_properties: Mapping[str, Any]) -> None:
        os.write(1, b"from C\n")
        print("the image")


class Ending(Loading):
    """Notes what it was given of the environment, and ends its process when a run is over."""

    def __init__(self, notes: str) -> None:
        super().__init__(notes)
        with Path(notes).open("a") as file:
            file.write(f"{os.environ.get('PYTHONPATH')}\n")

    def add_bbox_interaction(
        self, bbox_coords: Bounds, include_interaction: bool, run_prediction: bool = True
    ) -> None:
        super().add_bbox_interaction(bbox_coords, include_interaction, run_prediction)
        threading.Timer(1, os._exit, (5,)).start()


class MuteError(Exception):
    """Can't say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Fragile(Drawing):
    """Fails in one of several ways at a box that begins at the slice `SLICE`."""

    SLICE = 3

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how

    def add_bbox_interaction(
        self, bbox_coords: Bounds, include_interaction: bool, run_prediction: bool = True
    ) -> None:
        if bbox_coords[0][0] == self.SLICE:
            if self._how == "raise":
                raise RuntimeError("no \x1b[2J luck")
            if self._how == "mute":
                raise MuteError
            if self._how == "verbose":
                raise RuntimeError("no " * 1000)
            if self._how == "exit":
                sys.exit("as a program would")
            if self._how == "die":
                os._exit(7)
            time.sleep(60)
        super().add_bbox_interaction(bbox_coords, include_interaction, run_prediction)


class Saying(Drawing):
    """Writes to the socket of its process at a box, and ends after a while."""

    def __init__(self, message: str, times: str = "1") -> None:
        super().__init__()
        self._message = message.encode() * int(times)

    def add_bbox_interaction(
        self, bbox_coords: Bounds, include_interaction: bool, run_prediction: bool = True
    ) -> None:
        threading.Timer(20, os._exit, (0,)).start()
        with socket.socket(fileno=os.dup(int(sys.argv[1]))) as connection:
            connection.sendall(self._message)
        if not self._message.endswith(b"\n"):
            time.sleep(60)


def none() -> str:
    """Makes no session."""
    return "none"


def failing() -> Drawing:
    """Can't be made."""
    raise OSError("no such model")


def trying(notes: str) -> Drawing:
    """Can't be made, and notes in a file that it was tried."""
    with Path(notes).open("a") as file:
        file.write("tried\n")
    return failing()


def hanging() -> None:
    """Takes longer than anybody waits."""
    time.sleep(60)


def dying() -> None:
    """Ends its process."""
    os._exit(9)


NO_FACTORY = 3
