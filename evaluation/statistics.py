"""Confidence intervals of mean scores, and tests of whether two methods differ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

CONFIDENCE = 0.95

LEAST_CASES = 6
"""Of an interval. Even from the lowest to the highest of n scores, the widest that resampling can
give, an interval misses the mean of a symmetric distribution for 2^(1 - n) of all samples: that is
50 % for two cases, 6 % for five and 3 % for six, the first below the 5 % that are promised."""

_SEED = 2025
_RESAMPLES = 9999

# Resamples at a time, so that memory stays small however many cases there are.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two methods on the same cases.

    Attributes:
        cases: on which both have a score.
        difference: mean of the first method's scores less the second's; NaN without a case.
        p: two-sided, of Wilcoxon's signed-rank test; None where there is none.
        reason: why there is no `p`.
    """

    cases: int
    difference: float
    p: float | None
    reason: str | None


def confidence_interval(scores: Sequence[float]) -> tuple[float, float] | None:
    """Returns the 95 % percentile bootstrap interval of the mean over cases.

    The resamples are drawn from a fixed seed.

    Args:
        scores: one a case; NaN doesn't count.

    Returns:
        (low, high); None for fewer than `LEAST_CASES` scores, or if all are equal: resamples then
        tell nothing.
    """
    values = np.asarray(scores, np.float64)
    values = values[~np.isnan(values)]
    if len(values) < LEAST_CASES or len(np.unique(values)) < 2:
        return None
    interval = stats.bootstrap(
        (values,),
        _mean,
        n_resamples=_RESAMPLES,
        batch=_BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Compares two methods case by case, by Wilcoxon's signed-rank test.

    Cases without a difference tell nothing about its sign and are left out of the test, as
    Wilcoxon has it.

    Args:
        first: scores of one method, one a case; cases with a NaN don't count.
        second: scores of the other method, on the same cases in the same order.
    """
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    differences = differences[~np.isnan(differences)]
    if len(differences) == 0:
        return Comparison(0, math.nan, None, "no case in common")
    mean = float(differences.mean())
    nonzero = differences[differences != 0]
    if len(nonzero) == 0:
        return Comparison(len(differences), mean, None, "all differences are zero")
    return Comparison(len(differences), mean, float(stats.wilcoxon(nonzero).pvalue), None)


def _mean(values: npt.NDArray[np.float64], axis: int = -1) -> npt.NDArray[np.float64]:
    return np.asarray(values.mean(axis=axis))
