"""Densities of intensities, and how they are compared."""

import numpy as np
import pytest

from gamt.segmenters.histograms import density, log_likelihood_ratio


def test_a_density_is_smoothed_and_sums_to_one() -> None:
    # A normal distribution of one bin: e^-0.5 = 0.607 of the middle's, e^-2 = 0.135 two bins away.
    counts = np.zeros(21)
    counts[10] = 7
    found = density(counts, 1.0)
    assert found.sum() == pytest.approx(1)
    assert found[11] / found[10] == pytest.approx(0.607, abs=1e-3)
    assert found[12] / found[10] == pytest.approx(0.135, abs=1e-3)


def test_without_counts_a_density_is_zero() -> None:
    assert not density(np.zeros(5), 1.0).any()


def test_a_ratio_is_softened_by_the_floor_and_cut_at_the_cap() -> None:
    inside, outside = np.array([0.5, 0.0, 0.3, 0.2]), np.array([0.0, 0.0, 0.3, 0.7])
    ratio = log_likelihood_ratio(inside, outside, floor=0.1, cap=1.0)
    # ln 6 = 1.79, cut; nothing in either; equal; ln(3 / 8) = -0.981.
    assert ratio == pytest.approx([1, 0, 0, -0.981], abs=1e-3)
