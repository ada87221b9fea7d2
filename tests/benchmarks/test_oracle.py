"""The noisy oracles, and what lifting makes of them."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.bars import UNLIMITED, phantom_case
from benchmarks.oracle import INSIDE, NoisyOracle, Trail, WalkingOracle, oracle_cases
from benchmarks.phantoms import Phantom, dice, flat_phantoms
from gamt.axes import Plane
from gamt.predict import predict_case
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import SliceMask

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


# --- the oracle that walks ----------------------------------------------------------------------

ROWS, COLUMNS = np.ogrid[:48, :64]
ROUND = np.asarray((ROWS - 22) ** 2 / 14**2 + (COLUMNS - 30) ** 2 / 20**2 <= 1)
BOX = SlicePrompt(box=(10, 8, 51, 37))


def scan(*sections: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Slices with a target's sections; a corner outside of them tells equal ones apart."""
    slices = np.where(sections, np.uint8(INSIDE), np.uint8(0))
    slices[:, 0, 0] = np.arange(len(slices))
    return slices


def walk(oracle: WalkingOracle, slices: npt.NDArray[np.uint8]) -> list[SliceMask]:
    """Walks from a prompt on the first slice to the last one."""
    answers: list[SliceMask] = []
    for position, embedding in enumerate(oracle.encode(slices)):
        memory = answers[-1].state if answers else None
        assert memory is None or isinstance(memory, Trail)
        answers += oracle.track([embedding], [None if answers else BOX], [memory], [position])
    return answers


def decoded(oracle: WalkingOracle, slices: npt.NDArray[np.uint8]) -> list[SliceMask]:
    return list(oracle.decode(oracle.encode(slices), [BOX] * len(slices)))


def test_answers_by_memory_have_the_stated_dice_and_lose_it_with_every_step() -> None:
    slices = scan(*5 * [ROUND])
    for answer in walk(WalkingOracle(0.7, 0.85), slices):
        assert dice(answer.mask, ROUND) == pytest.approx(0.85, abs=0.01)
    for step, answer in enumerate(walk(WalkingOracle(0.7, 0.95, drift=0.03), slices)):
        assert dice(answer.mask, ROUND) == pytest.approx(0.95 - 0.03 * step, abs=0.01)
    for answer in decoded(WalkingOracle(0.7, 0.85), slices):
        assert dice(answer.mask, ROUND) == pytest.approx(0.7, abs=0.01)


def test_errors_that_persist_for_good_are_the_same_on_all_slices() -> None:
    first, *others = walk(WalkingOracle(SLICE_DICE, persistence=1), scan(*4 * [ROUND]))
    for answer in others:
        np.testing.assert_array_equal(answer.logits, first.logits)


def test_errors_that_do_not_persist_are_those_of_every_slice_alone() -> None:
    oracle, slices = WalkingOracle(SLICE_DICE, persistence=0), scan(*4 * [ROUND])
    answers = walk(oracle, slices)
    for answer, alone in zip(answers, decoded(oracle, slices), strict=True):
        np.testing.assert_array_equal(answer.logits, alone.logits)
    assert not np.array_equal(answers[0].mask, answers[1].mask)


def test_neighbours_err_in_the_same_places_more_than_slices_far_apart() -> None:
    # The fields of neighbours correlate by 0.9, those of slices that are 15 apart by 0.2.
    answers = walk(WalkingOracle(SLICE_DICE), scan(*30 * [ROUND]))
    wrong = [answer.mask ^ ROUND for answer in answers]
    near, far = (
        np.mean([dice(one, other) for one, other in zip(wrong, wrong[away:], strict=False)])
        for away in (1, 15)
    )
    assert near > far + 0.1


@pytest.mark.parametrize(("overrun", "holding"), [(0, 2), (2, 4), (np.inf, 5)])
def test_past_the_end_of_the_target_the_last_answer_goes_on(overrun: float, holding: int) -> None:
    nothing = np.zeros_like(ROUND)
    sections = [ROUND, ROUND, nothing, nothing, nothing]
    answers = walk(WalkingOracle(SLICE_DICE, overrun=overrun), scan(*sections))
    assert [answer.mask.any() for answer in answers] == [n < holding for n in range(5)]
    for answer in answers[2:holding]:
        np.testing.assert_array_equal(answer.mask, answers[1].mask)


def test_a_prompt_ends_the_errors_that_a_walk_has_gathered() -> None:
    oracle, slices = WalkingOracle(SLICE_DICE), scan(*4 * [ROUND])
    memory = walk(oracle, slices[:3])[-1].state
    assert isinstance(memory, Trail)
    (answer,) = oracle.track(oracle.encode(slices[3:]), [BOX], [memory], [3])
    np.testing.assert_array_equal(answer.logits, decoded(oracle, slices)[3].logits)


@pytest.mark.slow
@pytest.mark.parametrize("phantom", flat_phantoms(), ids=lambda phantom: phantom.name)
def test_walks_by_memory_in_three_planes_are_better_than_in_one(phantom: Phantom) -> None:
    one, memory, both = (
        np.array(
            [
                dice(predict_case(case, WalkingOracle(SLICE_DICE), settings).labels == 1, truth > 0)
                for case, truth in oracle_cases(phantom_case(phantom), phantom.truth)[:2]
            ]
        )
        for settings in (
            replace(AXIAL_ALONE, propagation="memory"),
            replace(UNLIMITED, propagation="memory"),
            replace(UNLIMITED, propagation="both"),
        )
    )
    np.testing.assert_allclose(one, SLICE_DICE, atol=0.02)
    assert (memory > one).all()
    # Errors that go on are averaged by nothing but other looks at the target.
    assert (both > memory).all()
    assert both.mean() >= 0.93
