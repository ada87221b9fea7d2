"""Fusion rules, on voxels whose fused probability can be told by hand."""

from typing import get_args

import numpy as np
import pytest

from gamt.lifting.rules import RULES, Opinion, Rule, mean, median, staple
from gamt.settings import Fusion


def opinion(*voxels: tuple[float, float]) -> Opinion:
    """Returns the opinion of a plane on a row of voxels, each (probability, weight)."""
    row = np.array(voxels, np.float32).reshape(1, 1, -1, 2)
    return Opinion(row[..., 0] * row[..., 1], row[..., 1])


def fuse(rule: Rule, *opinions: Opinion) -> list[float]:
    fused = rule(opinions)
    assert fused.inside.dtype == fused.weight.dtype == np.float32
    return [float(one) for one in fused.probability.ravel()]


def test_every_name_of_the_setting_is_a_rule() -> None:
    assert set(RULES) == set(get_args(Fusion))


def test_the_mean_weighs_by_quality() -> None:
    # (0.9 x 1 + 0.3 x 0.5) / 1.5
    assert fuse(mean, opinion((0.9, 1)), opinion((0.3, 0.5))) == pytest.approx([0.7])


def test_the_median_is_the_middle_one_whatever_the_others_weigh() -> None:
    fused = fuse(median, opinion((0.1, 1)), opinion((0.6, 0.2)), opinion((0.8, 0.9)))
    assert fused == pytest.approx([0.6])


def test_the_median_of_two_lies_half_way() -> None:
    assert fuse(median, opinion((0.1, 1)), opinion((0.6, 0.2))) == pytest.approx([0.35])


@pytest.mark.parametrize("rule", RULES.values())
def test_a_plane_that_did_not_look_has_no_say(rule: Rule) -> None:
    # The second plane sees only the last two voxels; the third one sees none.
    first = opinion((1, 1), (0, 1), (1, 1), (0, 1))
    second = opinion((0, 0), (0, 0), (1, 1), (0, 1))
    third = opinion(*[(0, 0)] * 4)
    assert fuse(rule, first, second, third) == pytest.approx([1, 0, 1, 0], abs=0.02)


@pytest.mark.parametrize("rule", RULES.values())
def test_where_nothing_looked_nothing_is_inside(rule: Rule) -> None:
    unseen = opinion((0, 0), (1, 1))
    assert rule([unseen, unseen]).weight.ravel().tolist() == [0, 2]
    assert fuse(rule, unseen, unseen)[0] == 0


@pytest.mark.parametrize("rule", RULES.values())
def test_no_vote_at_all_is_survived(rule: Rule) -> None:
    assert fuse(rule, opinion((0, 0)), opinion((0, 0))) == [0]


@pytest.mark.parametrize("rule", RULES.values())
def test_the_weights_of_the_planes_add_up(rule: Rule) -> None:
    fused = rule([opinion((0.9, 1.0)), opinion((0.8, 0.5)), opinion((0.7, 0.25))])
    assert fused.weight.ravel().tolist() == [1.75]


def test_staple_follows_the_planes_that_agree_with_each_other() -> None:
    # Of ten voxels, the first five are inside. Two planes say so; the third one says the opposite
    # of them everywhere, so that its yes comes to count as a no.
    honest = opinion(*[(0.9, 1)] * 5, *[(0.2, 1)] * 5)
    contrary = opinion(*[(0.2, 1)] * 5, *[(0.9, 1)] * 5)
    fused = fuse(staple, honest, honest, contrary)
    assert fused == pytest.approx([1] * 5 + [0] * 5, abs=0.01)


def test_staple_trusts_the_plane_that_errs_less_where_two_disagree() -> None:
    # Forty voxels, half of them inside. The planes 1 and 2 agree on all, but for the last voxel,
    # on which 2 has no say. Plane 3 misses half of the target, so that its no counts for little.
    inside, outside, unseen = (1, 1), (0, 1), (0, 0)
    first = opinion(*[inside] * 20, *[outside] * 20, inside)
    second = opinion(*[inside] * 20, *[outside] * 20, unseen)
    third = opinion(*[inside] * 10, *[outside] * 30, outside)
    assert fuse(staple, first, second, third)[-1] > 0.9
    # By the mean, it would be as likely as not.
    assert fuse(mean, first, second, third)[-1] == 0.5
