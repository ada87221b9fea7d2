"""Names, colours and claims of targets."""

import numpy as np
import pytest

from gamt.annotation.targets import COLORS, default_color, paint, read_color, read_name
from gamt.history import PackedMask


def test_a_claim_is_painted_where_it_is_in_the_part() -> None:
    mask = np.zeros((5, 6, 7), np.bool_)
    mask[1:4, 2:5, 3:6] = True
    mask[2, 3, 4] = False
    onto = np.full((3, 3, 3), 9, np.uint8)
    paint(PackedMask.of(mask), 2, onto, [2, 3, 4])  # the part of the scan from (2, 3, 4) on
    expected = np.where(mask[2:5, 3:6, 4:7], 2, 9)
    np.testing.assert_array_equal(onto, expected)


def test_a_claim_beside_the_part_paints_nothing() -> None:
    mask = np.zeros((5, 6, 7), np.bool_)
    mask[0, 0, 0] = True
    onto = np.full((2, 2, 2), 9, np.uint8)
    paint(PackedMask.of(mask), 2, onto, [1, 0, 0])
    assert (onto == 9).all()
    paint(PackedMask.of(mask & False), 2, onto, [0, 0, 0])
    assert (onto == 9).all()


def test_no_two_colours_are_the_same_and_all_targets_have_one() -> None:
    assert len(set(COLORS)) == len(COLORS)
    assert all(read_color(one) == one for one in COLORS)
    assert default_color(len(COLORS) + 1) == default_color(1)
    assert default_color(255) in COLORS


@pytest.mark.parametrize("text", ["", "e69f00", "#e69f0", "#e69f000", "#e69f0g", "red", "#é69f00"])
def test_what_is_no_colour_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected one like #e69f00"):
        read_color(text)


@pytest.mark.parametrize("text", ["", "   ", "3", "1e5", "a:b", "a\nb", "x" * 101])
def test_what_a_file_of_prompts_cannot_keep_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match="found the name"):
        read_name(text)


def test_a_name_loses_the_spaces_around_it() -> None:
    assert read_name("  Leber ä ") == "Leber ä"
