"""Segmenters that fail, each in its own way, on some cases of a folder: what becomes of them all.

Every fault (`FAULTS`) is met by three victims, with boxes, with clicks, and in a second round, and
by none of the healthy cases before, between and after them. A victim's output has to say what
happened, unless it is as good as without the fault, and to be no worse than what its prompts, or
the previous prediction, say by themselves; the healthy cases have to be bit for bit as alone.

All victims have two bodies in opposite corners of a volume whose three sides differ. So a slice's
shape tells its plane, and a prompt's place its class.
"""

import logging
import multiprocessing as mp
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from benchmarks import bars
from benchmarks.bench import Bar, listed, new_table
from benchmarks.fault_times import check_output
from benchmarks.phantoms import Phantom, box_prompts, click_prompts, dice, first_click, shade
from gamt import segmenters
from gamt.axes import Plane, slice_shape
from gamt.io.case import Case, write_case
from gamt.predict import predict_case, predict_folder
from gamt.prompts import ClassPrompts, SlicePrompt
from gamt.sample import Canvas
from gamt.segmenters.base import Embedding, SliceMask
from gamt.settings import PRESETS, Settings

AT_ONCE = 2
"""Faults at a time."""

SHAPE = (30, 38, 46)
"""Of the victims (z, y, x), all sides different."""

HEALTHY_SHAPE = (28, 36, 40)

LIMIT_SECONDS = 600.0
"""For a class, so that no fault but those of time is cut short."""

TOLERANCE = 0.02
"""Dice that a fault may cost where the output says "complete"."""

FLOOR_TOLERANCE = 0.05
"""Dice by which an output may be worse than what its prompts say by themselves."""

COMPLETE = "complete"


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What a segmenter is asked for in one call.

    Attributes:
        before: slices or prompts of this kind that it was asked for before, in the same case.
        inputs: slices (N, rows, columns), or embeddings.
        prompts: as many; none when slices are encoded.
        answer: returns what a segmenter without fault answers.
    """

    before: int
    inputs: Any
    prompts: Sequence[SlicePrompt]
    answer: Callable[[], Sequence[Any]]

    @property
    def plane(self) -> Plane:
        """The plane of the slices."""
        shapes = {slice_shape(SHAPE, plane): plane for plane in Plane}
        return shapes[np.shape(self.inputs[0])]

    def label(self, index: int) -> int:
        """Returns the class that a prompt asks for, 1 or 2."""
        prompt, (rows, columns) = self.prompts[index], np.shape(self.inputs[index])
        if prompt.box is not None:
            x, y = np.add(prompt.box[:2], prompt.box[2:]) / 2
        elif (prompt.labels == 1).any():
            x, y = prompt.points[prompt.labels == 1].mean(axis=0)
        else:
            assert prompt.mask is not None, "prompts without box and points have a mask"
            y, x = np.argwhere(prompt.mask > 0).mean(axis=0)
        return 1 if x / columns + y / rows < 1 else 2


Hook = Callable[[Asked], Any]
"""Answers instead of the segmenter."""

When = Callable[[Asked, int], bool]
"""Says whether the fault meets the slice or the prompt at a position of a call."""


def answer(asked: Asked) -> Sequence[Any]:
    """Answers as the segmenter does."""
    return asked.answer()


@dataclass(frozen=True, slots=True)
class Fault:
    """What a segmenter does wrong.

    Attributes:
        name: in a few words.
        says: a regular expression of what the victims' status has to say; None where the fault may
            do no harm, and the status then may say "complete".
        encode: instead of the segmenter's.
        decode: instead of the segmenter's.
        spares: whether class 2 is not concerned.
        ends: what ends the whole run, as it would from anywhere else; None where nothing does.
        is_seen: whether anybody could tell the fault's answers from those of a poor segmenter; if
            not, they may be of any quality.
        seconds: allowed for a class.
    """

    name: str
    says: str | None
    encode: Hook = answer
    decode: Hook = answer
    spares: bool = False
    ends: type[BaseException] | None = None
    is_seen: bool = True
    seconds: float = LIMIT_SECONDS


class FaultySegmenter:
    """The embedded segmenter, asked like a network, with a fault.

    Attributes:
        is_faulty: whether the fault is there; not on healthy cases.
    """

    name = "faulty"

    def __init__(self, fault: Fault, is_faulty: bool = True) -> None:
        """Takes the fault."""
        self._inner = segmenters.load("statistical")
        self.traits = replace(self._inner.traits, intensities_alone=False, batch=4)
        self._fault = fault
        self.begin(is_faulty)

    def begin(self, is_faulty: bool) -> None:
        """Begins a case."""
        self.is_faulty = is_faulty
        self._encoded = self._decoded = 0

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        """Encodes slices, or does something else."""
        asked = Asked(self._encoded, slices, (), lambda: self._inner.encode(slices))
        self._encoded += len(slices)
        found: Sequence[Embedding] = (self._fault.encode if self.is_faulty else answer)(asked)
        return found

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Answers, or does something else."""

        def answers() -> Sequence[SliceMask]:
            return self._inner.decode(embeddings, prompts, multimask)

        asked = Asked(self._decoded, embeddings, prompts, answers)
        self._decoded += len(prompts)
        found: Sequence[SliceMask] = (self._fault.decode if self.is_faulty else answer)(asked)
        return found


