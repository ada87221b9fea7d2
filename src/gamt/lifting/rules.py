"""Fusion rules: from what each plane says of a voxel to what the planes say together.

A rule is a function of the planes' opinions, two or more, in the order of `Plane`. Another one is
written here, and gets its name in `RULES` and `gamt.settings.Fusion`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from gamt.settings import Fusion

STAPLE_START, STAPLE_ROUNDS, STAPLE_CHANGE = 0.99, 100, 1e-6
"""Sensitivity and specificity that EM begins with, as usual for STAPLE; rounds at most, and the
change of both at which it ends (docs/constants.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """What one plane, or several together, say of each voxel of a region.

    Attributes:
        inside: (z, y, x) float32, the probability of being inside, 0..1, times `weight`.
        weight: (z, y, x) float32, how much it counts; 0 where nothing looked.
    """

    inside: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]

    @property
    def probability(self) -> npt.NDArray[np.float32]:
        """(z, y, x) float32, 0..1; 0 where nothing looked."""
        nothing = np.zeros_like(self.inside)
        return np.divide(self.inside, self.weight, out=nothing, where=self.weight > 0)


Rule = Callable[[Sequence[Opinion]], Opinion]


def mean(opinions: Sequence[Opinion]) -> Opinion:
    """Averages the planes' probabilities by their weights."""
    first, second, *others = opinions
    inside, weight = first.inside + second.inside, first.weight + second.weight
    for other in others:
        inside += other.inside
        weight += other.weight
    return Opinion(inside, weight)


def median(opinions: Sequence[Opinion]) -> Opinion:
    """Takes the median of the probabilities of the planes that looked; of two, the middle."""
    weight = mean(opinions).weight
    seen = weight > 0
    probabilities = np.stack(
        [np.where(one.weight > 0, one.probability, np.nan)[seen] for one in opinions]
    )
    inside = np.zeros_like(weight)
    inside[seen] = np.nanmedian(probabilities, axis=0) * weight[seen]
    return Opinion(inside, weight)


def staple(opinions: Sequence[Opinion]) -> Opinion:
    """Estimates the truth and each plane's sensitivity and specificity from one another.

    This is STAPLE (Warfield, Zou and Wells, 2004) on yes and no, by voxel, without a spatial model:
    expectation maximisation over the voxels that at least one plane looked at. A plane that did not
    look at a voxel says nothing of it.
    """
    # All that counts of a voxel is which planes say 1, no, or 2, yes, or 0, nothing. Voxels of
    # which they say the same are one case, known by these digits of a number to the base of 3.
    number = np.zeros(opinions[0].weight.shape, np.intp)
    for one in opinions:
        digit = np.where(one.weight > 0, 1 + (one.inside > 0.5 * one.weight), 0)
        number = 3 * number + digit
    said = np.indices((3,) * len(opinions)).reshape(len(opinions), -1)
    voxels = np.bincount(number.ravel(), minlength=said.shape[1])
    yes, no, looked = said == 2, said == 1, said > 0
    frequency = (voxels * yes).sum() / max(1, (voxels * looked).sum())
    sensitivity = specificity = np.full((len(opinions), 1), STAPLE_START)
    truth = np.zeros(said.shape[1])
    for _ in range(STAPLE_ROUNDS):
        if_inside = np.where(yes, sensitivity, np.where(no, 1 - sensitivity, 1)).prod(axis=0)
        if_outside = np.where(no, specificity, np.where(yes, 1 - specificity, 1)).prod(axis=0)
        inside, outside = frequency * if_inside, (1 - frequency) * if_outside
        truth = inside / (inside + outside).clip(np.finfo(float).tiny)
        before = sensitivity, specificity
        sensitivity = _share(yes, looked, voxels * truth)
        specificity = _share(no, looked, voxels * (1 - truth))
        if np.allclose(before, (sensitivity, specificity), rtol=0, atol=STAPLE_CHANGE):
            break
    weight = mean(opinions).weight
    return Opinion(truth.astype(np.float32)[number] * weight, weight)


def _share(
    part: npt.NDArray[np.bool_], whole: npt.NDArray[np.bool_], voxels: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Returns, for each of N planes, the share of `whole`'s voxels that are in `part`, too.

    Args:
        part: (N, cases) bool, the cases to count; each of them is in `whole`.
        whole: (N, cases) bool, the cases to compare with.
        voxels: (cases,) how many voxels a case stands for.

    Returns:
        (N, 1), 0..1; `STAPLE_START` for a plane of which `whole` has no voxels.
    """
    total = (voxels * whole).sum(axis=1, keepdims=True)
    counted = (voxels * part).sum(axis=1, keepdims=True)
    return np.where(total > 0, counted / total.clip(np.finfo(float).tiny), STAPLE_START)


RULES: Mapping[Fusion, Rule] = MappingProxyType({"mean": mean, "median": median, "staple": staple})
"""The fusion rules by name."""
