"""Between raw volume and grid: windows, crops and resampling, and the exact way back."""

import math
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.axes import Plane, bounding_range
from gamt.prompts import Box, ClassPrompts, Click, Region, Scribble, SliceBox
from gamt.volume.geometry import (
    Grid,
    Range,
    box_on_grid,
    crop_range,
    make_grid,
    merge_overlapping,
)

Triple = tuple[int, int, int]

spacings = st.tuples(*[st.floats(0.3, 5)] * 3)
sizes = st.tuples(*[st.integers(1, 9)] * 3)
seeds = st.integers(0, 2**16)


@st.composite
def ranges(draw: st.DrawFn, inside: Range) -> Range:
    """A range of at least one voxel inside another one."""
    low, high = [], []
    for first, last in zip(*inside, strict=True):
        low.append(draw(st.integers(first, last - 1)))
        high.append(draw(st.integers(low[-1] + 1, last)))
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


@st.composite
def grids(draw: st.DrawFn, fine: bool) -> Grid:
    """A grid over a crop somewhere; `fine` ones are nowhere coarser than the raw voxels."""
    spacing_mm = draw(spacings)
    low = draw(st.tuples(*[st.integers(0, 5)] * 3))
    z, y, x = (a + n for a, n in zip(low, draw(sizes), strict=True))
    share = draw(st.floats(0.4, 1.0 if fine else 4.0))
    return make_grid((low, (z, y, x)), spacing_mm, share * min(spacing_mm))


def box_of(bounds: Range, z_mid: int) -> Box:
    low, high = bounds
    return Box(low[0], high[0], z_mid, low[1], high[1], low[2], high[2])


def filled(bounds: Range, grid: Grid) -> npt.NDArray[np.bool_]:
    """The crop of a mask that fills `bounds`, given in raw voxels of the volume."""
    mask = np.zeros(grid.raw_shape, np.bool_)
    mask[tuple(slice(a - o, b - o) for a, b, o in zip(*bounds, grid.low, strict=True))] = True
    return mask


