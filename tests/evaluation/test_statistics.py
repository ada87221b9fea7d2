"""Intervals and comparisons, against values derived by hand."""

import math

import pytest

from evaluation.statistics import compare, confidence_interval


def test_no_interval_from_fewer_than_six_scores() -> None:
    # The range of five scores misses the mean of a symmetric distribution where all five lie on
    # one side of it: 2 of 2^5 samples, 6.25 %. Of six, 2 of 2^6, 3.1 %.
    scores = [0.1, 0.2, 0.3, 0.5, 0.8, 0.9]
    for number in range(6):
        assert confidence_interval(scores[:number]) is None
    assert confidence_interval(scores) is not None


def test_no_interval_from_equal_scores() -> None:
    assert confidence_interval([0.7] * 8) is None


def test_interval_of_many_scores_is_that_of_the_normal_approximation() -> None:
    # 500 zeros and 500 ones: the mean's standard error is sqrt(0.25 / 1000) = 0.0158.
    interval = confidence_interval([0.0, 1.0] * 500)
    assert interval is not None
    assert interval == pytest.approx((0.5 - 1.96 * 0.0158, 0.5 + 1.96 * 0.0158), abs=0.002)


def test_interval_is_the_same_every_time() -> None:
    scores = [0.1, 0.4, 0.35, 0.8, 0.6, 0.2]
    assert confidence_interval(scores) == confidence_interval(scores)


def test_scores_that_are_no_number_do_not_count_in_an_interval() -> None:
    scores = [0.1, 0.4, 0.35, 0.8, 0.6, 0.2]
    assert confidence_interval([*scores, math.nan]) == confidence_interval(scores)
    assert confidence_interval([*scores[:5], math.nan]) is None


def test_p_is_that_of_the_exact_signed_rank_test() -> None:
    # Six differences, all positive and of distinct sizes: 2 of the 2^6 sign patterns are as
    # extreme. Their mean is 21 / 6 / 100.
    found = compare([0.01, 0.02, 0.03, 0.04, 0.05, 0.06], [0.0] * 6)
    assert (found.cases, found.reason) == (6, None)
    assert found.p == pytest.approx(2 / 64)
    assert found.difference == pytest.approx(0.035)


def test_one_difference_against_the_others_raises_p() -> None:
    # Signed ranks +6 +5 +4 +3 +2 -1: the rank sums 0 and 1 have one pattern each, times two sides.
    found = compare([0.6, 0.5, 0.4, 0.3, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.1])
    assert found.p == pytest.approx(4 / 64)


def test_the_difference_is_first_less_second() -> None:
    assert compare([0.5], [0.75]).difference == -0.25
    assert compare([0.75], [0.5]).difference == 0.25


def test_cases_without_difference_count_in_the_mean_but_not_in_the_test() -> None:
    # Of four cases two differ, both upwards: 2 of 2^2 patterns are as extreme, the higher p of
    # few cases. The mean is (0.25 + 0.75) / 4.
    found = compare([0.5, 0.5, 0.25, 0.75], [0.5, 0.5, 0.0, 0.0])
    assert (found.cases, found.difference) == (4, 0.25)
    assert found.p == pytest.approx(0.5)


def test_no_p_where_all_differences_are_zero() -> None:
    found = compare([0.3, 0.9], [0.3, 0.9])
    assert (found.cases, found.difference, found.p) == (2, 0.0, None)
    assert found.reason == "all differences are zero"


def test_no_p_without_a_common_case() -> None:
    found = compare([], [])
    assert (found.cases, found.p, found.reason) == (0, None, "no case in common")
    assert math.isnan(found.difference)


def test_a_case_without_a_score_is_left_out_of_a_comparison() -> None:
    assert compare([0.5, math.nan], [0.25, 0.5]).cases == 1
