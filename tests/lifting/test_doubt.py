"""What a target is taken for where its box contradicts the segmenter, on drawn volumes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from benchmarks.phantoms import dice
from gamt import segmenters
from gamt.axes import Plane
from gamt.lifting.fusion import Votes
from gamt.predict import predict_case
from gamt.prompts import ClassPrompts, box_of_mask
from gamt.segmenters.base import SliceMask
from gamt.settings import Propagation, Settings
from tests.doubles import DEFAULTS, Follower, Mask, answer, lift, make_case

SHAPE = (18, 60, 66)


def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Mask:
    grid = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    z, y, x = (((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True))
    return np.asarray(z + y + x <= 1, np.bool_)


def scan(mask: Mask, inside: float, outside: float) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(1).normal(0, 6, SHAPE)
    drawn = np.where(mask, inside, outside) + noise
    return np.asarray(drawn.clip(0, 255), np.uint8)


def from_box(image: npt.NDArray[np.uint8], truth: Mask) -> Mask:
    case = make_case(image, ClassPrompts(1, box_of_mask(truth)), spacing_mm=(3.0, 1.0, 1.0))
    settings = replace(Settings(), budget=False)
    return np.asarray(predict_case(case, segmenters.load(), settings).labels == 1)


HORNS = ball((9, 20, 25), (7, 4, 4)) | ball((9, 40, 40), (7, 5, 4))
CRESCENT = ball((9, 30, 30), (8, 16, 16)) & ~ball((9, 30, 37), (9, 15, 16))


@pytest.mark.parametrize(("inside", "outside"), [(50, 150), (170, 80)])
@pytest.mark.parametrize("truth", [HORNS, CRESCENT], ids=["horns", "crescent"])
def test_what_fills_little_of_its_box_is_found_by_its_edge(
    truth: Mask, inside: float, outside: float
) -> None:
    assert dice(from_box(scan(truth, inside, outside), truth), truth) > 0.85


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_faint_target_in_speckle_is_taken_for_its_ellipsoid(seed: int) -> None:
    # Coarse speckle, as in ultrasound: its deviation is about as large as the target's contrast.
    truth = ball((9, 30, 33), (7, 14, 15))
    speckle = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, SHAPE), (1, 2, 2))
    image = np.where(truth, 120, 100) + 22 * speckle / speckle.std()
    assert dice(from_box(image.clip(0, 255).astype(np.uint8), truth), truth) > 0.9


# --- two ways of walking ------------------------------------------------------------------------

BALL = ball((9, 30, 33), (7, 14, 15))


class AstrayByMemory(Follower):
    """Answers in the corner of a slice where it is asked to track."""

    def track(self, *arguments: Any) -> Sequence[SliceMask]:
        return [replace(corner(one), state=one.state) for one in super().track(*arguments)]


class AstrayByPrompts(Follower):
    """Answers in the corner of a slice where it is asked by a prompt."""

    def decode(self, *arguments: Any, **options: Any) -> Sequence[SliceMask]:
        return [corner(one) for one in super().decode(*arguments, **options)]


class Astray(AstrayByMemory, AstrayByPrompts):
    """Never answers but in the corner of a slice."""


def corner(seen: SliceMask) -> SliceMask:
    mask = np.zeros_like(seen.mask)
    mask[:3, :3] = True
    return answer(mask)


def by_both(segmenter: Follower) -> Mask:
    case = make_case(scan(BALL, 200, 50), ClassPrompts(1, box_of_mask(BALL)))
    return np.asarray(lift(case, segmenter, replace(DEFAULTS, propagation="both")).labels == 1)


@pytest.mark.parametrize(
    ("kind", "right"), [(AstrayByMemory, "prompts"), (AstrayByPrompts, "memory")]
)
def test_of_two_ways_the_one_whose_answer_is_in_the_box_is_walked_to_the_end(
    kind: type[Follower], right: Propagation
) -> None:
    case = make_case(scan(BALL, 200, 50), ClassPrompts(1, box_of_mask(BALL)))
    alone, segmenter = Follower(), kind()
    lift(case, alone, replace(DEFAULTS, propagation=right))
    assert dice(by_both(segmenter), BALL) == 1.0
    # All planes are walked in the way that is right, and the other one is asked at the box alone.
    if right == "prompts":
        assert len(segmenter.asked) == len(alone.asked) > 1
        assert len(segmenter.tracked) == 1
    else:
        assert len(segmenter.tracked) == len(alone.tracked) > 1
        assert len(segmenter.asked) == 1


def test_what_replaces_both_answers_votes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[tuple[Plane, int]] = []
    add = Votes.add

    def counted(self: Votes, plane: Plane, index: int, *rest: Any) -> None:
        added.append((plane, index))
        add(self, plane, index, *rest)

    monkeypatch.setattr(Votes, "add", counted)
    segmenter = Astray()
    assert dice(by_both(segmenter), BALL) > 0.85
    # Each walk ends at the slice of the box, where what replaces its answer votes.
    assert len(segmenter.asked) == len(segmenter.tracked) == 1
    twice = [one for one in set(added) if added.count(one) > 1]
    assert twice == [(Plane.AXIAL, 9)]  # the middle of the box
    assert len(added) == len(set(added)) + 1
