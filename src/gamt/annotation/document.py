"""One scan with its targets: what was said about each, what came of it, and whose the voxels are."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.annotation.prompts import NewPrompt
from gamt.axes import Plane
from gamt.io.image import Image
from gamt.lifting.progress import Report
from gamt.lifting.target import Observer
from gamt.session import ArrayBounds, Session
from gamt.settings import Scale


class UnknownError(ValueError):
    """There is no target, or no prompt, of that number."""


@dataclass(frozen=True, slots=True)
class LastPrediction:
    """How the last prediction went.

    Attributes:
        kind: "point", "box", "scribble", "lasso", or "removal".
        target: its target's id.
        seconds: it took.
        planes: that voted, in the order of `Plane`; empty where no slice was looked at.
        slices: that were looked at.
        complete: whether there was time for all of it.
    """

    kind: str
    target: int
    seconds: float
    planes: tuple[Plane, ...]
    slices: int
    complete: bool


class Document:
    """One scan with its targets.

    Every target has its own prompts and its own history. What changes a target is given the
    session, which it makes the target's. A prediction has three steps, so that the second can wait
    for its turn and can be cancelled:

        document.begin(session, target_id, prompt)   # the prompt is there, and waits
        document.predict(session)                    # may raise `Cancelled`
        changed = document.finish(seconds)           # the label map is up to date

    Where the second fails or isn't wanted any more, `take_back` makes it as if nothing had been
    begun. Where it is superseded by another prompt, nothing need be done: what waits is predicted
    with the next `predict` for the same target, one prompt after the other, so that the result is
    the same as if the first one had been finished. `begin_waiting` begins such a prediction without
    another prompt.

    All of it is used by the thread that owns the session, but for `describe` and the other
    attributes, which any thread may read at any time.

    Errors of users are ValueErrors with a text for them (`UnknownError` among them), and leave
    everything as it was: prompts beside the image, locked targets, scales that aren't offered.

    Attributes:
        image: the scan.
        labels: (z, y, x) uint8, the targets' ids, 0 for the background. Of two targets that have a
            voxel, the one that changed last has it; a locked one keeps what it has.
        current: the id of the target that prompts are about.
        observer: to be given to the session (`Session(observer=...)`): it keeps which planes voted.
        last: how the last prediction went; None before the first.
        revision: rises with every change.
    """

    image: Image
    labels: npt.NDArray[np.uint8]
    current: int
    observer: Observer
    last: LastPrediction | None
    revision: int

    def __init__(self, image: Image) -> None:
        """Begins with one empty target."""
        raise NotImplementedError

    def attach(self, session: Session, window: object = None) -> None:
        """Gives a session the scan and a target buffer.

        Args:
            session: one whose observer is the document's.
            window: of intensities, as `Session.set_image` takes it.

        Raises:
            ValueError: the image or window is none that a session takes.
        """
        raise NotImplementedError

    # Predictions.

    def begin(self, session: Session, target_id: int, prompt: NewPrompt) -> bool:
        """Adds a prompt to a target, and makes that the current one.

        Returns:
            True: there is something to predict (as `begin_removal` may say otherwise, and
            `Workspace.predict` asks).
        """
        raise NotImplementedError

    def begin_removal(self, session: Session, target_id: int, prompt_id: int) -> bool:
        """Removes a prompt; the later ones are predicted anew, as if it had never been given.

        Returns:
            Whether there is something to predict; if not, `finish` is all that is left to do.
        """
        raise NotImplementedError

    def begin_waiting(self, session: Session, target_id: int) -> bool:
        """Begins the prediction of prompts that wait since theirs was superseded.

        Returns:
            Whether there are any.
        """
        raise NotImplementedError

    def predict(self, session: Session) -> None:
        """Predicts what was begun: in place of `Session.run_prediction`, with the same errors."""
        raise NotImplementedError

    def finish(self, seconds: float) -> ArrayBounds | None:
        """Brings the label map up to date after a prediction.

        Args:
            seconds: it took.

        Returns:
            Bounds (z, y, x) of what changed in `labels`; None where nothing did.
        """
        raise NotImplementedError

    def take_back(self, session: Session) -> None:
        """Makes it as if nothing had been begun, after a prediction that failed or was cancelled."""
        raise NotImplementedError

    # Steps without a prediction; they return what changed in `labels`.

    def undo(self, session: Session, target_id: int) -> ArrayBounds | None:
        """Takes back the last step of a target: a prompt, a removal, a reset, a scale or a mask."""
        raise NotImplementedError

    def redo(self, session: Session, target_id: int) -> ArrayBounds | None:
        """Does again what was taken back last."""
        raise NotImplementedError

    def reset(self, session: Session, target_id: int) -> ArrayBounds | None:
        """Forgets a target's prompts and voxels, which `undo` takes back."""
        raise NotImplementedError

    def choose_scale(self, session: Session, target_id: int, scale: Scale) -> ArrayBounds | None:
        """Takes a smaller or larger body for what a first click stands in."""
        raise NotImplementedError

    def load_mask(
        self, session: Session, path: Path, name: str, target_id: int | None = None
    ) -> ArrayBounds | None:
        """Takes the labels of a segmentation as what targets begin with.

        Args:
            session: the session.
            path: of the file, on the scan's grid.
            name: to call it.
            target_id: the target that gets the file's only label; None to make a target of each.

        Raises:
            ImageError: the file can't be read, or isn't a segmentation of the scan.
        """
        raise NotImplementedError

    # Targets.

    def add_target(self, name: str | None = None, color: str | None = None) -> int:
        """Adds an empty target, which becomes the current one; returns its id."""
        raise NotImplementedError

    def change_target(
        self,
        target_id: int,
        *,
        name: str | None = None,
        color: str | None = None,
        visible: bool | None = None,
        locked: bool | None = None,
    ) -> None:
        """Changes what isn't None of a target."""
        raise NotImplementedError

    def remove_target(self, target_id: int) -> ArrayBounds | None:
        """Removes a target with all of its steps; the last one that there is leaves an empty one."""
        raise NotImplementedError

    def choose_target(self, target_id: int) -> None:
        """Makes a target the current one."""
        raise NotImplementedError

    # What is known.

    def is_waiting(self, target_id: int) -> bool:
        """Says whether a target has prompts that no prediction has seen; see `begin_waiting`."""
        raise NotImplementedError

    def describe(self) -> list[dict[str, Any]]:
        """Returns all targets as the page gets them (`Target` in types.ts)."""
        raise NotImplementedError

    def disagreement(self, target_id: int) -> tuple[ArrayBounds, npt.NDArray[np.uint8]] | None:
        """Returns where the views of a target's last prediction disagree.

        Returns:
            Bounds (z, y, x), and within them 0 where they agree, up to 255 where they disagree
            most. None where less than two planes looked at slices.
        """
        raise NotImplementedError

    def explain(
        self,
        session: Session,
        target_id: int,
        *,
        progress: Report = lambda done, planned: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> str:
        """Returns an HTML page that shows how a target's prompts lead to its mask.

        Raises:
            ValueError: the target has no prompt, or the packages for it are missing.
            Cancelled: `cancelled` said so.
        """
        raise NotImplementedError

    @property
    def is_unsaved(self) -> bool:
        """Whether something would be lost that was not saved."""
        raise NotImplementedError

    def note_saved(self) -> None:
        """Takes what there is now as saved."""
        raise NotImplementedError
