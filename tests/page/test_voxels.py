"""The pixel under the cursor is the voxel that the server gets, however the file's axes run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from benchmarks.browser.driver import Page
from benchmarks.browser.scans import AXES, SHAPE, draw_scan
from benchmarks.browser.server import AnnotateServer

# mypy: allow-untyped-calls

ORIENTATIONS = {
    "RAS": 0.0,  # as the page has it
    "LPS": 0.0,  # as the package has it
    "LAS": 0.0,  # left-handed
    "PIR": 25.0,  # sagittal slices, turned in the scanner
    "SAL": 40.0,
    "ILP": 0.0,  # left-handed
}
"""Where the file's axes run to, and by how many degrees the scan is turned in the scanner."""

UNSEEN = "ARS"
"""Of a scan that has no prompts yet; also left-handed."""

PLACES = {"axial": (13, 40), "coronal": (30, 6), "sagittal": (41, 19)}
"""A voxel of each plane's slice, far from its middle."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scans")
    turned = {**ORIENTATIONS, UNSEEN: 30.0}
    paths = {codes: folder / f"{codes}.nii.gz" for codes in turned}
    for codes, degrees in turned.items():
        draw_scan(paths[codes], codes, degrees)
    return paths


@pytest.fixture(scope="module")
def opened(
    browser: webdriver.Chrome, scans: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    with AnnotateServer([*scans.values()], tmp_path_factory.mktemp("home")) as server:
        page = Page(browser)
        page.open(server.url)
        yield page


@pytest.mark.parametrize(
    "codes",
    [
        pytest.param(codes, marks=() if codes == "PIR" else pytest.mark.slow)
        for codes in ORIENTATIONS
    ],
)
def test_the_pixel_under_the_cursor_is_the_voxel_that_the_server_gets(
    opened: Page, scans: dict[str, Path], codes: str
) -> None:
    choose(opened, scans[codes].name)
    opened.find_voxels()
    opened.press("p")
    for number, (plane, place) in enumerate(PLACES.items(), start=1):
        opened.click(plane, place)
        voxel = opened.wait_for_prompts(number)[-1]["voxel"]
        first, second, _ = AXES[plane]
        assert (voxel[first], voxel[second]) == place
        # The saved file has it at the place that nibabel finds, in the file's own order.
        assert opened.result()[tuple(voxel)]
        # A click moves the cross, whose voxel people are told as the scan's file counts it.
        scan: Any = nib.load(scans[codes])
        turned: Any = nib.as_closest_canonical(scan)
        np.testing.assert_allclose(
            scan.affine @ (*opened.place, 1), turned.affine @ (*voxel, 1), atol=1e-3
        )


@pytest.mark.slow
@pytest.mark.parametrize("plane", AXES)
def test_scrolling_away_goes_towards_head_front_and_right(opened: Page, plane: str) -> None:
    opened.browser.refresh()
    opened.wait_for_scan()
    opened.find_voxels()
    opened.press("p")
    before = opened.prompts
    place = PLACES[plane]
    opened.scroll(plane, place, 3)
    opened.click(plane, place)
    voxel = opened.wait_for_prompts(len(before) + 1)[-1]["voxel"]
    across = AXES[plane][2]
    assert voxel[across] in (SHAPE[across] // 2 + 3, SHAPE[across] // 2 + 2)


@pytest.mark.slow
def test_the_mask_is_drawn_on_its_voxels(opened: Page, scans: dict[str, Path]) -> None:
    choose(opened, scans[UNSEEN].name)
    opened.find_voxels()
    opened.set_window(100, 400)
    opened.press("p")
    opened.click("axial", (20, 28))
    opened.wait_for_prompts(1)
    result, cross = opened.result(), opened.cross
    colours = opened.colours()
    for plane, (first, second, across) in AXES.items():
        section = np.take(result, cross[across], axis=across)
        inside, outside = certain(section), certain(~section)
        for sure in (inside, outside):
            # The crosshair has a colour of its own, and so has the click in its middle.
            sure[cross[first] - 1 : cross[first] + 2] = False
            sure[:, cross[second] - 1 : cross[second] + 2] = False
            assert sure.sum() > 50
        for a, b in np.ndindex(section.shape):
            x, y = opened.slices[plane].pixel((a, b))
            if inside[a, b] or outside[a, b]:
                at = (a, b, "inside" if inside[a, b] else "outside", plane)
                assert (colours[y, x] > 25) == inside[a, b], at


def certain(section: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Returns the pixels of a section that are not at its edge, nor its rim."""
    same = section.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            same &= np.roll(section, step, axis)
    return same


def choose(page: Page, name: str) -> None:
    """Opens one of the scans that the server was started with."""
    select = Select(page.browser.find_element(By.ID, "image"))
    (option,) = [one for one in select.options if name.removesuffix(".nii.gz") in one.text]
    if not option.is_selected():
        select.select_by_visible_text(option.text)
        page.wait_for_scan_named(name)
