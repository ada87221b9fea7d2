"""Fits what a click says: python -m benchmarks.click_law --cases DIR [--same TEXT ...].

Runs the challenge's loop on labelled scans with boxes: the box, then five clicks a class, with the
embedded segmenter. At every correction it draws some of the candidates, the voxels that
`gamt.lifting.evidence` weighs, and notes whether they truly are wrong. On these it fits a logistic
regression of the evidence's features. A click counts by the number of its candidates in parts of
the target's volume, one volume at most, divided by the root of the number of its case's clicks.

Prints Markdown: every weight of `gamt.lifting.evidence`, in use and fitted to all cases; and the
gain of a click, (voxels put right - voxels put wrong) / target's volume, as the mean over cases of
the mean over their clicks: at best, by the weights in use, and by weights fitted without the cases
of the same group. Voxels count whether or not they are connected with the click. Each case is a
group of its own, but for those that --same joins: the cases of one patient should be.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from scipy.optimize import minimize
from scipy.special import expit

from benchmarks.bars import UNLIMITED, has_boxes
from benchmarks.phantoms import Labels
from evaluation.clicks import simulate_clicks
from evaluation.records import CLICKS
from gamt import segmenters
from gamt.io.case import Case, read_case, read_volume
from gamt.lifting.contradictions import at_click
from gamt.lifting.evidence import WEIGHTS, contrast_feature, image_features, place_features
from gamt.lifting.refinement import surroundings
from gamt.lifting.target import Correction, Observer, Target
from gamt.predict import predict_case
from gamt.prompts import Click
from gamt.segmenters.base import Segmenter

VOXELS = 1500
"""Drawn at a correction, at most."""

RIDGE = 1e-3
"""Keeps the weights of features that never vary at zero."""

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Voxels around one click.

    Attributes:
        case: its name.
        features: (N, F), in the order of `WEIGHTS`.
        wrong: (N,) whether the voxels truly are on the wrong side of the mask.
        candidates: number of voxels that they were drawn from.
        volume: of the true target, in voxels.
    """

    case: str
    features: Matrix
    wrong: Mask
    candidates: int
    volume: int

    def gain(self, changed: Mask) -> float:
        """Returns what it is worth to change some of the voxels, in parts of the target's volume.

        Args:
            changed: (N,).
        """
        right = np.where(self.wrong, 1, -1)[changed].sum() / len(self.wrong)
        return float(right * self.candidates / self.volume)


class Recorder(Observer):
    """Takes a sample at every correction of a case.

    Attributes:
        samples: what was taken so far.
    """

    def __init__(self, name: str, truth: Labels) -> None:
        self._name = name
        self._truth = truth
        self.samples: list[Sample] = []

    def end_correction(self, target: Target, correction: Correction, mask: Mask) -> None:
        """Looks again at what has just been corrected, as it was before."""
        click, label = correction.click, target.prompts.label
        before = mask.copy()
        before[correction.near][correction.changed] = not click.positive
        if before.all() or not before.any():
            return  # no surface, so that no feature has a value
        near, around = surroundings(target, before, at_click(target, before, click))
        voxels = np.flatnonzero(around.candidate)
        rng = np.random.default_rng(0)
        drawn = rng.choice(voxels, min(VOXELS, len(voxels)), replace=False)
        seen = dict(place_features(around, drawn))
        seen.update(image_features(around, drawn))
        seen.update([contrast_feature(around, drawn)])
        region = tuple(slice(first, last) for first, last in zip(*target.region, strict=True))
        truth = self._truth[region][near].take(drawn) == label
        unknown = np.zeros(len(drawn))
        self.samples.append(
            Sample(
                case=self._name,
                features=np.stack([seen.get(name, unknown) for name in WEIGHTS], axis=1),
                wrong=truth == click.positive,
                candidates=len(voxels),
                volume=int((self._truth == label).sum()),
            )
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.click_law",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cases", type=Path, required=True, help="folder of npz files with gts and boxes"
    )
    parser.add_argument(
        "--same",
        nargs="+",
        action="append",
        default=[],
        metavar="TEXT",
        help="cases whose names contain one of these texts are one group; may be repeated",
    )
    options = parser.parse_args(arguments)
    paths = [path for path in sorted(options.cases.glob("*.npz")) if has_boxes(path)]
    groups = {path.stem: group_of(path.stem, options.same) for path in paths}
    if len(set(groups.values())) < 2:
        parser.error(f"--cases {options.cases}: found no two groups of cases with boxes there")
    samples = []
    for path in track(paths, "Cases", console=Console(stderr=True), transient=True):
        truth: Labels = read_volume(path, "gts")
        samples += record(read_case(path), truth, segmenters.load())
    used = np.array(list(WEIGHTS.values()))
    print("| weight | in use | fitted | difference |\n| --- | --- | --- | --- |")
    for name, now, fitted in zip(WEIGHTS, used, fit_samples(samples), strict=True):
        print(f"| `{name}` | {now:g} | {fitted:.2f} | {now - fitted:+.2f} |")
    gains = {
        "at best": mean_gain(samples, [one.wrong for one in samples]),
        "weights in use": mean_gain(samples, [one.features @ used > 0 for one in samples]),
        "weights fitted without the group": mean_gain(samples, left_out(samples, groups)),
    }
    print(f"\n| {len(samples)} clicks, {len(paths)} cases | mean gain |\n| --- | --- |")
    for name, gain in gains.items():
        print(f"| {name} | {gain:.4f} |")


