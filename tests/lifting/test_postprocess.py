"""Cleaning of masks: components, and smoothing that stops at the volume's border."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.lifting.postprocess import (
    bodies_in_box,
    component_at,
    keep_pieces,
    largest_component,
    largest_pieces,
    smooth,
)
from gamt.settings import Smoothing

Mask = npt.NDArray[np.bool_]

SHAPE = (6, 8, 10)


def three_parts() -> tuple[Mask, Mask, Mask]:
    """Blocks of 27, 8 and 1 voxels, apart from each other."""
    large, middle, small = (np.zeros(SHAPE, np.bool_) for _ in range(3))
    large[0:3, 0:3, 0:3] = True
    middle[4:6, 5:7, 0:2] = True
    small[0, 7, 9] = True
    return large, middle, small


def test_only_the_largest_component_stays() -> None:
    large, middle, small = three_parts()
    np.testing.assert_array_equal(largest_component(large | middle | small), large)


def test_components_with_a_click_stay_too() -> None:
    large, middle, small = three_parts()
    everything = large | middle | small
    np.testing.assert_array_equal(
        largest_component(everything, np.array([(0, 7, 9)])), large | small
    )
    np.testing.assert_array_equal(
        largest_component(everything, np.array([(0, 7, 9), (5, 6, 1), (1, 1, 1)])), everything
    )


def test_a_click_outside_of_all_components_keeps_none() -> None:
    large, middle, small = three_parts()
    np.testing.assert_array_equal(
        largest_component(large | middle | small, np.array([(3, 3, 9)])), large
    )


def test_sizes_can_be_compared_in_a_part_of_the_mask() -> None:
    # In the corner of one voxel only `small` is; in slices 2 to 4 there are 9 voxels of `large` and
    # 4 of `middle`, and from slice 3 on none of `large`.
    large, middle, small = three_parts()
    everything = large | middle | small
    for where, expected in (
        (np.s_[0:1, 7:8, 9:10], small),
        (np.s_[2:5, :, :], large),
        (np.s_[3:6, :, :], middle),
        (np.s_[3:6, 0:2, :], large),  # nothing is there
    ):
        np.testing.assert_array_equal(largest_component(everything, where=where), expected)
    found = largest_component(everything, np.array([(1, 1, 1)]), np.s_[3:6, :, :])
    np.testing.assert_array_equal(found, large | middle)


def test_voxels_that_meet_at_a_corner_are_one_component() -> None:
    mask = np.zeros(SHAPE, np.bool_)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    mask[5, 5, 5:7] = True
    expected = mask.copy()
    expected[5] = False
    np.testing.assert_array_equal(largest_component(mask), expected)
    np.testing.assert_array_equal(component_at(mask, (1, 1, 1)), expected)


@pytest.mark.parametrize("value", [False, True])
def test_nothing_and_everything_stay_as_they_are(value: bool) -> None:
    mask = np.full(SHAPE, value)
    np.testing.assert_array_equal(largest_component(mask, np.array([(1, 2, 3)])), mask)
    np.testing.assert_array_equal(component_at(mask, (1, 2, 3)), mask)


def test_the_component_at_a_voxel() -> None:
    large, middle, small = three_parts()
    everything = large | middle | small
    np.testing.assert_array_equal(component_at(everything, (5, 6, 1)), middle)
    np.testing.assert_array_equal(component_at(everything, (0, 7, 9)), small)


def test_no_component_at_a_voxel_outside() -> None:
    large, middle, small = three_parts()
    assert not component_at(large | middle | small, (3, 3, 9)).any()


def test_opening_removes_what_is_thinner_than_three_voxels() -> None:
    # A block of 3 x 3 x 3 with a thread at one of its edges: only the block's centre survives the
    # erosion, and it grows back to its face neighbours.
    mask = np.zeros(SHAPE, np.bool_)
    mask[1:4, 2:5, 2:5] = True
    mask[1, 2, 5:9] = True
    expected = np.zeros(SHAPE, np.bool_)
    expected[1:4, 3, 3] = expected[2, 2:5, 3] = expected[2, 3, 2:5] = True
    np.testing.assert_array_equal(smooth(mask, "opening"), expected)


def test_closing_fills_a_hole_of_one_voxel() -> None:
    mask = np.zeros(SHAPE, np.bool_)
    mask[1:4, 2:5, 2:5] = True
    full = mask.copy()
    mask[2, 3, 3] = False
    np.testing.assert_array_equal(smooth(mask, "closing"), full)


@pytest.mark.parametrize("how", ["opening", "closing"])
def test_the_border_of_the_volume_is_no_edge_of_the_target(how: Smoothing) -> None:
    np.testing.assert_array_equal(smooth(np.ones(SHAPE, np.bool_), how), True)
    # A slab that runs through the volume: only its two faces are edges, and they are flat.
    slab = np.zeros(SHAPE, np.bool_)
    slab[:, 2:6] = True
    np.testing.assert_array_equal(smooth(slab, how), slab)


def test_a_thin_layer_at_the_border_goes_on_beyond_it() -> None:
    layer = np.zeros(SHAPE, np.bool_)
    layer[0:2] = True  # two voxels thick inside the volume, and thicker beyond
    np.testing.assert_array_equal(smooth(layer, "opening"), layer)


@given(seed=st.integers(0, 999))
def test_opening_only_removes_and_closing_only_adds(seed: int) -> None:
    mask = np.random.default_rng(seed).random(SHAPE) < 0.6
    assert not (smooth(mask, "opening") & ~mask).any()
    assert not (mask & ~smooth(mask, "closing")).any()


def test_none_leaves_the_mask_as_it_is() -> None:
    mask = np.random.default_rng(0).random(SHAPE) < 0.3
    np.testing.assert_array_equal(smooth(mask.copy(), "none"), mask)


def test_what_lies_in_the_box_stays_beside_the_largest_component() -> None:
    # The box holds x < 10. Of 40 voxels in the largest component, 4 are a tenth.
    mask = np.zeros((4, 12, 20), np.bool_)
    mask[0, 0:4, 0:10] = True  # the largest
    mask[2, 0, 0:4] = True  # in the box, and large enough
    mask[2, 4, 0:3] = True  # too small
    mask[2, 8, 7:12] = True  # 3 of 5 voxels in the box
    mask[2, 10, 8:12] = True  # 2 of 4 only
    expected = mask.copy()
    expected[2, 4] = expected[2, 10] = False
    box = np.s_[:, :, :10]
    np.testing.assert_array_equal(bodies_in_box(mask, box), expected)
    expected[2, 10, 8:12] = True
    np.testing.assert_array_equal(bodies_in_box(mask, box, np.array([(2, 10, 11)])), expected)
    np.testing.assert_array_equal(bodies_in_box(expected & False, box), expected & False)


def test_pieces_come_the_largest_first() -> None:
    mask = np.zeros((3, 40, 40), np.bool_)
    sizes = [9, 30, 12, 5]
    for row, size in enumerate(sizes):
        mask[1, 4 * row, :size] = True
    assert [int(piece.sum()) for piece in largest_pieces(mask, 8, 5)] == sorted(sizes, reverse=True)
    assert (np.sum(largest_pieces(mask, 8, 5), axis=0) == mask).all()


def test_pieces_hang_together_at_corners() -> None:
    mask = np.zeros((5, 5, 5), np.bool_)
    mask[tuple(np.arange(5)[None].repeat(3, 0))] = True
    (piece,) = largest_pieces(mask, 8, 5)
    np.testing.assert_array_equal(piece, mask)


def test_small_pieces_are_noise_and_many_are_too_many() -> None:
    mask = np.zeros((3, 60, 40), np.bool_)
    assert largest_pieces(mask, 8, 5) == []
    mask[1, 2, :4] = True
    assert largest_pieces(mask, 8, 5) == []
    for row in range(10):
        mask[1, 4 + 4 * row, : 5 + row] = True
    expected = [14, 13, 12, 11, 10, 9, 8, 7]
    assert [int(piece.sum()) for piece in largest_pieces(mask, 8, 5)] == expected


def test_pieces_that_hold_nothing_certain_go() -> None:
    mask = np.zeros((4, 9, 11), np.bool_)
    mask[1, 2:5, 1:4] = mask[2, 5, 4] = True  # they meet at a corner
    kept = mask.copy()
    mask[1:3, 7:, 8:] = True
    certain = np.zeros_like(mask)
    certain[1, 3, 2] = certain[0, 0, 10] = True
    np.testing.assert_array_equal(keep_pieces(mask, certain), kept)