def on_grid(grid: Grid, mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What each grid voxel shows of the crop of a mask or label map."""
    return mask[np.ix_(*grid.to_raw)]


def on_raw(grid: Grid, mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What each raw voxel of the crop shows of a mask or label map of the grid."""
    return mask[np.ix_(*grid.from_raw)]


def within(inner: Range, outer: Range) -> bool:
    return bool(np.less_equal(outer[0], inner[0]).all() and np.less_equal(inner[1], outer[1]).all())


def test_the_grid_takes_the_finest_spacing() -> None:
    # Extents between the outer voxel centres: 2 x 3 mm, 4 x 1 mm, 5 x 2 mm, in steps of 1 mm.
    grid = make_grid(((0, 10, 20), (3, 15, 26)), (3.0, 1.0, 2.0))
    assert grid.shape == (7, 5, 11)
    assert grid.raw_shape == (3, 5, 6)
    assert grid.scale == (3, 1, 2)


def test_the_grid_takes_the_side_that_is_asked_for() -> None:
    # 2 x 3 mm, 4 x 1 mm and 5 x 2 mm in steps of 2 mm.
    grid = make_grid(((0, 0, 0), (3, 5, 6)), (3.0, 1.0, 2.0), voxel_mm=2.0)
    assert grid.shape == (4, 3, 6)


@given(
    raw=st.tuples(*[st.integers(1, 60)] * 3),
    spacing_mm=spacings,
    max_voxels=st.sampled_from([1, 10, 1000, 2**28]),
)
def test_grid_voxels_are_cubes_to_within_a_voxel_and_not_too_many(
    raw: Triple, spacing_mm: tuple[float, float, float], max_voxels: int
) -> None:
    shape = make_grid(((0, 0, 0), raw), spacing_mm, max_voxels=max_voxels).shape
    assert np.prod(shape) <= max_voxels
    # One side fits all axes: each spans its extent with a number of steps off by half at most.
    extents = [(n - 1) * mm for n, mm in zip(raw, spacing_mm, strict=True)]
    least = max(e / (n - 0.5) for e, n in zip(extents, shape, strict=True))
    steps = [(e, n - 1) for e, n in zip(extents, shape, strict=True) if n > 1]
    most = min((e / (n - 0.5) for e, n in steps), default=np.inf)
    assert least <= most * (1 + 1e-9)


@given(spacing_mm=spacings, axis=st.integers(0, 2))
def test_axes_of_a_single_voxel_stay_so(spacing_mm: tuple[float, float, float], axis: int) -> None:
    raw = [4, 5, 6]
    raw[axis] = 1
    grid = make_grid(((0, 0, 0), (raw[0], raw[1], raw[2])), spacing_mm)
    assert grid.shape[axis] == 1
    image = np.arange(np.prod(raw), dtype=np.uint8).reshape(raw)
    assert grid.resample(image).shape == grid.shape
    assert grid.voxel_to_grid((0, 0, 0)) == (0, 0, 0)


def test_images_are_interpolated_linearly_between_the_outer_centres() -> None:
    # Slices 4 mm apart on a grid of 1 mm: 4 steps from 0 to 100.
    grid = make_grid(((0, 0, 0), (2, 3, 2)), (4.0, 1.0, 1.0))
    image = np.zeros((2, 3, 2), np.uint8)
    image[1] = 100
    assert grid.resample(image)[:, 1, 1].tolist() == [0, 25, 50, 75, 100]


def test_resampling_holds_nothing_larger_than_the_crop_and_the_grid() -> None:
    # The crop has 3.2 MB, the grid 0.64; 400 x 400 x 400 in between would be 64.
    grid = Grid((0, 0, 0), (20, 400, 400), (400, 40, 40))
    image = np.full(grid.raw_shape, 7, np.uint8)
    tracemalloc.start()
    try:
        assert (grid.resample(image) == 7).all()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16e6


@given(grid=grids(fine=False), seed=seeds, axis=st.integers(0, 2))
def test_flipping_the_volume_flips_the_grid(grid: Grid, seed: int, axis: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, grid.raw_shape, np.uint8)
    here = grid.resample(np.flip(image, axis)).astype(int)
    there = np.flip(grid.resample(image), axis).astype(int)
    assert np.abs(here - there).max() <= 1  # where a value lies between two grey levels


def test_a_grid_of_one_voxel_shows_the_middle() -> None:
    # Five slices over 0.4 mm are not worth a second one of 1 mm; slice 2 is the middle one.
    grid = make_grid(((0, 0, 0), (5, 3, 4)), (0.1, 1.0, 1.0), voxel_mm=1.0)
    volume = np.arange(5, dtype=np.uint8).reshape(5, 1, 1) * np.ones((1, 3, 4), np.uint8)
    assert grid.shape == (1, 3, 4)
    assert (grid.resample(volume) == 2).all()
    assert (on_grid(grid, volume) == 2).all()


# --- masks, boxes and clicks --------------------------------------------------------------------


@given(grid=grids(fine=True), seed=seeds)
def test_a_label_map_survives_the_way_to_a_fine_grid_and_back(grid: Grid, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 5, grid.raw_shape, np.uint8)
    there = on_grid(grid, labels)
    assert there.shape == grid.shape
    np.testing.assert_array_equal(on_raw(grid, there), labels)


@given(raw=sizes, side=st.floats(0.1, 10), seed=seeds)
def test_an_isotropic_grid_is_the_volume_itself(raw: Triple, side: float, seed: int) -> None:
    grid = make_grid(((0, 0, 0), raw), (side, side, side))
    image = np.random.default_rng(seed).integers(0, 256, raw, np.uint8)
    np.testing.assert_array_equal(grid.resample(image), image)
    np.testing.assert_array_equal(on_grid(grid, image), image)
    np.testing.assert_array_equal(on_raw(grid, image), image)


def test_a_crop_is_the_part_between_its_bounds() -> None:
    # Voxels are numbered 0..59 in a volume of 3 x 4 x 5: (1, 2, 3) is 20 + 10 + 3.
    volume = np.arange(60).reshape(3, 4, 5)
    crop = Grid((1, 2, 3), (3, 3, 5), (2, 1, 2)).crop(volume)
    assert crop.tolist() == [[[33, 34]], [[53, 54]]]


def test_holds_is_half_open() -> None:
    grid = Grid((1, 2, 3), (2, 4, 6), (1, 2, 3))
    assert grid.holds((1, 2, 3))
    assert grid.holds((1, 3, 5))
    for outside in ((0, 2, 3), (2, 2, 3), (1, 4, 3), (1, 2, 6), (1, 2, 2)):
        assert not grid.holds(outside)


def test_box_click_and_mask_map_together_by_hand() -> None:
    # Slices 3 mm apart on a grid of 1 mm: raw slice 11, the crop's second, has its centre at grid
    # slice 3 and reaches 1.5 to both sides, that is, over the grid slices 2, 3 and 4.
    grid = make_grid(((10, 20, 30), (13, 25, 39)), (3.0, 1.0, 1.0))
    box = Box(z_min=11, z_max=12, z_mid=11, y_min=21, y_max=23, x_min=34, x_max=38)
    there = box_on_grid(box, grid)
    assert there == Box(z_min=2, z_max=5, z_mid=3, y_min=1, y_max=3, x_min=4, x_max=8)
    mask = on_grid(grid, filled((box.low, box.high), grid))
    assert bounding_range(mask) == (list(there.low), list(there.high))
    assert grid.voxel_to_grid((11, 22, 37)) == (3, 2, 7)


@given(data=st.data(), grid=grids(fine=True))
def test_a_mask_that_fills_a_box_fills_the_mapped_box(data: st.DataObject, grid: Grid) -> None:
    bounds = data.draw(ranges((grid.low, grid.high)))
    there = box_on_grid(box_of(bounds, bounds[0][0]), grid)
    found = bounding_range(on_grid(grid, filled(bounds, grid)))
    assert found is not None
    # The box covers grid voxels that it only touches, at most one on each side; the mask doesn't.
    low = np.maximum(there.low, 0)
    high = np.minimum(there.high, grid.shape)
    assert np.isin(found[0] - low, (0, 1)).all()
    assert np.isin(high - found[1], (0, 1)).all()


@given(data=st.data(), grid=grids(fine=False))
def test_a_click_in_a_box_stays_inside(data: st.DataObject, grid: Grid) -> None:
    low, high = data.draw(ranges((grid.low, grid.high)))
    click = data.draw(st.tuples(*(st.integers(a, b - 1) for a, b in zip(low, high, strict=True))))
    there = box_on_grid(box_of((low, high), click[0]), grid)
    voxel = grid.voxel_to_grid(click)
    assert all(a <= v < b for a, v, b in zip(there.low, voxel, there.high, strict=True))
    assert all(0 <= v < n for v, n in zip(voxel, grid.shape, strict=True))
    assert there.z_mid == voxel[0]


@given(data=st.data(), grid=grids(fine=True))
def test_a_click_in_a_mask_stays_inside(data: st.DataObject, grid: Grid) -> None:
    low, high = grid.low, grid.high
    click = data.draw(st.tuples(*(st.integers(a, b - 1) for a, b in zip(low, high, strict=True))))
    past = (click[0] + 1, click[1] + 1, click[2] + 1)
    assert on_grid(grid, filled((click, past), grid))[grid.voxel_to_grid(click)]


# --- crops --------------------------------------------------------------------------------------

LARGE = (200, 1024, 1024)
THICK_SLICES = (4.0, 1.0, 1.0)


def region(
    prompts: ClassPrompts,
    previous: npt.NDArray[np.bool_] | None = None,
    shape: Sequence[int] = LARGE,
    spacing_mm: Sequence[float] = THICK_SLICES,
) -> Range | None:
    return crop_range(prompts, previous, shape, spacing_mm, side_mm=256, margin=0.25)


def test_the_crop_is_a_cube_in_millimetres_around_the_box() -> None:
    # The box's middle is (105, 510, 610); 128 mm are 32 slices, or 128 pixels.
    box = Box(z_min=100, z_max=110, z_mid=104, y_min=500, y_max=520, x_min=600, x_max=620)
    assert region(ClassPrompts(1, box)) == ((73, 382, 482), (137, 638, 738))


def test_the_crop_is_a_cube_around_a_box_on_a_slice() -> None:
    # The box's middle is (100.5, 510, 610); 128 mm are 32 slices, or 128 pixels.
    box = SliceBox(Plane.AXIAL, (100, 500, 600), (101, 520, 620))
    assert region(ClassPrompts(1, slice_box=box)) == ((68, 382, 482), (133, 638, 738))


def test_a_grid_is_not_far_finer_than_the_scan() -> None:
    # 2 x 40 x 50 voxels with slices a thousand times as far apart as pixels: cubes would make a
    # grid of 1001 x 40 x 50, 500 voxels for each.
    fine = make_grid(((0, 0, 0), (2, 40, 50)), (1.0, 0.001, 0.001))
    assert math.prod(fine.shape) <= 2**18
    # With seven for each, as in CT of thick slices, it is as it would be: 61 x 40 x 50.
    usual = make_grid(((0, 0, 0), (10, 40, 50)), (5.0, 0.75, 0.75))
    assert usual.shape == (61, 40, 50)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        # 300 pixels of 1 mm: 37 slices of 4 mm, half of that, to both sides of slice 100. These 75
        # slices and a quarter of them on each side are more than 256 mm: 63 - 18.75 .. 138 + 18.75.
        (
            SliceBox(Plane.AXIAL, (100, 500, 600), (101, 800, 620)),
            ((44, 425, 482), (157, 875, 738)),
        ),
        # 90 slices of 4 mm: 180 pixels to both sides of y = 500, 361 pixels in all, and a quarter
        # of them on each side: 320 - 90.25 .. 681 + 90.25. In z, 50 - 22.5 .. 140 + 22.5.
        (
            SliceBox(Plane.CORONAL, (50, 500, 600), (140, 501, 620)),
            ((27, 229, 482), (163, 772, 738)),
        ),
    ],
)
def test_a_target_is_expected_to_be_as_long_across_its_slice(
    box: SliceBox, expected: Range
) -> None:
    assert region(ClassPrompts(1, slice_box=box)) == expected