def group_of(name: str, same: Sequence[Sequence[str]]) -> str:
    """Returns what all cases of a case's group have in common.

    Args:
        name: of the case.
        same: for every group of several cases, texts one of which their names contain.
    """
    for texts in same:
        if any(text in name for text in texts):
            return " ".join(texts)
    return name


def record(case: Case, truth: Labels, segmenter: Segmenter) -> list[Sample]:
    """Runs the challenge's loop on a case, and samples all of its corrections.

    Args:
        case: with boxes.
        truth: (z, y, x) labels.
        segmenter: the 2-D model.
    """
    recorder = Recorder(case.name, truth)
    prediction = predict_case(case, segmenter, UNLIMITED).labels
    for _ in range(CLICKS):
        clicks = {
            label: Click(*voxel, positive=kind == "fg")
            for label, kind, voxel in simulate_clicks(truth, prediction)
            if voxel is not None
        }
        prompts = tuple(
            replace(one, clicks=(*one.clicks, clicks[one.label])) if one.label in clicks else one
            for one in case.prompts
        )
        case = replace(case, prompts=prompts, previous=prediction)
        prediction = predict_case(case, segmenter, UNLIMITED, observer=recorder).labels
    return recorder.samples


def fit_samples(samples: Sequence[Sample]) -> Matrix:
    """Returns the (F,) weights that best predict what is wrong, in the order of `WEIGHTS`."""
    clicks = Counter(one.case for one in samples)
    weights = [
        np.full(
            len(one.wrong),
            min(one.candidates / one.volume, 1) / len(one.wrong) / np.sqrt(clicks[one.case]),
        )
        for one in samples
    ]
    return fit(
        np.concatenate([one.features for one in samples]),
        np.concatenate([one.wrong for one in samples]),
        np.concatenate(weights),
    )


def fit(seen: Matrix, wrong: Mask, weights: Matrix) -> Matrix:
    """Fits a logistic regression, without a constant but those among the features.

    Args:
        seen: (N, F) features.
        wrong: (N,) what they are to predict.
        weights: (N,) of the voxels, positive; only their ratios count.

    Returns:
        (F,) weights of the features.
    """
    weights = weights / weights.sum()
    signed = np.where(wrong[:, None], seen, -seen)

    def loss(trial: Matrix) -> tuple[float, Matrix]:
        margin = signed @ trial
        value = weights @ np.logaddexp(0, -margin) + RIDGE / 2 * trial @ trial
        return float(value), RIDGE * trial - (weights * expit(-margin)) @ signed

    found: Matrix = minimize(loss, np.zeros(seen.shape[1]), jac=True, method="L-BFGS-B").x
    return found


def left_out(samples: Sequence[Sample], groups: dict[str, str]) -> list[Mask]:
    """Returns what would be changed by weights that were fitted without a sample's group.

    Args:
        samples: of at least two groups.
        groups: of every case.

    Returns:
        (N,) for every sample.
    """
    fitted = {
        group: fit_samples([one for one in samples if groups[one.case] != group])
        for group in set(groups.values())
    }
    return [one.features @ fitted[groups[one.case]] > 0 for one in samples]


def mean_gain(samples: Sequence[Sample], changed: Sequence[Mask]) -> float:
    """Returns the gain of a click, the mean over cases of the mean over their clicks."""
    gains: dict[str, list[float]] = {}
    for one, voxels in zip(samples, changed, strict=True):
        gains.setdefault(one.case, []).append(one.gain(voxels))
    return float(np.mean([np.mean(one) for one in gains.values()]))


if __name__ == "__main__":
    main()
