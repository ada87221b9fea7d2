"""One scan with its targets: what was said of each, what came of it, and whose the voxels are."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from gamt.annotation.explanation import explain_target
from gamt.annotation.notes import note_of
from gamt.annotation.prompts import MaskPrompt, NewPrompt, describe_prompt
from gamt.annotation.steps import Action, Given, Loaded, Scaled, Step, show, state_of
from gamt.annotation.targets import (
    Target,
    default_color,
    default_name,
    paint,
    read_color,
    read_name,
)
from gamt.annotation.views import Views
from gamt.axes import Plane, bounding_range
from gamt.history import MOST_BYTES, History, PackedMask, count_bytes
from gamt.io.format import ImageError
from gamt.io.formats import strip_suffix
from gamt.io.image import Image, read_label_names, read_labels
from gamt.io.labels import MAX_LABEL, number_labels
from gamt.lifting.progress import Report
from gamt.plausibility import count_voxels, doubt_image
from gamt.session import ArrayBounds, Session, State, unite
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


@dataclass(slots=True, eq=False)
class Begun:
    """A prediction that was begun and is neither finished nor taken back.

    Attributes:
        kind: of what was done, as in `LastPrediction`.
        target: that it is about.
        before: the target's history, as it was.
        current: the id of the target that was the current one.
        predicted: whether anything was.
    """

    kind: str
    target: Target
    before: History[Step]
    current: int
    predicted: bool = False


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

    All of it is used by the thread that owns the session, but for `describe` and the attributes
    other than `labels`, which any thread may read at any time.

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
        voxel_ml: the volume of a voxel.
    """

    def __init__(self, image: Image) -> None:
        """Begins with one empty target."""
        self.image = image
        self.labels = np.zeros(image.array.shape, np.uint8)
        self.observer = Views()
        self.last: LastPrediction | None = None
        self.revision = 0
        # Of a voxel that is oblique, as a tilted gantry makes them, the edges' product isn't it.
        self.voxel_ml = abs(float(np.linalg.det(image.affine[:3, :3]))) / 1000
        self._voxels = np.zeros(MAX_LABEL + 1, np.int64)
        self._voxels[0] = self.labels.size
        self._targets: dict[int, Target] = {}
        self._prompts = 0  # the number of the last one
        self._clock = 0  # the stamp of the last step
        self._is_saved = True
        self._begun: Begun | None = None
        self._image_doubt = next(doubt_image(image.array), None)
        self.current = _new_target(self._targets).id

    def attach(self, session: Session, window: object = None) -> None:
        """Gives a session the scan and a target buffer.

        Args:
            session: one whose observer is the document's.
            window: of intensities, as `Session.set_image` takes it.

        Raises:
            ValueError: the image or window is none that a session takes.
        """
        properties = {"spacing": self.image.spacing_mm, "window": window}
        session.set_image(self.image.array[None], properties)
        session.set_target_buffer(np.zeros(self.image.array.shape, np.uint8))
        show(session, self._targets[self.current].step.state)

    # --- predictions ----------------------------------------------------------------------------

    def begin(self, session: Session, target_id: int, prompt: NewPrompt) -> bool:
        """Adds a prompt to a target, and makes that the current one.

        Returns:
            True: there is something to predict (`begin_removal` may say otherwise).
        """
        target = self._unlocked(target_id)
        given = Given(self._prompts + 1, prompt)
        show(session, target.step.state)
        given.apply(session)  # what a session refuses is never kept
        self._prompts += 1
        step = target.step
        return self._begin(given.kind, target, replace(step, waiting=(*step.waiting, given)))

    def begin_removal(self, session: Session, target_id: int, prompt_id: int) -> bool:
        """Removes a prompt; the later ones are predicted anew, as if it had never been given.

        Returns:
            Whether there is something to predict; if not, `finish` is all that is left to do.
        """
        target = self._unlocked(target_id)
        actions = target.step.actions
        place = next(
            (
                n
                for n, one in enumerate(actions)
                if not isinstance(one, Scaled) and one.id == prompt_id
            ),
            None,
        )
        if place is None:
            raise UnknownError(f"{target.name}: found no prompt {prompt_id}")
        base = last_before(target.history, actions[:place])
        left = (*actions[:place], *actions[place + 1 :])
        step = replace(base, waiting=left[len(base.done) :])
        show(session, step.state)
        return self._begin("removal", target, step)

    def begin_waiting(self, session: Session, target_id: int) -> bool:
        """Begins the prediction of prompts that wait since theirs was superseded.

        Returns:
            Whether there are any.
        """
        target = self._unlocked(target_id)
        waiting = [one for one in target.step.waiting if isinstance(one, Given)]
        if not waiting:
            return False
        show(session, target.step.state)
        self._begun = Begun(waiting[-1].kind, target, target.history.copy(), self.current)
        self.observer.begin()
        return True

    def predict(self, session: Session) -> None:
        """Predicts what was begun: in place of `Session.run_prediction`, with the same errors.

        Raises:
            RuntimeError: nothing was begun.
        """
        if self._begun is None:
            raise RuntimeError("nothing was begun: call begin first")
        target = self._begun.target
        show(session, target.step.state)
        while target.step.waiting:
            step, (action, *rest) = target.step, target.step.waiting
            if action.apply(session):
                self.observer.begin()
                session.run_prediction()
                self._begun.predicted = True
            target.history.state = replace(
                step, done=(*step.done, action), state=state_of(session), waiting=tuple(rest)
            )

    def finish(self, seconds: float) -> ArrayBounds | None:
        """Brings the label map up to date after a prediction.

        Args:
            seconds: it took.

        Returns:
            Bounds (z, y, x) of what changed in `labels`; None where nothing did.

        Raises:
            RuntimeError: nothing was begun.
        """
        if self._begun is None:
            raise RuntimeError("nothing was begun: call begin first")
        begun, self._begun = self._begun, None
        target, views = begun.target, self.observer
        earlier = target.disagreement if begun.kind != "removal" else None
        changed = self._show(target)
        if begun.predicted:
            target.disagreement = views.disagreement if views.planes else earlier
            self.last = LastPrediction(
                begun.kind,
                target.id,
                seconds,
                views.planes,
                sum(views.slices.values()),
                target.step.state.is_complete,
            )
        return changed

    def take_back(self, session: Session) -> None:
        """Makes it as if nothing had been begun, after a prediction that failed or was cancelled.

        Where nothing was begun, it does nothing.
        """
        if self._begun is None:
            return
        begun, self._begun = self._begun, None
        begun.target.history = begun.before
        if self.current == begun.target.id and begun.current in self._targets:
            self.current = begun.current
        show(session, begun.target.step.state)
        self._note_change()  # what was saved meanwhile has the prompt

    # --- steps without a prediction -------------------------------------------------------------

    def undo(self, session: Session, target_id: int) -> ArrayBounds | None:
        """Takes back the last step of a target: a prompt, a removal, a reset, a scale or a mask.

        Returns:
            Bounds (z, y, x) of what changed in `labels`; None where nothing did, or where there is
            no step.
        """
        target = self._unlocked(target_id)
        return self._move(session, target, target.history.back, target.history.before)

    def redo(self, session: Session, target_id: int) -> ArrayBounds | None:
        """Does again what was taken back last; see `undo`."""
        target = self._unlocked(target_id)
        return self._move(session, target, target.history.forward, target.history.after)

    def reset(self, session: Session, target_id: int) -> ArrayBounds | None:
        """Forgets a target's prompts and voxels, which `undo` takes back; see there."""
        target = self._unlocked(target_id)
        if not target.step.actions:
            return None
        show(session, State())
        return self._advance(target, Step())

    def choose_scale(self, session: Session, target_id: int, scale: Scale) -> ArrayBounds | None:
        """Takes a smaller or larger body for what a first click stands in; see `undo`."""
        target = self._unlocked(target_id)
        step = target.step
        if step.waiting or scale not in step.state.scales:
            raise ValueError(f"{target.name}: a scale can be chosen after one positive point alone")
        if scale == step.state.scale:
            return None
        show(session, step.state)
        session.choose_scale(scale)
        done = (*step.done, Scaled(scale))
        return self._advance(target, Step(done, state_of(session)))

    def load_mask(
        self, session: Session, path: Path, name: str, target_id: int | None = None
    ) -> ArrayBounds | None:
        """Takes the labels of a segmentation as what targets begin with.

        Other targets keep their voxels, as a file would take them without being seen to: what they
        have is left out, and the target's note says how much that is.

        Args:
            session: the session.
            path: of the file, on the scan's grid.
            name: of the file, for people.
            target_id: the target that gets the file's only label; None to make a target of each,
                with the label as its id where that is free.

        Returns:
            Bounds (z, y, x) of what changed in `labels`; None where nothing did.

        Raises:
            ImageError: the file can't be read, or isn't a segmentation of the scan.
        """
        chosen = None if target_id is None else self._unlocked(target_id)
        labels = read_labels(path, self.image)
        values = np.unique(labels[labels > 0]).tolist()
        if not values:
            raise ImageError(Path(name), "found no label, expected one at least")
        if chosen is not None and len(values) > 1:
            found = f"found {len(values)} labels, expected the one of {chosen.name}"
            raise ImageError(Path(name), f"{found}; without a target, each becomes one")
        kept = [one for one in self._targets.values() if not one.is_untouched]
        if chosen is None and len(values) + len(kept) > MAX_LABEL:
            room = MAX_LABEL - len(kept)
            raise ImageError(Path(name), f"found {len(values)} labels, expected {room} at most")
        changed: ArrayBounds | None = None
        free = self.labels == 0
        if chosen is not None:
            free |= self.labels == chosen.id
        names = read_label_names(path)
        begun = [chosen] if chosen is not None else []
        if chosen is None:
            targets = {one.id: one for one in kept}
            alone = strip_suffix(Path(name)) if len(values) == 1 else ""
            begun = [_new_target(targets, one, names.get(one, alone)) for one in values]
            self._targets, self.current = targets, begun[-1].id
        numbers = number_labels(labels, values)
        for number, (target, where) in enumerate(
            zip(begun, find_objects(numbers), strict=True), start=1
        ):
            whole = numbers[where] == number
            part = whole & free[where]
            mask = PackedMask.of_part(part, [one.start for one in where], labels.shape)
            left_out = int(np.count_nonzero(whole)) - int(np.count_nonzero(part))
            self._prompts += 1
            loaded = Loaded(self._prompts, MaskPrompt(name), mask, left_out)
            step = Step((loaded,), State.of_mask(mask))
            changed = join(changed, self._advance(target, step))
        show(session, self._targets[self.current].step.state)
        return changed

    # --- targets --------------------------------------------------------------------------------

    def add_target(self, name: str | None = None, color: str | None = None) -> int:
        """Adds an empty target, which becomes the current one; returns its id."""
        if len(self._targets) >= MAX_LABEL:
            raise ValueError(f"there are {MAX_LABEL} targets, and no room for more")
        chosen = None if name is None else self._read_new_name(name)
        shade = None if color is None else read_color(color)
        target = _new_target(self._targets, wanted_name=chosen or "")
        target.color = shade or target.color
        self.current = target.id
        self._note_change()
        return target.id

    def change_target(
        self,
        target_id: int,
        *,
        name: str | None = None,
        color: str | None = None,
        visible: bool | None = None,
        locked: bool | None = None,
    ) -> None:
        """Changes what isn't None of a target, be it locked or not."""
        target = self.target(target_id)
        chosen = target.name if name is None else self._read_new_name(name, target)
        shade = target.color if color is None else read_color(color)
        target.name, target.color = chosen, shade
        target.visible = target.visible if visible is None else visible
        if locked is not None and locked != target.locked:
            # Neither takes a voxel from anybody: it keeps what it has now, also when it is unlocked
            # and others have more of what it once claimed.
            target.claim = PackedMask.of(self.labels == target.id)
            target.rank = self._tick()
            target.locked = locked
        self._note_change()

    def remove_target(self, target_id: int) -> ArrayBounds | None:
        """Removes a target with all of its steps; the last one that there is leaves an empty one.

        Returns:
            Bounds (z, y, x) of what changed in `labels`; None where nothing did.
        """
        target = self._unlocked(target_id)
        if self._begun is not None and self._begun.target is target:
            self._begun = None
        after = [one for one in sorted(self._targets) if one > target_id]
        left = {n: one for n, one in self._targets.items() if n != target_id}
        if not left:
            _new_target(left)
        self._targets = left
        if self.current == target_id:
            self.current = (after or sorted(left))[0 if after else -1]
        self._note_change()
        return self._paint(target.claim, None)

    def choose_target(self, target_id: int) -> None:
        """Makes a target the current one."""
        self.current = self.target(target_id).id
        self.revision += 1

    # --- what is known --------------------------------------------------------------------------

    @property
    def targets(self) -> list[Target]:
        """All targets, ascending by their ids."""
        return sorted(self._targets.values(), key=lambda one: one.id)

    def target(self, target_id: int) -> Target:
        """Returns the target of an id.

        Raises:
            UnknownError: there is none.
        """
        if target_id not in self._targets:
            raise UnknownError(f"found no target {target_id}")
        return self._targets[target_id]

    def describe(self) -> list[dict[str, Any]]:
        """Returns all targets as the page gets them (`Target` in types.ts)."""
        return [self._describe(one) for one in self.targets]

    def disagreement(self, target_id: int) -> tuple[ArrayBounds, npt.NDArray[np.uint8]] | None:
        """Returns where the views disagreed in a target's last prediction that looked at slices.

        Returns:
            Bounds (z, y, x), and within them 0 where they agree, up to 255 where they disagree
            most. None where less than two planes looked at slices, where they agree everywhere,
            and where something else than predictions came since.
        """
        found = self.target(target_id).disagreement
        return None if found is None or not found.amount.size else (found.bounds, found.amount)

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
        target = self.target(target_id)
        if session.volume is None:
            raise RuntimeError("the session has no image: call attach first")
        voxels = int(self._voxels[target_id])
        return explain_target(self.image.name, session.volume, target, voxels, progress, cancelled)

    @property
    def is_unsaved(self) -> bool:
        """Whether something would be lost that was not saved."""
        return not self._is_saved and any(not one.is_untouched for one in self.targets)

    def note_saved(self, revision: int | None = None) -> None:
        """Takes what there is as saved; with a revision, only if nothing has changed since it."""
        if revision in (None, self.revision):
            self._is_saved = True

    def put_back(self, targets: list[Target], current: int) -> ArrayBounds | None:
        """Takes other targets in place of all that there are.

        Args:
            targets: with their names, colours and steps; the rest of them is found anew.
            current: the id of one of them.

        Returns:
            Bounds (z, y, x) of what changed in `labels`; None where nothing did.
        """
        changed: ArrayBounds | None = None
        gone = self.targets
        self._begun = self.last = None
        self._targets, self.current = {one.id: one for one in targets}, current
        for one in gone:
            changed = join(changed, self._paint(one.claim, None))
        for one in targets:
            numbers = [prompt.id for prompt in one.step.prompts]
            self._prompts = max(self._prompts, *numbers, 0)
            self._clock = max(self._clock, one.rank, one.step.stamp)
            changed = join(changed, self._paint(None, one.claim))
        self._note_change()
        return changed

    # --- inside ---------------------------------------------------------------------------------

    def _describe(self, target: Target) -> dict[str, Any]:
        step, voxels = target.step, int(self._voxels[target.id])
        return {
            "id": target.id,
            "name": target.name,
            "color": target.color,
            "visible": target.visible,
            "locked": target.locked,
            "voxels": voxels,
            "volume_ml": voxels * self.voxel_ml,
            "prompts": [{"id": one.id, **describe_prompt(one.prompt)} for one in step.prompts],
            "can_undo": target.history.before is not None,
            "can_redo": target.history.after is not None,
            "scales": [] if step.waiting else [*step.state.scales],
            "scale": None if step.waiting else step.state.scale,
            "note": note_of(step, voxels, self.labels.size, self._image_doubt),
        }

    def _unlocked(self, target_id: int) -> Target:
        target = self.target(target_id)
        if target.locked:
            raise ValueError(f"{target.name} is locked: unlock it to change it")
        return target

    def _read_new_name(self, text: str, target: Target | None = None) -> str:
        """Returns a name that no other target has."""
        return _read_new_name((one for one in self._targets.values() if one is not target), text)

    def _note_change(self) -> None:
        """Takes note of a change of what is saved."""
        self._is_saved = False
        self.revision += 1

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    def _begin(self, kind: str, target: Target, step: Step) -> bool:
        self._begun = Begun(kind, target, target.history.copy(), self.current)
        self.observer.begin()
        target.history.advance(replace(step, stamp=self._tick()))
        self._limit_memory()
        self.current = target.id
        self._note_change()
        return bool(step.waiting)

    def _advance(self, target: Target, step: Step) -> ArrayBounds | None:
        """Goes on to another step of a target, and shows what it comes to."""
        target.history.advance(replace(step, stamp=self._tick()))
        self._limit_memory()
        self.current = target.id
        return self._show(target)

    def _move(
        self, session: Session, target: Target, move: Callable[[], None], to: Step | None
    ) -> ArrayBounds | None:
        """Goes back or forth among a target's steps."""
        if to is None:
            return None
        move()
        show(session, to.state)
        self.current = target.id
        return self._show(target)

    def _show(self, target: Target) -> ArrayBounds | None:
        """Makes the label map show a target's last step."""
        if self._begun is not None and self._begun.target is target:
            self._begun = None
        before, target.claim = target.claim, target.step.state.mask
        target.rank = target.step.stamp
        target.disagreement = None
        self._note_change()
        return self._paint(before, target.claim)

    def _paint(self, before: PackedMask | None, after: PackedMask | None) -> ArrayBounds | None:
        """Finds anew whose the voxels are around a claim that changed."""
        held = [one.where for one in (before, after) if one is not None and one.bits.size]
        if not held:
            return None
        low = [min(one.start for one in along) for along in zip(*held, strict=True)]
        high = [max(one.stop for one in along) for along in zip(*held, strict=True)]
        where = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        old = self.labels[where]
        new = np.zeros(old.shape, np.uint8)
        for one in sorted(self._targets.values(), key=lambda each: (each.locked, each.rank)):
            if one.claim is not None:
                paint(one.claim, one.id, new, low)
        bounds = bounding_range(old != new)
        if bounds is None:
            return None
        inner = tuple(slice(a, b) for a, b in zip(*bounds, strict=True))
        self._voxels += count_voxels(new[inner]) - count_voxels(old[inner])
        old[inner] = new[inner]
        return [[n + a, n + b] for n, a, b in zip(low, *bounds, strict=True)]

    def _limit_memory(self) -> None:
        """Forgets the oldest steps of all targets where they take more than a history may."""
        while True:
            histories = [one.history for one in self._targets.values()]
            arrays = (one for each in histories for step in each.states for one in step.arrays)
            past = [one for one in histories if one.past]
            total = count_bytes({id(one): one for one in arrays}.values())
            if total <= MOST_BYTES or not past:
                return
            min(past, key=lambda one: one.past[0].stamp).forget_oldest()


