"""The phantoms and the sample cases are what they claim to be."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.phantoms import (
    Labels,
    Phantom,
    dice,
    draw_box,
    first_click,
    flat_phantoms,
    vessel_phantoms,
)
from gamt.axes import bounding_range
from gamt.io.case import read_case
from gamt.prompts import ClassPrompts
from tests.cases.scenes import DRAWN

FLAT, VESSELS = flat_phantoms(), vessel_phantoms()
CASES = sorted((Path(__file__).parents[1] / "cases").glob("*.npz"))


def load(path: Path, key: str) -> npt.NDArray[Any]:
    with np.load(path) as file:
        array: npt.NDArray[Any] = file[key]
        return array


def check_prompts(truth: Labels, prompts: tuple[ClassPrompts, ...]) -> None:
    """Labels are exactly 1..K, boxes are exact in z and hold z_mid, clicks lie in their label."""
    assert np.unique(truth).tolist() == list(range(len(prompts) + 1))
    assert [one.label for one in prompts] == list(range(1, len(prompts) + 1))
    for one in prompts:
        mask = truth == one.label
        assert one.box is not None or one.clicks
        for click in one.clicks:
            assert click.positive
            assert mask[click.voxel]
        if one.box is not None:
            bounds = bounding_range(mask)
            on_z_mid = bounding_range(mask[one.box.z_mid])
            assert bounds is not None
            assert on_z_mid is not None
            (y0, x0), (y1, x1) = on_z_mid
            assert (one.box.z_min, one.box.z_max) == (bounds[0][0], bounds[1][0])
            assert 0 <= one.box.y_min <= y0 < y1 <= one.box.y_max <= truth.shape[1]
            assert 0 <= one.box.x_min <= x0 < x1 <= one.box.x_max <= truth.shape[2]


@pytest.mark.parametrize("phantom", FLAT + VESSELS, ids=lambda p: p.name)
def test_a_phantom_and_its_prompts_agree(phantom: Phantom) -> None:
    assert phantom.image.shape == phantom.truth.shape
    check_prompts(phantom.truth, phantom.prompts)


def test_flat_phantoms_have_boxes_alone_and_vessels_one_click() -> None:
    assert all(p.box and not p.clicks for phantom in FLAT for p in phantom.prompts)
    assert all(len(p.clicks) == 1 and not p.box for phantom in VESSELS for p in phantom.prompts)


def test_the_same_seed_draws_the_same_phantoms() -> None:
    for one, other in zip(flat_phantoms(3), flat_phantoms(3), strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.prompts == other.prompts


@pytest.mark.parametrize("phantom", FLAT + VESSELS, ids=lambda p: p.name)
def test_labels_have_one_grey_value_each(phantom: Phantom) -> None:
    grey_levels = phantom.image.astype(float) * (1 if phantom.image.dtype == np.uint8 else 255)
    means = [grey_levels[phantom.truth == label].mean() for label in np.unique(phantom.truth)]
    spread = [grey_levels[phantom.truth == label].std() for label in np.unique(phantom.truth)]
    assert np.diff(np.sort(means)).min() > 35
    assert max(spread) < 7


def test_dice() -> None:
    a = np.array([True, True, False])
    assert dice(a, a) == 1
    assert dice(a, ~a) == 0
    assert dice(a, np.array([True, False, False])) == pytest.approx(2 / 3)
    assert dice(~(a | True), ~(a | True)) == 1


def test_a_box_takes_the_middle_of_the_slices_that_hold_the_label() -> None:
    truth = np.zeros((12, 256, 256), dtype=np.uint8)
    for z in (2, 3, 9, 10):  # the middle of the list, not of the range
        truth[z, 100:110, 50 + z : 70 + z] = 1
    box = draw_box(truth, 1, np.random.default_rng(0))
    assert (box.z_min, box.z_mid, box.z_max) == (2, 9, 11)
    assert 95 <= box.y_min <= 100
    assert 110 <= box.y_max <= 115
    assert 54 <= box.x_min <= 59
    assert 79 <= box.x_max <= 84


def test_the_first_click_is_the_deepest_voxel_of_the_largest_component() -> None:
    truth = np.zeros((20, 20, 20), dtype=np.uint8)
    truth[0:5, 0:5, 0:5] = 1  # its edges at the volume's are borders, too
    truth[10:17, 10:17, 10:17] = 1
    assert first_click(truth, 1).voxel == (13, 13, 13)
    assert first_click(truth[:5, :5, :5], 1).voxel == (2, 2, 2)


def test_every_drawn_case_is_there_beside_the_template() -> None:
    assert {path.stem for path in CASES} == {*DRAWN, "MR_mni152"}


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_case_is_what_its_script_draws(name: str) -> None:
    path = Path(__file__).parents[1] / "cases" / f"{name}.npz"
    phantom = DRAWN[name]()
    # Other processors round otherwise in the last digit, which may flip a voxel here and there.
    assert np.mean(load(path, "imgs") != phantom.image) < 1e-3
    assert np.mean(load(path, "gts") != phantom.truth) < 1e-3
    assert read_case(path).spacing_mm == phantom.spacing_mm


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_sample_case_and_its_prompts_agree(path: Path) -> None:
    case = read_case(path)
    assert case.image.dtype == np.uint8
    check_prompts(load(path, "gts"), case.prompts)


def test_vessels_and_nuclei_come_without_a_box() -> None:
    boxless = {c.name for c in map(read_case, CASES) if all(p.box is None for p in c.prompts)}
    assert boxless == {"CT_vessels_phantom", "Microscopy_phantom"}
    assert all(read_case(path).previous is not None for path in CASES if path.stem in boxless)


def test_the_sample_cases_are_small() -> None:
    sizes = [path.stat().st_size for path in CASES]
    assert max(sizes) < 700_000
    assert sum(sizes) < 3_000_000
