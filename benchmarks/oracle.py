"""A segmenter that sees the truth, through noise of a stated size: what lifting makes of masks.

It is asked about images that are the truth itself, so that all it gets wrong is the noise.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace

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
        quality = self.slice_dice / (2 - self.slice_dice)
        return [SliceMask(answer, quality) for answer in embeddings]

    def _answer(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        whole = pixels > INSIDE / 2
        answer = np.where(whole, SURE, -SURE)
        if not whole.any() or whole.all():
            return answer  # there is no border to move
        # No border moves farther than the target is large.
        box = ndimage.find_objects(whole.astype(np.uint8))[0]
        rows, columns = (
            slice(max(0, 2 * part.start - part.stop), 2 * part.stop - part.start) for part in box
        )
        truth = whole[rows, columns]
        distance = ndimage.distance_transform_edt(truth) - ndimage.distance_transform_edt(~truth)
        rng = np.random.default_rng(
            [self._seed, zlib.crc32(np.ascontiguousarray(pixels).tobytes())]
        )
        # As smooth as the target is large, so that targets of all sizes are deformed alike.
        sigma = max(1.0, float(distance.max()) / 2)
        field = ndimage.gaussian_filter(rng.standard_normal(truth.shape), sigma, mode="wrap")
        field /= field.std()

        def excess(amplitude: float) -> float:
            return dice(distance + amplitude * field > 0, truth) - self.slice_dice

        amplitude = 0.0
        most = 4.0 * max(truth.shape)
        if self.slice_dice < 1 and excess(most) < 0:
            amplitude = float(optimize.bisect(excess, 0.0, most, xtol=1e-3))
        # A pixel from the border is one unit of log-odds.
        answer[rows, columns] = np.clip(distance + amplitude * field, -SURE, SURE)
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
