"""Segmenters that see the truth, through noise of a stated size: what lifting makes of masks.

They are asked about images that are the truth itself, so that all they get wrong is the noise.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from benchmarks.phantoms import Labels, dice
from gamt.io.case import Case
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import SliceMask, Traits

INSIDE = 255
"""The grey value of the target, also once the image is normalised."""

SURE = np.float32(5)
"""Log-odds of what is far from the border."""

LEAST_DICE = 0.5
"""Of an answer, however far a walk has drifted."""


class NoisyOracle:
    """Answers with the truth of a slice, its border moved to and fro by a smooth random field.

    The field is moved so far that the answer's Dice with the truth is the stated one, in every
    slice that holds any of the target. Slices have fields of their own, by their content.
    """

    name = "noisy oracle"
    traits = Traits(guided=True)

    def __init__(self, slice_dice: float, seed: int = 0) -> None:
        """Takes the Dice of its answers, 0..1; 1 for no noise."""
        self.slice_dice = slice_dice
        self._seed = seed

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[npt.NDArray[np.float32]]:
        """Returns the noisy answer to each slice, as log-odds."""
        return [self._answer(one) for one in slices]

    def decode(
        self,
        embeddings: Sequence[npt.NDArray[np.float32]],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Answers, whatever the prompt is."""
        return [SliceMask(answer, quality_of(self.slice_dice)) for answer in embeddings]

    def _answer(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        whole = pixels > INSIDE / 2
        field = np.zeros(whole.shape)
        if whole.any():
            near = surroundings(whole)
            field[near] = smooth_field(whole[near], generator(self._seed, pixels))
        return move_border(whole, field, self.slice_dice)


@dataclass(frozen=True, slots=True, eq=False)
class Trail:
    """What a walking oracle remembers of a walk.

    Attributes:
        field: (rows, columns), by which the last border was moved to and fro.
        answer: (rows, columns) log-odds, of the last slice that held any of the target.
        past: slices since then.
        steps: since the last prompt.
    """

    field: npt.NDArray[np.float64]
    answer: npt.NDArray[np.float32]
    past: int = 0
    steps: int = 0


class WalkingOracle:
    """A tracker that answers with the truth of a slice, and with errors that go on from the last.

    As those of `NoisyOracle`, its answers have a stated Dice in every slice that holds any of the
    target, and a prompt alone is answered with a field of that slice's own. In a walk by memory the
    field is a running mean of those of the slices behind, so that borders are wrong in the same
    places for several slices, and the answers get worse away from the prompt. Past the end of the
    target it goes on with the last answer, as SAM 2 is known to (arXiv 2505.01854). It is
    overconfident: the quality that it tells is that of `tracked_dice`, whatever the answer has
    become by drift or past the end, so that no walk ends by its quality.
    """

    name = "walking oracle"
    traits = Traits(guided=True)

    def __init__(
        self,
        slice_dice: float,
        tracked_dice: float | None = None,
        *,
        persistence: float = 0.9,
        drift: float = 0.0,
        overrun: float = math.inf,
        seed: int = 0,
    ) -> None:
        """Takes the kind of its errors.

        Args:
            slice_dice: of its answers to prompts, 0..1; 1 for no noise.
            tracked_dice: of its answers in a walk by memory, where that begins; None for the same.
            persistence: the correlation of the fields of neighbouring slices in a walk, 0..1. With
                0.9, errors reach about ten slices far: as far as they do within a slice of a target
                that is 20 pixels deep.
            drift: Dice that every step from a prompt costs.
            overrun: slices after the last one of the target in which it doesn't notice the end.
            seed: of the fields.
        """
        self.slice_dice = slice_dice
        self.tracked_dice = slice_dice if tracked_dice is None else tracked_dice
        self._persistence = persistence
        self._drift = drift
        self._overrun = overrun
        self._seed = seed

    def encode(
        self, slices: npt.NDArray[np.uint8]
    ) -> Sequence[tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]]:
        """Returns the truth of each slice, and the field of its own."""
        whole = [one > INSIDE / 2 for one in slices]
        return [
            (inside, smooth_field(inside, generator(self._seed, one)))
            for one, inside in zip(slices, whole, strict=True)
        ]

    def decode(
        self,
        embeddings: Sequence[tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Answers with the slices' own errors, whatever the prompt is."""
        return [
            SliceMask(move_border(inside, own, self.slice_dice), quality_of(self.slice_dice))
            for inside, own in embeddings
        ]

    def track(
        self,
        embeddings: Sequence[tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]],
        prompts: Sequence[SlicePrompt | None],
        memories: Sequence[Trail | None],
        positions: Sequence[int],
    ) -> Sequence[SliceMask]:
        """Answers; a prompt, whatever it is, ends the errors that the memory has gathered."""
        answers = []
        for (inside, own), prompt, memory in zip(embeddings, prompts, memories, strict=True):
            known = None if prompt is not None else memory
            trail = self._go_on(inside, own, known)
            gone = trail.past > self._overrun
            logits = np.full_like(trail.answer, -SURE) if gone else trail.answer
            answers.append(SliceMask(logits, quality_of(self.tracked_dice), trail))
        return answers

    def _go_on(
        self, inside: npt.NDArray[np.bool_], own: npt.NDArray[np.float64], trail: Trail | None
    ) -> Trail:
        """Returns the trail with one more slice, or one that begins there."""
        if trail is None:
            return Trail(own, move_border(inside, own, self.tracked_dice))
        kept, steps = self._persistence, trail.steps + 1
        field = kept * trail.field + math.sqrt(1 - kept**2) * own
        if not inside.any():
            return Trail(field, trail.answer, trail.past + 1, steps)
        expected = max(LEAST_DICE, self.tracked_dice - self._drift * steps)
        return Trail(field, move_border(inside, field, expected), 0, steps)


def quality_of(slice_dice: float) -> float:
    """Returns the IoU of masks with a Dice, 0..1."""
    return slice_dice / (2 - slice_dice)


def generator(seed: int, pixels: npt.NDArray[np.uint8]) -> np.random.Generator:
    """Returns random numbers of a slice's own, by its content."""
    return np.random.default_rng([seed, zlib.crc32(np.ascontiguousarray(pixels).tobytes())])


def surroundings(inside: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Returns the part of a slice in which a border may lie that moves no farther than it is wide.

    Args:
        inside: (rows, columns), the target; not empty.
    """
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    return tuple(
        slice(max(0, 2 * part.start - part.stop), 2 * part.stop - part.start) for part in box
    )


def depth_of(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Returns each pixel's distance to the border, positive inside."""
    inner, outer = (ndimage.distance_transform_edt(one) for one in (inside, ~inside))
    return np.asarray(inner - outer)


def smooth_field(
    inside: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Returns a random field of deviation 1 over a slice, as smooth as the target is large.

    So targets of all sizes are deformed alike.

    Args:
        inside: (rows, columns), the target.
        rng: draws it.
    """
    sigma = max(1.0, float(depth_of(inside).max()) / 2)
    field = ndimage.gaussian_filter(rng.standard_normal(inside.shape), sigma, mode="wrap")
    return np.asarray(field / field.std())


def move_border(
    inside: npt.NDArray[np.bool_], field: npt.NDArray[np.float64], slice_dice: float
) -> npt.NDArray[np.float32]:
    """Moves a target's border to and fro, until what is inside of it has a stated Dice.

    Args:
        inside: (rows, columns), the target.
        field: (rows, columns), how far parts of the border move.
        slice_dice: with the target, 0..1.

    Returns:
        (rows, columns) log-odds; a pixel from the border is one unit.
    """
    answer = np.where(inside, SURE, -SURE)
    if not inside.any() or inside.all():
        return answer  # there is no border to move
    near = surroundings(inside)
    truth, field = inside[near], field[near]
    distance = depth_of(truth)

    def excess(amplitude: float) -> float:
        return dice(distance + amplitude * field > 0, truth) - slice_dice

    amplitude = 0.0
    most = 4.0 * max(truth.shape)
    if slice_dice < 1 and excess(most) < 0:
        amplitude = float(optimize.bisect(excess, 0.0, most, xtol=1e-3))
    answer[near] = np.clip(distance + amplitude * field, -SURE, SURE)
    return answer


def oracle_cases(case: Case, truth: Labels) -> list[tuple[Case, Labels]]:
    """Returns a case for each class of another, whose image is the truth, and the truth (0, 1)."""
    cases = []
    for one in case.prompts:
        inside = truth == one.label
        image = np.where(inside, np.uint8(INSIDE), np.uint8(0))
        cases.append(
            (replace(case, image=image, prompts=(replace(one, label=1),)), inside.astype(np.uint8))
        )
    return cases
