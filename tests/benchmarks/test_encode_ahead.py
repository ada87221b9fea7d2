"""What encoding ahead spares is told."""

import asyncio

import pytest

from benchmarks import encode_ahead


@pytest.mark.slow
def test_clicks_wait_for_fewer_slices_where_they_are_encoded_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (
        ("SHAPE", (24, 28, 32)),
        ("CENTRE", (11, 14, 16)),
        ("HALF_AXES", (6, 8, 9)),
        ("CLICKS", ((11, 14, 16), (11, 14, 24))),
        ("SLICE_SECONDS", 0.0),
    ):
        monkeypatch.setattr(encode_ahead, name, value)
    image = encode_ahead.draw_image()
    plain, ahead = (asyncio.run(encode_ahead.measure(image, 0.5, each)) for each in (False, True))
    assert plain[0][1] > 0
    assert ahead[0][1] < plain[0][1]
