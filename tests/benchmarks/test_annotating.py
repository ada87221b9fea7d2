"""What the page's figures are held to."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.annotating import Start, annotating_bars
from benchmarks.serving import ServingRun

MET = ServingRun(
    set_image=1.0,
    first_click=1.0,
    box=3.0,
    clicks=(0.2,) * 30,
    dice=0.9,
    found=np.zeros((2, 3, 4), np.uint8),
)
START = Start(
    state_seconds=2.0,
    picture_seconds=2.2,
    volume_seconds=0.2,
    volume_cpu_seconds=0.1,
    volume_bytes=2**25,
)


@pytest.mark.parametrize(
    ("remote", "start", "missed"),
    [
        (MET, START, 0),
        (replace(MET, clicks=(0.215,) * 30), START, 0),
        (replace(MET, clicks=(0.225,) * 30), START, 1),
        (replace(MET, found=np.ones((2, 3, 4), np.uint8)), START, 1),
        (MET, replace(START, picture_seconds=2.6), 1),
        (MET, replace(START, volume_cpu_seconds=0.6), 1),
    ],
)
def test_each_bar_is_missed_by_what_it_is_about(
    remote: ServingRun, start: Start, missed: int
) -> None:
    found = annotating_bars(remote, MET, [start] * 3)
    assert sum(bar.met is False for bar in found) == missed
