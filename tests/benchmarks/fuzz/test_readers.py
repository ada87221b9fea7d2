"""Bytes of others: whatever they are, a reader reads or refuses them, and does nothing else."""

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz.readers import READERS, check
from benchmarks.fuzz.spoiling import spoil_bytes

EXAMPLES = int(os.environ.get("GAMT_FUZZ_EXAMPLES", "10"))
"""Of each kind and reader; `make fuzz` asks for more."""

FUZZ = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow], derandomize=EXAMPLES == 10
)


@pytest.mark.parametrize("name", READERS)
def test_honest_bytes_are_read(name: str) -> None:
    assert all(check(READERS[name], data) for data in READERS[name].honest())


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@given(seed=st.integers(0, 2**64 - 1), data=st.data())
@FUZZ
def test_spoilt_bytes_are_read_or_refused(name: str, seed: int, data: Any) -> None:
    honest = data.draw(st.sampled_from(READERS[name].honest()))
    check(READERS[name], spoil_bytes(honest, np.random.default_rng(seed)))


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@FUZZ
def test_bytes_in_place_of_others_are_read_or_refused(name: str, data: Any) -> None:
    honest = data.draw(st.sampled_from(READERS[name].honest()))
    at = data.draw(st.integers(0, len(honest)))
    other = data.draw(st.binary(max_size=16))
    check(READERS[name], honest[:at] + other + honest[at + len(other) :])


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@given(data=st.binary(max_size=600))
@FUZZ
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    check(READERS[name], data)