def test_clicks_after_a_box_on_a_slice_leave_the_crop_as_it_is() -> None:
    box = SliceBox(Plane.AXIAL, (100, 500, 600), (101, 520, 620))
    clicks = (Click(77, 400, 500, True), Click(124, 624, 724, False))
    found = region(ClassPrompts(1, None, clicks, box))
    assert found == region(ClassPrompts(1, slice_box=box))


def test_the_crop_is_a_cube_around_a_lone_click() -> None:
    # A click's voxel reaches from z to z + 1: its middle is half a voxel on, and the cube takes
    # in the voxels that it cuts.
    assert region(ClassPrompts(1, clicks=(Click(100, 500, 600, True),))) == (
        (68, 372, 472),
        (133, 629, 729),
    )


def test_the_crop_grows_with_a_large_box() -> None:
    # 300 pixels and a quarter of them on each side are more than 256: 500 - 75 .. 800 + 75.
    box = Box(z_min=100, z_max=110, z_mid=104, y_min=500, y_max=800, x_min=600, x_max=620)
    assert region(ClassPrompts(1, box)) == ((73, 425, 482), (137, 875, 738))


def test_the_crop_ends_at_the_borders() -> None:
    box = Box(z_min=0, z_max=2, z_mid=1, y_min=10, y_max=20, x_min=1000, x_max=1024)
    # Middles 1, 15 and 1012, with 32, 128 and 128 to both sides.
    assert region(ClassPrompts(1, box)) == ((0, 0, 884), (33, 143, 1024))


