"""Points that stand for a scribble or an area: few of them, and far from each other."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gamt.axes import most_central


def spread_out(
    places: npt.NDArray[np.intp], scale: Sequence[float], most: int
) -> npt.NDArray[np.intp]:
    """Chooses places that are far from each other, the middle one first.

    Each is the one that is farthest from those before.

    Args:
        places: (N, D) distinct indices, N > 0.
        scale: length of a step on each of the D axes.
        most: how many are chosen at most.

    Returns:
        (M, D) of the places, with M = min(N, most).
    """
    points = places * np.asarray(scale, float)
    first = most_central(points)
    chosen = [first]
    away = np.linalg.norm(points - points[first], axis=1)
    while len(chosen) < min(most, len(places)):
        chosen.append(int(np.argmax(away)))
        np.minimum(away, np.linalg.norm(points - points[chosen[-1]], axis=1), out=away)
    return places[chosen]
