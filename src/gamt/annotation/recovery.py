"""What of a document was not saved, in a file from which a later run goes on.

There is one file a scan, in the user's state folder, named by what the scan holds, wherever it
lies. It is replaced at once and whole, so that the last one written is there however a run ends.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt
import platformdirs

from gamt.annotation.document import Document
from gamt.annotation.prompts import MaskPrompt, describe_prompt, read_prompt
from gamt.annotation.steps import Action, Given, Loaded, Scaled, Step, show, state_of
from gamt.annotation.targets import Target, read_color, read_name
from gamt.history import History, PackedMask
from gamt.io.image import Image
from gamt.io.json_files import JsonError, JsonValue, parse_json
from gamt.io.labels import MAX_LABEL
from gamt.io.npz import CaseError, Place, open_npz, read_member, write_npz
from gamt.session import ArrayBounds, Session, State
from gamt.settings import Scale
from gamt.windows import IntensityWindow

logger = logging.getLogger("gamt")

FORMAT, VERSION = "gamt recovery", 1
_MOST = 2**53
"""No number, stamp or count is larger."""

Number = Callable[[PackedMask | None], int | None]
"""Gives a mask the number by which a file knows it."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What an earlier run left.

    Attributes:
        path: of the file.
        saved_at: when it was written, ISO 8601 with the time zone.
        targets: how many have a prompt or a mask.
        prompts: how many, of all targets; masks are among them.
    """

    path: Path
    saved_at: str
    targets: int
    prompts: int


def recovery_folder() -> Path:
    """Returns the folder of the recovery files, whether it is there or not."""
    return platformdirs.user_state_path("gamt") / "recovery"


def recovery_path(image: Image) -> Path:
    """Returns where the recovery file of a scan is, whether it is there or not.

    It is the same for a copy of the scan, such as one that was uploaded.
    """
    digest = hashlib.blake2b(digest_size=16)
    array = image.array
    for part in (array.shape, array.dtype.str, image.affine.tolist(), image.turn.tolist()):
        digest.update(repr(part).encode())
    digest.update(np.ascontiguousarray(array).data.cast("B"))
    return recovery_folder() / f"{digest.hexdigest()}.npz"


def write_recovery(path: Path, document: Document) -> None:
    """Writes all targets with their masks and prompts.

    Raises:
        OSError: the file can't be written.
    """
    masks: dict[int, tuple[int, PackedMask]] = {}

    def number(mask: PackedMask | None) -> int | None:
        return None if mask is None else masks.setdefault(id(mask), (len(masks), mask))[0]

    image = document.image
    described = [_describe(one, number) for one in document.targets]
    content = {
        "format": FORMAT,
        "version": VERSION,
        "saved_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "image": {
            "name": image.name,
            "shape": [*image.array.shape],
            "affine": image.affine.tolist(),
        },
        "current": document.current,
        "targets": described,
        "masks": [
            {"low": [one.start for one in mask.where], "high": [one.stop for one in mask.where]}
            for _, mask in masks.values()
        ],
    }
    text = np.frombuffer(json.dumps(content).encode(), np.uint8)
    bits = {f"mask_{n}": mask.bits for n, mask in masks.values()}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_npz(path, {"document": text, **bits})


def find_recovery(path: Path, document: Document) -> Recovery | None:
    """Returns what a recovery file holds; None where there is none for the document's scan.

    A file that is broken or about another scan is set aside (``.broken`` is added to its name), and
    a warning in the log ("gamt") says so.
    """
    if not path.exists():
        return None
    try:
        content = _read(path, document)
    except (CaseError, ValueError, OSError) as error:
        aside = path.with_name(f"{path.name}.broken")
        with suppress(OSError):
            path.replace(aside)
        logger.warning("what an earlier run left can't be read (%s); it is kept: %s", error, aside)
        return None
    used = [one for one in content.targets if one.actions]
    prompts = sum(not isinstance(action, Scaled) for one in used for action in one.actions)
    return Recovery(path, content.saved_at, len(used), prompts) if used else None


def restore(path: Path, document: Document, session: Session) -> ArrayBounds | None:
    """Puts what a recovery file holds in place of a document's targets.

    The next prompt of each goes on from its mask and its prompts, as if there had been no other
    run. Earlier steps can't be taken back.

    Args:
        path: of the file.
        document: gets the targets.
        session: has the document's image and a target buffer.

    Returns:
        Bounds (z, y, x) of what changed in the labels.

    Raises:
        ValueError: the file is broken, or about another scan; the document is as it was.
        OSError: it can't be read.
    """
    content = _read(path, document)
    try:
        targets = [_revive(one, session) for one in content.targets]
    finally:
        show(session, document.target(document.current).step.state)
    changed = document.put_back(targets, content.current)
    show(session, document.target(document.current).step.state)
    return changed


def discard(path: Path) -> None:
    """Removes a recovery file, and the uploaded scan beside it, as far as they are there."""
    path.unlink(missing_ok=True)
    shutil.rmtree(_scan_folder(path), ignore_errors=True)


def keep_scan(path: Path, upload: Path) -> Path:
    """Keeps an uploaded scan beside its recovery file, until that is discarded.

    Args:
        path: of the recovery file.
        upload: the scan's file, or the folder of its series; it is moved.

    Returns:
        Where it is now.

    Raises:
        OSError: it can't be moved.
    """
    folder = _scan_folder(path)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Path(shutil.move(upload, folder / upload.name))


def kept_scans() -> list[Path]:
    """Returns the uploaded scans that are kept, the one that was worked on last first."""
    files = [one for one in recovery_folder().glob("*.npz") if _scan_folder(one).is_dir()]
    files.sort(key=lambda one: one.stat().st_mtime, reverse=True)
    return [scan for one in files for scan in sorted(_scan_folder(one).iterdir())[:1]]


def _scan_folder(path: Path) -> Path:
    return path.with_suffix(".scan")


@dataclass(frozen=True, slots=True, eq=False)
class _StoredTarget:
    """A target as a file has it, without what a session makes of its prompts."""

    target: Target
    actions: tuple[Action, ...]
    done: int
    stamp: int
    mask: PackedMask | None
    initial: PackedMask | None
    window: IntensityWindow | None
    is_rough: bool
    is_complete: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Content:
    """What a file holds."""

    saved_at: str
    targets: tuple[_StoredTarget, ...]
    current: int


def _describe(target: Target, number: Number) -> dict[str, Any]:
    """Returns a target as it is written."""
    step, state = target.step, target.step.state
    return {
        "id": target.id,
        "name": target.name,
        "color": target.color,
        "visible": target.visible,
        "locked": target.locked,
        "rank": target.rank,
        "claim": number(target.claim),
        "stamp": step.stamp,
        "mask": number(state.mask),
        "initial": number(state.initial),
        "window": state.windows.get(1),
        "is_rough": state.rough,
        "is_complete": state.is_complete,
        "done": len(step.done),
        "actions": [_describe_action(one, number) for one in step.actions],
    }


def _describe_action(action: Action, number: Number) -> dict[str, Any]:
    match action:
        case Given():
            return {"id": action.id, **describe_prompt(action.prompt)}
        case Loaded():
            described = describe_prompt(action.prompt)
            return {
                "id": action.id,
                **described,
                "mask": number(action.mask),
                "left_out": action.left_out,
            }
        case Scaled():
            return {"kind": "scale", "scale": action.scale}


def _read(path: Path, document: Document) -> _Content:
    """Reads a file.

    Raises:
        ValueError: it is broken, or about another scan.
        OSError: it can't be read.
    """
    with open_npz(path) as archive:
        text = _read_bytes(path, read_member(archive, Place(path, "document")))
        root = parse_json(text.tobytes(), path)
        root.member("format").text(FORMAT)
        root.member("version").whole_number(VERSION, VERSION)
        _check_scan(root.member("image"), document.image)
        shape = document.image.array.shape
        masks = [
            _read_mask(
                entry, _read_bytes(path, read_member(archive, Place(path, f"mask_{n}"))), shape
            )
            for n, entry in enumerate(root.member("masks").items())
        ]
    targets = tuple(_read_target(entry, masks) for entry in root.member("targets").items())
    ids = [one.target.id for one in targets]
    current = root.member("current").whole_number(1, MAX_LABEL)
    if len(set(ids)) != len(ids) or current not in ids:
        root.member("targets").refuse("targets of different ids, the current one among them")
    return _Content(root.member("saved_at").text(), targets, current)


def _read_bytes(path: Path, array: npt.NDArray[Any] | None) -> npt.NDArray[np.uint8]:
    if array is None or array.dtype != np.uint8 or array.ndim != 1:
        raise JsonError(path, "found something else than bytes, expected a file that gamt wrote")
    return array


def _check_scan(entry: JsonValue, image: Image) -> None:
    shape = [int(size) for size in entry.member("shape").numbers(3)]
    affine = [row.numbers(4) for row in entry.member("affine").items()]
    if shape != [*image.array.shape] or not np.array_equal(affine, image.affine):
        entry.fail(f"found what is about another scan than {image.name}")


def _read_mask(entry: JsonValue, bits: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> PackedMask:
    low = [one.whole_number(0, _MOST) for one in entry.member("low").items()]
    high = [one.whole_number(0, _MOST) for one in entry.member("high").items()]
    fits = len(low) == len(high) == 3 and all(
        a <= b <= size for a, b, size in zip(low, high, shape, strict=True)
    )
    if not fits or len(bits) != -(-int(np.prod(np.subtract(high, low))) // 8):
        entry.fail("found a mask that doesn't fit the scan")
    return PackedMask(shape, tuple(slice(a, b) for a, b in zip(low, high, strict=True)), bits)


def _read_target(entry: JsonValue, masks: list[PackedMask]) -> _StoredTarget:
    actions = tuple(_read_action(one, masks) for one in entry.member("actions").items())
    window = None
    if entry.has("window"):
        window = IntensityWindow(*entry.member("window").numbers(2))
    target = Target(
        entry.member("id").whole_number(1, MAX_LABEL),
        read_name(entry.member("name").text()),
        read_color(entry.member("color").text()),
        entry.member("visible").boolean(),
        entry.member("locked").boolean(),
        claim=_mask_of(entry, "claim", masks),
        rank=entry.member("rank").whole_number(0, _MOST),
    )
    return _StoredTarget(
        target,
        actions,
        entry.member("done").whole_number(0, len(actions)),
        entry.member("stamp").whole_number(0, _MOST),
        _mask_of(entry, "mask", masks),
        _mask_of(entry, "initial", masks),
        window,
        entry.member("is_rough").boolean(),
        entry.member("is_complete").boolean(),
    )


def _mask_of(entry: JsonValue, name: str, masks: list[PackedMask]) -> PackedMask | None:
    if not entry.has(name):
        return None
    return masks[entry.member(name).whole_number(0, len(masks) - 1)]


def _read_action(entry: JsonValue, masks: list[PackedMask]) -> Action:
    kind = entry.member("kind").text()
    if kind == "scale":
        return Scaled(cast(Scale, entry.member("scale").text(*get_args(Scale))))
    number = entry.member("id").whole_number(1, _MOST)
    if kind != "mask":
        return Given(number, read_prompt(entry))
    mask = _mask_of(entry, "mask", masks)
    if mask is None:
        entry.fail("found no mask, expected one")
    left_out = entry.member("left_out").whole_number(0, _MOST)
    return Loaded(number, MaskPrompt(entry.member("name").text()), mask, left_out)


def _revive(stored: _StoredTarget, session: Session) -> Target:
    """Returns a target whose next prediction goes on from its mask, and from its prompts.

    Raises:
        ValueError: a prompt is none that the session takes.
    """
    done, waiting = stored.actions[: stored.done], stored.actions[stored.done :]
    show(session, State())
    _give(session, done)
    state = state_of(session)
    if done:
        state = replace(
            state,
            mask=stored.mask,
            initial=stored.initial,
            corrected=True,
            rough=stored.is_rough,
            windows={} if stored.window is None else {1: stored.window},
            is_behind=False,
            is_complete=stored.is_complete,
        )
    stored.target.history = History(Step(done, state, waiting, stored.stamp))
    return stored.target


def _give(session: Session, actions: Iterable[Action]) -> None:
    """Gives a session what was done before, without any prediction."""
    for one in actions:
        if not isinstance(one, Scaled):
            one.apply(session)