def test_clicks_well_inside_leave_the_crop_as_it_is() -> None:
    # The box's crop reaches from 73 to 137, 382 to 638 and 482 to 738; 5 % of that are 3.2 slices
    # and 12.8 pixels.
    box = Box(z_min=100, z_max=110, z_mid=104, y_min=500, y_max=520, x_min=600, x_max=620)
    clicks = (Click(77, 400, 500, True), Click(132, 624, 724, False))
    assert region(ClassPrompts(1, box, clicks)) == region(ClassPrompts(1, box))


def test_the_crop_follows_its_first_click() -> None:
    first, later = Click(100, 500, 600, True), Click(110, 520, 580, True)
    assert region(ClassPrompts(1, None, (first, later))) == region(ClassPrompts(1, None, (first,)))


def test_the_crop_grows_with_a_click_near_its_border() -> None:
    # In y, from 382: 390 is nearer than 12.8 pixels. All prompts together reach from 390 to 520: a
    # quarter of these 130 pixels more makes 357.5.
    box = Box(z_min=100, z_max=110, z_mid=104, y_min=500, y_max=520, x_min=600, x_max=620)
    found = region(ClassPrompts(1, box, (Click(104, 390, 610, False),)))
    assert found == ((73, 357, 482), (137, 638, 738))


