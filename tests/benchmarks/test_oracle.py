"""The noisy oracle, and what lifting makes of it."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.bars import UNLIMITED, phantom_case
from benchmarks.oracle import INSIDE, NoisyOracle, oracle_cases
from benchmarks.phantoms import Phantom, dice, flat_phantoms
from gamt.axes import Plane
from gamt.predict import predict_case
from gamt.prompts import SlicePrompt

AXIAL_ALONE = replace(
    UNLIMITED, planes=(Plane.AXIAL,), shape_weight=0.0, guide_weight=0.0, vote_blur=0.0
)
SLICE_DICE = 0.85


@pytest.mark.parametrize("expected", [0.7, 0.85, 0.95])
def test_answers_have_the_stated_dice(expected: float) -> None:
    rows, columns = np.ogrid[:40, :60]
    truth = (rows - 18) ** 2 / 12**2 + (columns - 30) ** 2 / 20**2 <= 1
    slices = np.where([truth, truth.T.repeat(2, axis=0)[:40].repeat(2, axis=1)[:, :60]], INSIDE, 0)
    oracle = NoisyOracle(expected)
    answers = oracle.decode(oracle.encode(slices.astype(np.uint8)), [SlicePrompt()] * 2)
    for answer, pixels in zip(answers, slices, strict=True):
        # The border moves by whole pixels.
        assert dice(answer.mask, pixels > 0) == pytest.approx(expected, abs=0.02)


def test_an_empty_slice_gets_an_empty_answer() -> None:
    oracle = NoisyOracle(SLICE_DICE)
    (answer,) = oracle.decode(oracle.encode(np.zeros((1, 7, 9), np.uint8)), [SlicePrompt()])
    assert not answer.mask.any()


@pytest.mark.parametrize("phantom", flat_phantoms(), ids=lambda phantom: phantom.name)
def test_three_planes_are_better_than_one(phantom: Phantom) -> None:
    for case, truth in oracle_cases(phantom_case(phantom), phantom.truth):
        three, one = (
            dice(predict_case(case, NoisyOracle(SLICE_DICE), settings).labels == 1, truth == 1)
            for settings in (UNLIMITED, AXIAL_ALONE)
        )
        # One plane is as wrong as its slices are; the errors of three are independent.
        assert one == pytest.approx(SLICE_DICE, abs=0.02)
        assert three >= 0.93
