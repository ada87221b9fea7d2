"""What can be encoded before anybody asks for it."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt.axes import Plane
from gamt.prompts import SlicePrompt
from gamt.settings import Settings
from gamt.volume.ahead import common_crop, likely_scan
from gamt.volume.cache import EmbeddingCache, KeyedSlice
from gamt.volume.preparation import PreparedVolume
from gamt.volume.scan import SliceRequest
from gamt.windows import IntensityWindow, WindowChoice
from tests.doubles import Thresholder

SHAPE = (6, 9, 12)
SETTINGS = Settings(crop_voxels=24, planes=(Plane.AXIAL, Plane.SAGITTAL))
"""A crop that holds all of the shape, wherever in it a target lies."""


def prepare(image: npt.NDArray[Any], settings: Settings = SETTINGS) -> PreparedVolume:
    embeddings = EmbeddingCache(Thresholder(), 2**20)
    return PreparedVolume(image, (1, 1, 1), embeddings, settings)


def draw(dtype: str = "uint8") -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)


@pytest.mark.parametrize(
    ("crop_voxels", "spacing_mm", "common"),
    [
        (24, (1, 1, 1), True),
        # 12 voxels along x, but only 10 of a corner's crop lie inside of the image: 20 / 2.
        (20, (1, 1, 1), False),
        # 6 voxels of 3 mm are as many as 18 of the finest spacing along z: 9 are not enough.
        (24, (3, 1, 1), False),
        (36, (3, 1, 1), True),
    ],
)
def test_a_crop_that_no_prompt_changes_is_known(
    crop_voxels: int, spacing_mm: tuple[float, float, float], common: bool
) -> None:
    settings = replace(SETTINGS, crop_voxels=crop_voxels)
    embeddings = EmbeddingCache(Thresholder(), 2**20)
    volume = PreparedVolume(draw(), spacing_mm, embeddings, settings)
    assert common_crop(volume) == (((0, 0, 0), SHAPE) if common else None)


@pytest.mark.parametrize(
    ("dtype", "window", "known"),
    [
        ("uint8", "auto", True),
        ("int16", "auto", False),  # it is found around the first prompt
        ("int16", "full", True),
        ("int16", IntensityWindow(20, 90), True),
    ],
)
def test_a_scan_is_likely_before_prompts_where_the_window_is_known(
    dtype: str, window: WindowChoice, known: bool
) -> None:
    scan = likely_scan(prepare(draw(dtype), replace(SETTINGS, window=window)))
    assert (scan is not None) == known
    if scan is not None:
        assert len(list(scan.ahead(SETTINGS.planes))) == SHAPE[0] + SHAPE[2]


def test_no_scan_of_a_large_image_is_likely_before_prompts() -> None:
    assert likely_scan(prepare(draw(), replace(SETTINGS, crop_voxels=8))) is None


def test_after_a_prediction_its_scan_is_likely_and_there_the_slices_around_its_first_ones() -> None:
    volume = prepare(draw("int16"))
    scan = volume.scan(((0, 0, 0), (4, 9, 12)), IntensityWindow(0, 255))
    scan.decode([SliceRequest(Plane.AXIAL, 3, SlicePrompt(box=(0, 0, 2, 2)))])
    assert likely_scan(volume) is scan
    keys = [one.key for one in scan.ahead(SETTINGS.planes)]
    axial = [KeyedSlice.of(scan.image[index]).key for index in (3, 2, 1, 0)]
    assert [key for key in keys if key in axial] == axial
    assert len(keys) == 4 + 12