def test_the_crop_follows_a_scribble_rather_than_clicks_or_regions() -> None:
    line = np.array([[100, 500, x] for x in range(590, 611)])
    one = ClassPrompts(1, scribbles=(Scribble(line, positive=True),))
    # A cube around the line's middle, as around a click there.
    assert region(one) == region(ClassPrompts(1, None, (Click(100, 500, 600, True),)))
    later = ClassPrompts(
        1,
        None,
        (Click(110, 520, 580, False),),
        scribbles=one.scribbles,
        regions=(Region((90, 480, 590), np.ones((2, 9, 9), np.bool_), False),),
    )
    assert region(later) == region(one)


def test_negative_marks_leave_the_crop_of_a_click_as_it_is() -> None:
    click = Click(100, 500, 600, True)
    later = ClassPrompts(
        1,
        None,
        (Click(110, 520, 580, False), click),
        scribbles=(Scribble(np.array([[104, y, 610] for y in range(440, 450)]), False),),
        regions=(Region((90, 480, 590), np.ones((2, 9, 9), np.bool_), False),),
    )
    assert region(later) == region(ClassPrompts(1, None, (click,)))


def test_negative_marks_leave_the_crop_of_a_previous_prediction_as_it_is() -> None:
    previous = np.zeros((20, 400, 500), np.bool_)
    previous[8:12, 300:310, 200:220] = True
    later = ClassPrompts(
        1,
        clicks=(Click(9, 290, 230, False),),
        scribbles=(Scribble(np.array([[9, 280, 190]]), False),),
    )
    shape = previous.shape
    assert region(later, previous, shape) == region(ClassPrompts(1), previous, shape)


@pytest.mark.parametrize("kind", ["scribble", "region"])
def test_the_crop_grows_with_scribbles_and_regions_near_its_border(kind: str) -> None:
    # As with a click at y = 390.
    box = Box(z_min=100, z_max=110, z_mid=104, y_min=500, y_max=520, x_min=600, x_max=620)
    if kind == "scribble":
        line = np.array([[104, y, 610] for y in range(390, 400)])
        prompts = ClassPrompts(1, box, scribbles=(Scribble(line, positive=False),))
    else:
        area = Region((104, 390, 610), np.ones((1, 10, 2), np.bool_), positive=False)
        prompts = ClassPrompts(1, box, regions=(area,))
    assert region(prompts) == region(ClassPrompts(1, box, (Click(104, 390, 610, False),)))