class OutOfMemoryError(RuntimeError):
    """As torch's."""


class UnprintableError(Exception):
    """One that can't even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no text")


def always(asked: Asked, index: int) -> bool:
    """Meets everything."""
    return True


def at(number: int) -> When:
    """Meets the slice or prompt of that number in a case."""
    return lambda asked, index: asked.before + index == number


def since(number: int) -> When:
    """Meets all slices or prompts from that number on."""
    return lambda asked, index: asked.before + index >= number


def in_plane(plane: Plane) -> When:
    """Meets what is of one plane."""
    return lambda asked, index: asked.plane is plane


def of_class(label: int) -> When:
    """Meets prompts for one class."""
    return lambda asked, index: asked.label(index) == label


def in_company(asked: Asked, index: int) -> bool:
    """Meets what doesn't come alone."""
    return len(asked.inputs) > 1


def some_slices(asked: Asked, index: int) -> bool:
    """Meets about every seventh slice, each time anew."""
    return int(np.sum(asked.inputs[index], dtype=np.int64)) % 7 == 0


def raising(make: Callable[[], BaseException], when: When = always) -> Hook:
    """Raises an exception."""

    def hook(asked: Asked) -> Any:
        if any(when(asked, index) for index in range(len(asked.inputs))):
            raise make()
        return asked.answer()

    return hook


def changing(change: Callable[[Any], Any], when: When = always) -> Hook:
    """Changes answers, each by itself."""
    return lambda asked: [
        change(one) if when(asked, index) else one for index, one in enumerate(asked.answer())
    ]


def logits(change: Callable[[npt.NDArray[np.float32]], Any], when: When = always) -> Hook:
    """Changes the logits of answers."""
    return changing(lambda one: SliceMask(change(one.logits.copy()), one.quality, one.state), when)


def quality(value: Any) -> Hook:
    """Answers with another quality."""
    return changing(lambda one: SliceMask(one.logits, value, one.state))


