"""What of a document was not saved, in a file from which a later run goes on.

Every run that has done something to a scan has a file for it, in the user's state folder, named by
what the scan holds, wherever it lies, and a number. It is replaced at once and whole, so that the
last one written is there however a run ends. While a run is at work on it, its lock says so; no
other run touches it then, and none ever writes to a file that is there already.
"""

import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt
import platformdirs
from filelock import FileLock, Timeout

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


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """A recovery file that is this run's alone.

    Attributes:
        path: of the file; there is none before it is written.
        lock: held as long as this run is at work on it.
    """

    path: Path
    lock: FileLock

    def release(self) -> None:
        """Leaves the file, as it is, to other runs."""
        with suppress(OSError):  # where open files can't be removed, an empty one stays
            _lock_path(self.path).unlink(missing_ok=True)
        self.lock.release()


def recovery_folder() -> Path:
    """Returns the folder of the recovery files, whether it is there or not."""
    return platformdirs.user_state_path("gamt") / "recovery"


def recovery_path(image: Image) -> Path:
    """Returns where the first recovery file of a scan is, whether it is there or not.

    The others have a number added to its name.

    It is the same for a copy of the scan, such as one that was uploaded.
    """
    digest = hashlib.blake2b(digest_size=16)
    array = image.array
    for part in (array.shape, array.dtype.str, image.affine.tolist(), image.turn.tolist()):
        digest.update(repr(part).encode())
    digest.update(np.ascontiguousarray(array).data.cast("B"))
    return recovery_folder() / f"{digest.hexdigest()}.npz"


def claim(first: Path) -> Claim:
    """Takes the first recovery file of a scan that isn't there, and that no other run has.

    Args:
        first: see `recovery_path`.

    Raises:
        OSError: the folder can't be written to.
    """
    first.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in _numbered(first):
        if (lock := _take(path)) is not None:
            if not path.exists():
                return Claim(path, lock)
            lock.release()
    raise AssertionError("numbers have no end")


def is_at_work(first: Path, besides: Claim | None = None) -> bool:
    """Says whether a run, besides that of a claim, has work of a scan; see `claim`."""
    locks = first.parent.glob(f"{first.stem}*{_lock_path(first).suffix}")
    paths = [one.with_suffix("") for one in locks]
    return any(_is_taken(one) for one in paths if besides is None or one != besides.path)


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
        "unsaved": document.is_unsaved,
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


def find_recoveries(first: Path, document: Document) -> list[Recovery]:
    """Returns what the recovery files of a scan hold, but for those that runs are at work on.

    A file that is broken or about another scan is set aside (``.broken`` is added to its name), and
    a warning in the log ("gamt") says so.

    Args:
        first: see `recovery_path`.
        document: of the scan.

    Returns:
        The one that was written last comes first; those of saved work, and without a prompt, are
        left out.
    """
    paths = [one for one in _files_of(first) if not _is_taken(one)]
    found = [one for path in paths if (one := _look_at(path, document)) is not None]
    return sorted(found, key=lambda one: one.path.stat().st_mtime_ns, reverse=True)


def _look_at(path: Path, document: Document) -> Recovery | None:
    try:
        content = _read(path, document)
    except FileNotFoundError:
        return None  # another run was quicker
    except (CaseError, ValueError, OSError) as error:
        wanted = path.with_name(f"{path.name}.broken")
        aside = next(one for one in _numbered(wanted) if not one.exists())
        with suppress(OSError):
            path.replace(aside)
        logger.warning("what an earlier run left can't be read (%s); it is kept: %s", error, aside)
        return None
    used = [one for one in content.targets if one.actions]
    prompts = sum(not isinstance(action, Scaled) for one in used for action in one.actions)
    if not used or not content.unsaved:
        return None
    return Recovery(path, content.saved_at, len(used), prompts)


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
    if not content.unsaved:
        document.note_saved()
    show(session, document.target(document.current).step.state)
    return changed


def keep_scan(first: Path, upload: Path) -> Path:
    """Keeps an uploaded scan beside its recovery files; see `discard_scan`.

    Args:
        first: see `recovery_path`.
        upload: the scan's file, or the folder of its series; it is moved, unless the same scan is
            kept already.

    Returns:
        Where it is now.

    Raises:
        OSError: it can't be moved.
    """
    kept = _scan_folder(first) / upload.name
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.move(upload, kept)
    return kept


def kept_scans() -> list[Path]:
    """Returns the uploaded scans that are kept, the one that was worked on last first."""
    folders = recovery_folder().glob("*.scan")
    times = {
        folder: max(one.stat().st_mtime for one in files)
        for folder in folders
        if (files := _files_of(folder.with_suffix(".npz")))
    }
    folders_by_time = sorted(times, key=lambda one: times[one], reverse=True)
    return [scan for one in folders_by_time for scan in sorted(one.iterdir())[:1]]


def discard_scan(first: Path) -> None:
    """Removes an uploaded scan, unless there is unsaved work of it; see `keep_scan`."""
    if not _files_of(first) and not is_at_work(first):
        shutil.rmtree(_scan_folder(first), ignore_errors=True)


def _scan_folder(first: Path) -> Path:
    return first.with_suffix(".scan")


def _numbered(first: Path) -> Iterator[Path]:
    """Gives a path, and without end the same with a number: ``a.npz``, ``a-2.npz``, ..."""
    yield first
    for number in itertools.count(2):
        yield first.with_stem(f"{first.stem}-{number}")


def _files_of(first: Path) -> list[Path]:
    return list(first.parent.glob(f"{first.stem}*.npz"))


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _take(path: Path) -> FileLock | None:
    """Locks a recovery file; returns None where another run has it."""
    lock = FileLock(_lock_path(path), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _is_taken(path: Path) -> bool:
    if not _lock_path(path).exists():
        return False
    lock = _take(path)
    if lock is not None:
        Claim(path, lock).release()  # that of a run that was killed
    return lock is None


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
    unsaved: bool
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
    saved_at, unsaved = root.member("saved_at").text(), root.member("unsaved").boolean()
    return _Content(saved_at, unsaved, targets, current)


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
