"""Where planes disagree, put together."""

import numpy as np

from gamt.annotation.views import largest, tight


def test_a_disagreement_is_kept_without_what_is_0_around_it() -> None:
    amount = np.zeros((4, 5, 6), np.uint8)
    amount[1, 2:4, 3] = 7, 9
    found = tight((10, 20, 30), amount)
    assert found.bounds == [[11, 12], [22, 24], [33, 34]]
    assert found.amount.tolist() == [[[7], [9]]]


def test_of_two_disagreements_the_larger_one_counts() -> None:
    one = tight((0, 0, 0), np.array([[[5, 3]]], np.uint8))
    other = tight((0, 0, 1), np.array([[[4, 6]]], np.uint8))
    found = largest(one, other)
    assert found.bounds == [[0, 1], [0, 1], [0, 3]]
    assert found.amount.tolist() == [[[5, 4, 6]]]


def test_where_planes_agree_nothing_is_added() -> None:
    nothing = tight((3, 3, 3), np.zeros((2, 2, 2), np.uint8))
    something = tight((0, 0, 1), np.array([[[4]]], np.uint8))
    for pair in ((nothing, something), (something, nothing)):
        assert largest(*pair) is something
    assert largest(nothing, nothing).amount.size == 0