def _new_target(targets: dict[int, Target], wanted_id: int = 0, wanted_name: str = "") -> Target:
    """Adds an empty target, with the id and name that are wanted if nobody has them."""
    free = next(n for n in range(1, MAX_LABEL + 1) if n not in targets)
    if 1 <= wanted_id <= MAX_LABEL and wanted_id not in targets:
        free = wanted_id
    try:
        name = _read_new_name(targets.values(), wanted_name)
    except ValueError:
        names = {one.name for one in targets.values()}
        numbers = (free, *range(1, MAX_LABEL + 1))
        name = next(n for n in map(default_name, numbers) if n not in names)
    targets[free] = Target(free, name, default_color(free))
    return targets[free]


def _read_new_name(others: Iterable[Target], text: str) -> str:
    """Returns a name that no other target has."""
    name = read_name(text)
    if any(one.name == name for one in others):
        raise ValueError(f"there is another target named {name}")
    return name


def last_before(history: History[Step], actions: tuple[Action, ...]) -> Step:
    """Returns the step after the most of some actions, of which the others are still to be done."""
    known = [Step(), *(one for one in history.states if not one.waiting)]
    return max(
        (one for one in known if one.done == actions[: len(one.done)]),
        key=lambda one: len(one.done),
    )


def join(one: ArrayBounds | None, other: ArrayBounds | None) -> ArrayBounds | None:
    """Returns the bounds around two others, of which None is nothing."""
    if one is None or other is None:
        return one or other
    return unite(one, other)
