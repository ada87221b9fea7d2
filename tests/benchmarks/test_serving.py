"""The session at the client against the one in process, and what its figures are held to."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.serving import ServingRun, Start, measure, measure_start, serving_bars

MET = ServingRun(
    set_image=1.0,
    first_click=1.0,
    box=3.0,
    clicks=(0.2,) * 29 + (0.9,),
    dice=0.9,
    found=np.zeros((2, 3, 4), np.uint8),
)


@pytest.mark.parametrize(
    ("remote", "starts", "missed"),
    [
        (MET, (1.0, 1.4, 1.7), 0),
        (replace(MET, clicks=(0.4,) * 30), (1.0,), 1),
        (replace(MET, clicks=(0.2,) * 27 + (1.1,) * 3), (1.0,), 1),
        (replace(MET, found=np.ones((2, 3, 4), np.uint8)), (1.0,), 1),
        (MET, (1.0, 1.6, 1.7), 1),
    ],
)
def test_each_bar_is_missed_by_what_it_is_about(
    remote: ServingRun, starts: tuple[float, ...], missed: int
) -> None:
    found = serving_bars(remote, MET, [Start(seconds, 0.9, seconds + 2) for seconds in starts])
    assert sum(bar.met is False for bar in found) == missed


@pytest.mark.slow
def test_prompts_are_timed_at_the_client_and_in_process() -> None:
    remote, local = measure(shrink=8, clicks=2)
    assert len(remote.clicks) == len(local.clicks) == 2
    assert min(remote.set_image, remote.first_click, remote.box, *remote.clicks) > 0
    assert remote.dice > 0.7
    np.testing.assert_array_equal(remote.found, local.found)


@pytest.mark.slow
def test_a_start_takes_time() -> None:
    start = measure_start()
    assert 0 < start.healthz_seconds < start.claim_seconds
    assert start.healthz_cpu_seconds > 0
