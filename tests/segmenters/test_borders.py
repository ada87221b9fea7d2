"""How clear borders are."""

import numpy as np
import pytest

from gamt.segmenters.borders import border_contrast
from tests.doubles import block

MASK = block((40, 60, 1), slice(8, 30), slice(12, 50), slice(1))[..., 0]


def test_contrast_is_the_difference_across_the_border_in_deviations() -> None:
    # Without noise, the deviation is the 3 grey levels that are always added: (160 - 100) / 3.
    image = np.where(MASK, 160, 100).astype(np.float32)
    assert border_contrast(image, MASK) == pytest.approx(20)


@pytest.mark.parametrize("mask", [np.zeros_like(MASK), np.ones_like(MASK)])
def test_a_mask_without_a_border_has_no_contrast(mask: np.ndarray) -> None:
    image = np.where(MASK, 160, 100).astype(np.float32)
    assert border_contrast(image, mask) == 0