def with_pixel(value: float) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """Changes one pixel of the logits."""

    def change(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        array[0, 0] = value
        return array

    return change


def recurse(asked: Asked) -> Any:
    """Never ends."""
    return recurse(asked)


def spoil_slices(asked: Asked) -> Any:
    """Encodes, and then overwrites what it was given."""
    found = [one.copy() for one in asked.answer()]
    asked.inputs[...] = 0
    return found


def spoil_prompts(asked: Asked) -> Any:
    """Answers, and then overwrites the prompts."""
    found = asked.answer()
    for prompt in asked.prompts:
        prompt.points[...] = 0
        if prompt.mask is not None:
            prompt.mask[...] = 0
    return found


def share_buffer() -> Hook:
    """Answers with one array for each shape, which the next call overwrites."""
    buffers: dict[tuple[int, ...], npt.NDArray[np.float32]] = {}

    def hook(asked: Asked) -> Any:
        found = []
        for one in asked.answer():
            buffer = buffers.setdefault(one.logits.shape, np.empty_like(one.logits))
            buffer[...] = one.logits
            found.append(SliceMask(buffer, one.quality, one.state))
        return found

    return hook


def answer_into_prompts(asked: Asked) -> Any:
    """Writes the logits into the prompts' masks, where there are any."""
    found = []
    for prompt, one in zip(asked.prompts, asked.answer(), strict=True):
        into = one.logits if prompt.mask is None else prompt.mask
        into[...] = one.logits
        found.append(SliceMask(into, one.quality, one.state))
    return found


def read_only(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the array, not to be written to."""
    array.flags.writeable = False
    return array


def wait(seconds: float) -> Hook:
    """Answers late."""

    def hook(asked: Asked) -> Any:
        time.sleep(seconds)
        return asked.answer()

    return hook


RUNTIME = "RuntimeError"

FAULTS: tuple[Fault, ...] = (
    # Exceptions.
    Fault("encode: RuntimeError once", RUNTIME, raising(lambda: RuntimeError("CUDA"), at(6))),
    Fault("encode: RuntimeError from the 7th on", RUNTIME, raising(RuntimeError, since(6))),
    Fault("encode: MemoryError from the 7th on", "MemoryError", raising(MemoryError, since(6))),
    Fault(
        "encode: torch's OutOfMemoryError, always",
        "OutOfMemoryError",
        raising(lambda: OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    ),
    Fault("encode: MemoryError in batches", None, raising(MemoryError, in_company)),
    Fault("encode: after half of the slices", RUNTIME, raising(RuntimeError, since(60))),
    Fault("encode: every seventh slice", RUNTIME, raising(RuntimeError, some_slices)),
    Fault(
        "encode: AssertionError in coronal slices",
        "coronal.*AssertionError",
        raising(AssertionError, in_plane(Plane.CORONAL)),
    ),
    Fault("encode: endless recursion", "RecursionError", recurse),
    Fault("encode: always KeyError", "KeyError", raising(lambda: KeyError("image"))),
    Fault(
        "encode: a long text with line breaks and control characters",
        "ValueError",
        raising(lambda: ValueError("one\ntwo\r\x1b[31mthree\x00\u2028" + "x" * 10_000)),
    ),
    Fault("encode: an error without a text", "UnprintableError", raising(UnprintableError)),
    Fault("decode: KeyError once", "KeyError", decode=raising(lambda: KeyError("masks"), at(2))),
    Fault(
        "decode: IndexError from the 10th on", "IndexError", decode=raising(IndexError, since(9))
    ),
    Fault("decode: always RuntimeError", RUNTIME, decode=raising(RuntimeError)),
    Fault("decode: always MemoryError", "MemoryError", decode=raising(MemoryError)),
    Fault("decode: OSError once, late", "OSError", decode=raising(OSError, at(80))),
    Fault("decode: StopIteration", "StopIteration", decode=raising(StopIteration, since(5))),
    Fault("decode: GeneratorExit", "GeneratorExit", decode=raising(GeneratorExit, since(5))),
    Fault(
        "decode: ZeroDivisionError in axial slices",
        "axial.*ZeroDivisionError",
        decode=raising(ZeroDivisionError, in_plane(Plane.AXIAL)),
    ),
    Fault(
        "decode: FloatingPointError in sagittal slices",
        "sagittal.*FloatingPointError",
        decode=raising(FloatingPointError, in_plane(Plane.SAGITTAL)),
    ),
    Fault("decode: for class 1", RUNTIME, decode=raising(RuntimeError, of_class(1)), spares=True),
    Fault("decode: more than one prompt", None, decode=raising(RuntimeError, in_company)),
    Fault(
        "decode: KeyboardInterrupt", "", decode=raising(KeyboardInterrupt), ends=KeyboardInterrupt
    ),
    Fault("encode: SystemExit", "SystemExit: 3", raising(lambda: SystemExit(3))),
    # Numbers.
    Fault("logits: NaN", "NaN", decode=logits(lambda one: one * np.float32(np.nan))),
    Fault(
        "logits: one NaN, class 1",
        "NaN",
        decode=logits(with_pixel(np.nan), of_class(1)),
        spares=True,
    ),
    Fault("logits: one inf", None, decode=logits(with_pixel(np.inf)), is_seen=False),
    Fault("logits: inf and -inf", None, decode=logits(lambda one: np.copysign(np.inf, one))),
    Fault("logits: 1e30 times", None, decode=logits(lambda one: one * np.float32(1e30))),
    Fault("quality: NaN", "quality", decode=quality(np.nan)),
    Fault("quality: inf", "quality", decode=quality(np.inf)),
    Fault("quality: 1.7", None, decode=quality(1.7)),
    Fault("quality: -1", None, decode=quality(-1.0)),
    Fault("quality: None", "quality", decode=quality(None)),
    Fault("quality: a text", "quality", decode=quality("good")),
    Fault("quality: an array", None, decode=quality(np.array([0.9], np.float32))),
    # Shapes.
    Fault("logits: transposed", "shape", decode=logits(np.transpose)),
    Fault("logits: a row too few", "shape", decode=logits(lambda one: one[1:])),
    Fault(
        "logits: twice the resolution",
        "shape",
        decode=logits(lambda one: np.kron(one, np.ones((2, 2)))),
    ),
    Fault("logits: of three dimensions", "shape", decode=logits(lambda one: one[None])),
    Fault("logits: a number", "shape|float", decode=logits(lambda one: one.max())),
    Fault("logits: empty", "shape", decode=logits(lambda one: one[:0, :0])),
    Fault("logits: None", "None", decode=logits(lambda one: None)),
    Fault(
        "decode: an answer too few",
        "answers|found|expected",
        decode=lambda asked: list(asked.answer())[:-1],
    ),
    Fault(
        "decode: an answer too many",
        None,
        decode=lambda asked: [*asked.answer(), *asked.answer()[:1]],
    ),
    Fault("decode: no list", "None", decode=lambda asked: None),
    Fault("decode: a list of None", "None", decode=changing(lambda one: None)),
    Fault("decode: bare arrays", "ndarray|array", decode=changing(lambda one: one.logits)),
    Fault("decode: a generator", None, decode=lambda asked: (one for one in asked.answer())),
    Fault("encode: a slice too few", "expected|found", lambda asked: list(asked.answer())[:-1]),
    Fault("encode: a slice too many", None, lambda asked: [*asked.answer(), asked.answer()[0]]),
    Fault("encode: no list", "None", lambda asked: None),
    Fault("encode: an empty list", "expected|found", lambda asked: []),
    Fault("encode: None for each", "None", changing(lambda one: None)),
    # Types.
    Fault("logits: float64", None, decode=logits(np.float64)),
    Fault("logits: float16", None, decode=logits(np.float16)),
    Fault("logits: a mask", None, decode=logits(lambda one: one > 0)),
    Fault("logits: objects", None, decode=logits(lambda one: one.astype(object))),
    Fault("logits: texts", "logits", decode=logits(lambda one: one.astype(str))),
    Fault("logits: complex", "logits", decode=logits(lambda one: one.astype(complex))),
    Fault("logits: lists", None, decode=logits(lambda one: one.tolist())),
    # Masks that are wrong as a whole.
    Fault(
        "masks: all empty", "empty|nothing|found no", decode=logits(lambda one: -np.abs(one) - 1)
    ),
    Fault(
        "masks: empty for class 1",
        "empty|nothing|found no",
        decode=logits(lambda one: -np.abs(one) - 1, of_class(1)),
        spares=True,
    ),
    Fault("masks: all full", None, decode=logits(lambda one: np.abs(one) + 1), is_seen=False),
    Fault("masks: inside out", None, decode=logits(np.negative), is_seen=False),
    # Memory.
    Fault("overwrites its slices", None, spoil_slices),
    Fault("overwrites its prompts", None, decode=spoil_prompts),
    Fault("one array for all answers", None, decode=share_buffer(), is_seen=False),
    Fault("answers in the prompts' masks", None, decode=answer_into_prompts),
    Fault("read-only answers", None, decode=logits(read_only)),
    # Time.
    Fault("encode: two seconds a call", "time", wait(2.0), seconds=3.0),
    Fault("decode: two seconds a call", "time", decode=wait(2.0), seconds=3.0),
)


@dataclass(frozen=True, slots=True)
class Patient:
    """A case of the folder.

    Attributes:
        case: its file's name is the case's.
        phantom: with the case's prompts.
        is_victim: whether the segmenter fails at it.
        floor: Dice, per class, of what the prompts or the previous prediction say by themselves;
            0 where nothing is said but where the target is.
    """

    case: Case
    phantom: Phantom
    is_victim: bool
    floor: tuple[float, ...]


@cache
def draw_folder() -> tuple[Patient, ...]:
    """Draws the cases, in the order of their names: healthy ones, and victims between them."""
    boxed, clicked = _draw_bodies(SHAPE, box_prompts), _draw_bodies(SHAPE, click_prompts)
    other = _draw_bodies(HEALTHY_SHAPE, box_prompts)
    ellipsoids = []
    for one in boxed.prompts:
        assert one.box is not None, "a box was drawn for each"
        drawn = bars.inscribed_ellipsoid(one.box, SHAPE)
        ellipsoids.append(dice(drawn, boxed.truth == one.label))
    previous = np.roll(boxed.truth, (1, 1, 2), axis=(0, 1, 2))
    prompts = []
    for one in boxed.prompts:
        missing = (boxed.truth == one.label) & (previous != one.label)
        prompts.append(replace(one, clicks=(first_click(missing.astype(np.uint8), 1),)))
    second = replace(boxed, prompts=tuple(prompts))
    healthy = (0.0, 0.0)
    return (
        _patient("1_healthy", other, healthy, is_victim=False),
        _patient("2_boxes", boxed, tuple(ellipsoids)),
        _patient("3_healthy", other, healthy, is_victim=False),
        _patient("4_clicks", clicked, (0.0, 0.0)),
        _patient("5_round_2", second, bars.dice_of(boxed.truth, previous, (1, 2)), previous),
        _patient("6_healthy", other, healthy, is_victim=False),
    )


def _draw_bodies(
    shape: tuple[int, int, int],
    say: Callable[..., tuple[ClassPrompts, ...]],
) -> Phantom:
    rng = np.random.default_rng(0)
    canvas = Canvas(shape, (1.0, 1.0, 1.0))
    away = np.array(shape) * 0.22
    canvas.draw(canvas.ellipsoid(tuple(-away), (5.5, 6.5, 8.0)), 1)
    canvas.draw(canvas.ellipsoid(tuple(away), (5.0, 7.0, 7.5)), 2)
    image = shade(canvas.truth, (120, 180), rng)
    prompts = say(canvas.truth, rng) if say is box_prompts else say(canvas.truth)
    return Phantom("bodies", image, canvas.truth, canvas.spacing_mm, prompts)


def _patient(
    name: str,
    phantom: Phantom,
    floor: tuple[float, ...],
    previous: npt.NDArray[np.uint8] | None = None,
    is_victim: bool = True,
) -> Patient:
    case = replace(bars.phantom_case(phantom), name=name, previous=previous)
    return Patient(case, phantom, is_victim, floor)


@cache
def healthy_results() -> tuple[npt.NDArray[np.uint8], ...]:
    """Returns the labels of every case, alone and by a segmenter without fault."""
    segmenter = FaultySegmenter(Fault("none", None))
    settings = _settings(LIMIT_SECONDS)
    return tuple(
        predict_case(patient.case, segmenter, settings).labels for patient in draw_folder()
    )


def _settings(seconds: float) -> Settings:
    return replace(PRESETS["default"], seconds_per_class=seconds, runs=1, runs_without_box=1)


@dataclass(frozen=True, slots=True)
class FaultRun:
    """What came of a fault.

    Attributes:
        number: of the fault.
        statuses: of the victims' outputs.
        dice: of the victims, per class.
        problems: what should not be so.
        seconds: that the folder took.
    """

    number: int
    statuses: tuple[str, ...]
    dice: tuple[tuple[float, ...], ...]
    problems: tuple[str, ...] = field(default=())
    seconds: float = 0.0


class _Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def run_fault(number: int) -> FaultRun:
    """Segments the folder with a fault."""
    fault, patients = FAULTS[number], draw_folder()
    segmenter = FaultySegmenter(fault, is_faulty=False)

    def begin(done: int, total: int) -> None:
        segmenter.begin(done < total and patients[done].is_victim)

    logger, handler = logging.getLogger("gamt"), _Lines()
    logger.handlers, logger.propagate = [handler], False
    problems: list[str] = []
    begun = time.monotonic()
    with TemporaryDirectory() as name:
        inputs, outputs = Path(name) / "in", Path(name) / "out"
        inputs.mkdir()
        for one in patients:
            case = one.case
            write_case(
                inputs / f"{case.name}.npz",
                *(case.image, case.spacing_mm, case.prompts),
                previous=case.previous,
            )
        ended: type[BaseException] | None = None
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                predict_folder(inputs, outputs, segmenter, _settings(fault.seconds), progress=begin)
            except BaseException as error:  # also those that end a process, to see that they do
                ended = type(error)
        seconds = time.monotonic() - begun
        problems += sorted({f"warns: {one.message}" for one in warned})
        if ended is not fault.ends:
            problems.append(f"ended by {ended}, expected {fault.ends}")
        problems += [f"left {one.name}" for one in outputs.glob(".*")]
        if fault.ends is not None:
            return FaultRun(number, (), (), (*problems, *_check_ended(outputs)), seconds)
        statuses, scores = [], []
        for index, patient in enumerate(patients):
            output = outputs / f"{patient.case.name}.npz"
            wrong, status, values = check_output(output, patient.phantom)
            if output.is_file():
                with np.load(output) as file:
                    wrong += _check(fault, index, file["segs"], status, values)
                wrong += _check_log(fault, patient, status, handler.lines)
            problems += [f"{patient.case.name}: {one}" for one in wrong]
            if patient.is_victim:
                statuses.append(status)
                scores.append(values)
    return FaultRun(number, tuple(statuses), tuple(scores), tuple(problems), seconds)


def _check_ended(outputs: Path) -> list[str]:
    """Returns what is wrong with the outputs of a run that the first victim ended."""
    found = sorted(one.name for one in outputs.glob("*"))
    if found != ["1_healthy.npz"]:
        return [f"found the outputs {found}, expected those before the fault"]
    with np.load(outputs / found[0]) as file:
        same = np.array_equal(file["segs"], healthy_results()[0])
    return [] if same else ["1_healthy: differs from the result alone"]


def _check(
    fault: Fault,
    index: int,
    segs: npt.NDArray[np.uint8],
    status: str,
    scores: tuple[float, ...],
) -> list[str]:
    """Returns what is wrong with an output."""
    patient, alone = draw_folder()[index], healthy_results()[index]
    if not patient.is_victim:
        wrong = [] if status == COMPLETE else [f"says {status!r}"]
        return wrong if np.array_equal(segs, alone) else [*wrong, "differs from the result alone"]
    if np.array_equal(segs, alone) and status == COMPLETE:
        return []
    wrong = []
    if fault.says is not None and not re.search(fault.says, status):
        wrong.append(f"says {status[:80]!r}, expected {fault.says!r}")
    healthy = bars.dice_of(patient.phantom.truth, alone, (1, 2))
    if status == COMPLETE and fault.is_seen and min(np.subtract(scores, healthy)) < -TOLERANCE:
        wrong.append(f"complete, Dice {listed(scores)} instead of {listed(healthy)}")
    if fault.is_seen and min(np.subtract(scores, patient.floor)) < -FLOOR_TOLERANCE:
        wrong.append(f"Dice {listed(scores)}, by the prompts alone {listed(patient.floor)}")
    if fault.spares:
        if not np.array_equal(segs == 2, alone == 2):
            wrong.append("class 2 changed")
        if "class 2" in status:
            wrong.append("speaks of class 2")
    return wrong


def _check_log(fault: Fault, patient: Patient, status: str, lines: Sequence[str]) -> list[str]:
    """Returns what is wrong with what was logged of a case."""
    own = [line for line in lines if patient.case.name in line]
    wrong = [f"logs {line[:80]!r}" for line in own if not line.isprintable()]
    if patient.is_victim and fault.says is not None and status != COMPLETE and not own:
        wrong.append("no warning in the log")
    return wrong


def run_faults(numbers: Sequence[int], console: Console) -> list[FaultRun]:
    """Segments the folder with faults, a few at a time, and prints what should not be so."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(min(AT_ONCE, len(numbers)), mp.get_context("spawn")) as pool:
        runs = pool.map(run_fault, numbers)
        done = []
        title = "Faults of a segmenter"
        for run in track(runs, title, len(numbers), console=console, transient=True):
            done.append(run)
            for problem in run.problems:
                name = FAULTS[run.number].name
                console.print(f"fault {run.number} ({name}): {problem}", markup=False)
        return done


def always_failing() -> FaultySegmenter:
    """Returns one that never answers; `benchmarks.fault_segmenters:always_failing` names it."""
    return FaultySegmenter(Fault("always", None, raising(RuntimeError), raising(RuntimeError)))


def without_fault() -> FaultySegmenter:
    """Returns one without a fault; `benchmarks.fault_segmenters:without_fault` names it."""
    return FaultySegmenter(Fault("none", None))


def check_exit_codes() -> list[str]:
    """Returns where ``gamt predict`` ends with another exit status than its help says."""
    first = draw_folder()[1].case
    wrong = []
    for maker, broken, expected in (
        (without_fault, False, 0),
        (always_failing, False, 3),
        (without_fault, True, 4),
        (always_failing, True, 4),
    ):
        with TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "in").mkdir()
            write_case(folder / "in" / "a.npz", first.image, first.spacing_mm, first.prompts)
            if broken:
                (folder / "in" / "b.npz").write_bytes(b"no zip")
            words = ("predict", folder / "in", folder / "out")
            segmenter = f"{__name__}:{maker.__name__}"
            done = subprocess.run(
                (sys.executable, "-m", "gamt", *words, "--segmenter", segmenter),
                cwd=Path(__file__).parent.parent,
                capture_output=True,
                check=False,
            )
        if done.returncode != expected:
            files = "one file broken" if broken else "all files whole"
            wrong.append(f"{maker.__name__}, {files}: {done.returncode}, expected {expected}")
    return wrong


def print_faults(runs: Sequence[FaultRun], console: Console) -> None:
    """Prints what each fault came to."""
    names = [one.case.name for one in draw_folder() if one.is_victim]
    grid = new_table("Faults of a segmenter", "", "Status", *(f"Dice, {name}" for name in names))
    for run in runs:
        fault = FAULTS[run.number]
        what = next((one for one in run.statuses if one != COMPLETE), "".join(run.statuses[:1]))
        if fault.ends is not None:
            what = f"(the run ends: {fault.ends.__name__})"
        scores = [listed(one) for one in run.dice] or [""] * len(names)
        grid.add_row(f"{run.number} {fault.name}", f"{what[:120]}", *scores)
    console.print(grid, markup=False)


def fault_bars(runs: Sequence[FaultRun], exit_codes: Sequence[str]) -> list[Bar]:
    """Holds the runs to the bars."""
    wrong = [run for run in runs if run.problems]
    others = sum("_healthy" in problem for run in runs for problem in run.problems)
    return [
        Bar(
            "Faults whose victims don't say, or are worse than their prompts",
            f"{len(wrong)} of {len(runs)}",
            "0",
            not wrong,
        ),
        Bar("Healthy cases beside them that changed", str(others), "0", others == 0),
        Bar(
            "Wrong exit statuses of gamt predict", "; ".join(exit_codes) or "0", "0", not exit_codes
        ),
    ]
