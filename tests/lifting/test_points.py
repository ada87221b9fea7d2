"""A few points stand for many: the middle first, then those that are far from all before."""

import numpy as np
import pytest

from gamt.lifting.points import spread_out


def test_the_middle_comes_first_then_the_ends_then_what_is_between() -> None:
    line = np.stack([np.arange(9), np.zeros(9, int), np.zeros(9, int)], axis=1)
    assert spread_out(line, (1, 1, 1), 5)[:, 0].tolist() == [4, 0, 8, 2, 6]


def test_the_length_of_steps_counts() -> None:
    # From the middle at (1, 1), one long step down is farther than one short step aside.
    places = np.array([[0, 1], [1, 0], [1, 1], [1, 2], [2, 1]])
    assert spread_out(places, (5, 1), 3).tolist() == [[1, 1], [0, 1], [2, 1]]


@pytest.mark.parametrize("most", [1, 3, 7])
def test_no_more_are_chosen_than_there_are(most: int) -> None:
    places = np.array([[2, 3, 4], [5, 6, 7], [1, 1, 1]])
    chosen = spread_out(places, (1, 1, 1), most)
    assert len(chosen) == min(3, most)
    assert {tuple(one) for one in chosen} <= {tuple(one) for one in places}
