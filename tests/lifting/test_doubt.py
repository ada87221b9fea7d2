"""What a target is taken for where its box contradicts the segmenter, on drawn volumes."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from benchmarks.phantoms import dice
from gamt import segmenters
from gamt.predict import predict_case
from gamt.prompts import ClassPrompts, box_of_mask
from gamt.settings import Settings
from tests.doubles import Mask, make_case

SHAPE = (18, 60, 66)


def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Mask:
    grid = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    z, y, x = (((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True))
    return np.asarray(z + y + x <= 1, np.bool_)


def scan(mask: Mask, inside: float, outside: float) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(1).normal(0, 6, SHAPE)
    drawn = np.where(mask, inside, outside) + noise
    return np.asarray(drawn.clip(0, 255), np.uint8)


def from_box(image: npt.NDArray[np.uint8], truth: Mask) -> Mask:
    case = make_case(image, ClassPrompts(1, box_of_mask(truth)), spacing_mm=(3.0, 1.0, 1.0))
    settings = replace(Settings(), budget=False)
    return np.asarray(predict_case(case, segmenters.load(), settings).labels == 1)


HORNS = ball((9, 20, 25), (7, 4, 4)) | ball((9, 40, 40), (7, 5, 4))
CRESCENT = ball((9, 30, 30), (8, 16, 16)) & ~ball((9, 30, 37), (9, 15, 16))


@pytest.mark.parametrize(("inside", "outside"), [(50, 150), (170, 80)])
@pytest.mark.parametrize("truth", [HORNS, CRESCENT], ids=["horns", "crescent"])
def test_what_fills_little_of_its_box_is_found_by_its_edge(
    truth: Mask, inside: float, outside: float
) -> None:
    assert dice(from_box(scan(truth, inside, outside), truth), truth) > 0.85


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_faint_target_in_speckle_is_taken_for_its_ellipsoid(seed: int) -> None:
    # Coarse speckle, as in ultrasound: its deviation is about as large as the target's contrast.
    truth = ball((9, 30, 33), (7, 14, 15))
    speckle = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, SHAPE), (1, 2, 2))
    image = np.where(truth, 120, 100) + 22 * speckle / speckle.std()
    assert dice(from_box(image.clip(0, 255).astype(np.uint8), truth), truth) > 0.9
