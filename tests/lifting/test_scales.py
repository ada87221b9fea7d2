"""The scale of a target at a click: what the planes offer, and what they agree on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.axes import Plane, slice_shape, slice_view
from gamt.lifting.scales import (
    BOX_SIDES,
    agree,
    candidates,
    centrality,
    requests_across,
    runs_through,
)
from gamt.prompts import ClassPrompts, Click, SliceBox
from gamt.segmenters.base import SliceMask
from tests.doubles import Constant, answer, block, make_case, make_target

SHAPE = (20, 22, 24)
VOXEL = (10, 11, 12)


def section(plane: Plane, *bounds: tuple[int, int], quality: float = 1.0) -> SliceMask:
    """The section of a cuboid, given by its bounds on (z, y, x), with a slice through it."""
    volume = block(SHAPE, *(slice(*bound) for bound in bounds))
    middle = (bounds[plane.normal][0] + bounds[plane.normal][1]) // 2
    mask = slice_view(volume, plane, middle)
    return answer(mask, quality)


# --- agreement ----------------------------------------------------------------------------------

SMALL = ((8, 13), (9, 14), (10, 15))
LARGE = ((2, 18), (3, 19), (4, 21))


def test_the_scales_agree_where_the_planes_cross() -> None:
    # The coronal and the sagittal slice are surer of the larger one of two scales. Both of them
    # together share 5/17 and 5/16 of their runs with the axial one, which has the small scale only.
    small = {plane: section(plane, *SMALL, quality=0.7) for plane in Plane}
    large = {plane: section(plane, *LARGE) for plane in (Plane.CORONAL, Plane.SAGITTAL)}
    offers = {plane: [mask, small[plane]] for plane, mask in large.items()}
    assert agree({**offers, Plane.AXIAL: [small[Plane.AXIAL]]}, VOXEL) == small
    assert agree(offers, VOXEL) == large  # without it, nothing speaks against the larger scale


def test_one_mask_of_another_scale_is_outvoted() -> None:
    # The axial slice offers a mask that leaks, and is sure of it: (5/16)(5/17) of agreement with
    # the small sections of the other planes. The right scale at quality 0.5 is better.
    offers = {
        Plane.AXIAL: [section(Plane.AXIAL, *LARGE), section(Plane.AXIAL, *SMALL, quality=0.5)],
        Plane.CORONAL: [section(Plane.CORONAL, *SMALL)],
        Plane.SAGITTAL: [section(Plane.SAGITTAL, *SMALL)],
    }
    assert agree(offers, VOXEL)[Plane.AXIAL] is offers[Plane.AXIAL][1]


def test_a_mask_that_is_thicker_elsewhere_is_not_the_clicks() -> None:
    # As sure and as long on every line through the click, but the tail of something larger.
    thin = block(SHAPE, slice(8, 13), slice(9, 14), slice(10, 15))
    leaking = thin | block(SHAPE, slice(8, 13), slice(14, 22), slice(0, 24))
    tail, own = (answer(slice_view(one, Plane.AXIAL, VOXEL[0])) for one in (leaking, thin))
    # Rows 9..13 and columns 10..14, the click in their middle, three pixels from outside; the
    # larger one's (12, 17) is five from outside: from row 22 as from (9, 13), 3 and 4 away.
    assert centrality(own, Plane.AXIAL, VOXEL) == 1
    assert centrality(tail, Plane.AXIAL, VOXEL) == pytest.approx(3 / 5)
    assert agree({Plane.AXIAL: [tail, own]}, VOXEL) == {Plane.AXIAL: own}


def test_agreement_is_weighed_against_quality() -> None:
    # Coronal and axial sections cross on x: runs of 17 and 5 voxels, 5/17 of which are shared.
    # The small coronal section agrees fully, and is chosen until its quality is 5/17 of the other.
    for quality, chosen in ((0.3, 1), (0.29, 0)):
        offers = {
            Plane.AXIAL: [section(Plane.AXIAL, *SMALL)],
            Plane.CORONAL: [
                section(Plane.CORONAL, *LARGE),
                section(Plane.CORONAL, *SMALL, quality=quality),
            ],
        }
        assert agree(offers, VOXEL)[Plane.CORONAL] is offers[Plane.CORONAL][chosen]


def test_where_all_agree_quality_decides() -> None:
    good, better = (section(Plane.SAGITTAL, *SMALL, quality=q) for q in (0.8, 0.9))
    assert agree({Plane.SAGITTAL: [good, better]}, VOXEL) == {Plane.SAGITTAL: better}


def test_offers_without_any_quality_are_still_chosen_from() -> None:
    offers = {plane: [section(plane, *SMALL, quality=0)] for plane in Plane}
    assert agree(offers, VOXEL) == {plane: offers[plane][0] for plane in Plane}


def test_without_offers_nothing_is_chosen() -> None:
    assert agree({}, VOXEL) == {}


# --- runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plane", "expected"),
    [
        (Plane.AXIAL, {1: (9, 14), 2: (10, 15)}),
        (Plane.CORONAL, {0: (8, 13), 2: (10, 15)}),
        (Plane.SAGITTAL, {0: (8, 13), 1: (9, 14)}),
    ],
)
def test_runs_are_told_by_the_volumes_axes(
    plane: Plane, expected: dict[int, tuple[int, int]]
) -> None:
    assert runs_through(section(plane, *SMALL), plane, VOXEL) == expected


def test_a_run_ends_at_gaps_and_at_the_borders() -> None:
    mask = np.zeros((22, 24), np.bool_)
    mask[11, [0, 1, 3, 10, 11, 12, 14]] = True  # along x: from 10 up to the gap at 13
    mask[:, 12] = True
    assert runs_through(answer(mask), Plane.AXIAL, VOXEL) == {1: (0, 22), 2: (10, 13)}


@given(seed=st.integers(0, 2**16), plane=st.sampled_from(Plane))
def test_a_run_is_the_longest_unbroken_one_at_the_voxel(seed: int, plane: Plane) -> None:
    volume = np.random.default_rng(seed).random(SHAPE) < 0.8
    volume[VOXEL] = True
    for axis, (start, stop) in runs_through(
        answer(slice_view(volume, plane, VOXEL[plane.normal])), plane, VOXEL
    ).items():
        line = np.moveaxis(volume, axis, 0)[(slice(None), *(np.delete(VOXEL, axis)))]
        assert start <= VOXEL[axis] < stop
        assert line[start:stop].all()
        assert start == 0 or not line[start - 1]
        assert stop == len(line) or not line[stop]


# --- candidates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plane", "point", "index"),
    [
        (Plane.AXIAL, (12, 11), 10),
        (Plane.CORONAL, (12, 10), 11),
        (Plane.SAGITTAL, (11, 10), 12),
    ],
)
def test_masks_of_all_scales_are_asked_for_around_the_click(
    plane: Plane, point: tuple[int, int], index: int
) -> None:
    clicks = (Click(*VOXEL, positive=True),)
    case = make_case(np.zeros(SHAPE, np.uint8), ClassPrompts(1, None, clicks))
    target = make_target(case, Constant(inside=False))
    requests = candidates(target, plane, VOXEL)
    assert {(request.plane, request.index) for request in requests} == {(plane, index)}
    for request in requests:
        assert request.prompt.points.tolist() == [list(point)]
        assert request.prompt.labels.tolist() == [1]
    unboxed = [request.multimask for request in requests if request.prompt.box is None]
    assert unboxed == [True, False]
    boxes = [request.prompt.box for request in requests if request.prompt.box is not None]
    assert len(boxes) == len(BOX_SIDES)
    rows, columns = slice_shape(SHAPE, plane)
    for (x0, y0, x1, y1), side in zip(boxes, BOX_SIDES, strict=True):
        # As large as told and centred on the click's pixel, as far as the slice goes.
        assert (x0, x1) == (max(0, point[0] - side / 2), min(columns, point[0] + side / 2 + 1))
        assert (y0, y1) == (max(0, point[1] - side / 2), min(rows, point[1] + side / 2 + 1))


@pytest.mark.parametrize(
    ("plane", "index", "point", "known"),
    [
        # The axial box reaches from 7 to 14 in y, and from 6 to 15 in x.
        (Plane.CORONAL, 11, (12, 10), (6, 15)),
        (Plane.SAGITTAL, 12, (11, 10), (7, 14)),
    ],
)
def test_the_other_planes_are_asked_for_masks_as_wide_as_the_box(
    plane: Plane, index: int, point: tuple[int, int], known: tuple[int, int]
) -> None:
    box = SliceBox(Plane.AXIAL, (10, 7, 6), (11, 14, 15))
    prompts = ClassPrompts(1, None, (Click(5, 11, 12, False),), box)
    target = make_target(make_case(np.zeros(SHAPE, np.uint8), prompts), Constant(inside=False))
    requests = requests_across(target, plane, VOXEL, box)
    assert {(request.plane, request.index) for request in requests} == {(plane, index)}
    for request, side in zip(requests, BOX_SIDES, strict=True):
        # The click is on both slices, at z = 5.
        assert request.prompt.points.tolist() == [list(point), [point[0], 5]]
        assert request.prompt.labels.tolist() == [1, 0]
        rows = max(0, 10 - side / 2), min(20, 10 + side / 2 + 1)
        assert request.prompt.box == (known[0], rows[0], known[1], rows[1])