def test_voxels_on_the_grid_are_those_inside_of_the_crop() -> None:
    grid = make_grid(((2, 3, 4), (6, 8, 9)), (2, 1, 1))  # two grid slices a raw one
    voxels = np.array([[2, 3, 4], [1, 3, 4], [5, 7, 8], [5, 8, 8], [3, 4, 6]])
    assert grid.voxels_to_grid(voxels).tolist() == [
        list(grid.voxel_to_grid(voxel)) for voxel in ((2, 3, 4), (5, 7, 8), (3, 4, 6))
    ]


def test_the_crop_follows_the_previous_prediction() -> None:
    previous = np.zeros((20, 400, 500), np.bool_)
    previous[8:12, 300:310, 200:220] = True
    # Middles 10, 305 and 210.
    expected = ((0, 177, 82), (20, 400, 338))
    assert region(ClassPrompts(1), previous, previous.shape) == expected


def test_nothing_known_has_no_crop() -> None:
    assert region(ClassPrompts(1)) is None
    assert region(ClassPrompts(1), np.zeros((3, 4, 5), np.bool_), (3, 4, 5)) is None


@given(data=st.data(), spacing_mm=spacings, side_mm=st.floats(0.5, 40), margin=st.floats(0, 1))
def test_no_prompt_is_ever_cut_off(
    data: st.DataObject,
    spacing_mm: tuple[float, float, float],
    side_mm: float,
    margin: float,
) -> None:
    shape = (7, 11, 13)
    everything = ((0, 0, 0), shape)
    known = data.draw(st.lists(ranges(everything), min_size=1, max_size=4))
    drawn, predicted, *clicked = [*known, None, None][: max(2, len(known))]
    clicks = tuple(Click(*one[0], positive=True) for one in clicked if one is not None)
    previous = None
    if predicted is not None:
        previous = np.zeros(shape, np.bool_)
        previous[tuple(slice(a, b) for a, b in zip(*predicted, strict=True))] = True
    box = None if drawn is None else box_of(drawn, drawn[0][0])
    found = crop_range(ClassPrompts(1, box, clicks), previous, shape, spacing_mm, side_mm, margin)
    assert found is not None
    assert within(found, everything)
    assert drawn is None or within(drawn, found)
    assert predicted is None or within(predicted, found)
    grid = Grid(*found, (1, 1, 1))
    assert all(grid.holds(click.voxel) for click in clicks)


# --- crops of several classes -------------------------------------------------------------------


def cube(first: int, past: int) -> Range:
    return (first, first, first), (past, past, past)


def test_chains_of_overlaps_share_one_crop() -> None:
    # 0 and 1 meet only through 3; 2 stays alone: it touches 3's end, but shares no voxel.
    groups = merge_overlapping([cube(0, 4), cube(6, 9), cube(10, 12), cube(3, 10)])
    assert sorted(groups) == [(cube(0, 10), [0, 1, 3]), (cube(10, 12), [2])]


def test_a_joint_crop_takes_in_what_it_runs_into() -> None:
    # The third overlaps neither of the others, but the box around both of them.
    first = ((0, 0, 0), (4, 4, 10))
    second = ((3, 3, 0), (9, 9, 10))
    third = ((0, 6, 0), (2, 8, 10))
    assert merge_overlapping([first, second, third]) == [(((0, 0, 0), (9, 9, 10)), [0, 1, 2])]


def test_ranges_that_overlap_on_two_axes_only_stay_apart() -> None:
    apart = [((0, 0, 0), (5, 5, 5)), ((2, 2, 5), (4, 4, 9))]
    assert merge_overlapping(apart) == [(apart[0], [0]), (apart[1], [1])]


@given(listed=st.lists(ranges(((0, 0, 0), (12, 12, 12))), max_size=8))
def test_groups_are_disjoint_and_hold_every_class_once(listed: list[Range]) -> None:
    groups = merge_overlapping(listed)
    assert sorted(n for _, members in groups for n in members) == list(range(len(listed)))
    covered = np.zeros((12, 12, 12), int)
    for bounds, members in groups:
        assert all(within(listed[n], bounds) for n in members)
        covered[tuple(slice(a, b) for a, b in zip(*bounds, strict=True))] += 1
    assert covered.max(initial=0) <= 1
