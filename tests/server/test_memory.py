"""Memory is refused before it runs out."""

import platform

import numpy as np
import psutil
import pytest

from gamt.server.memory import Memory, TooLarge, give_back

MB = 2**20


def test_what_all_have_reserved_counts() -> None:
    memory = Memory(10 * MB)
    memory.reserve("a", "image", 6 * MB)
    memory.reserve("b", "image", 4 * MB)
    with pytest.raises(TooLarge, match=r"found that 1 MB .* 0 MB that the server has left"):
        memory.reserve("b", "target buffer", 1 * MB)
    assert memory.reserved_bytes == 10 * MB


def test_another_image_takes_the_place_of_the_one_before() -> None:
    memory = Memory(10 * MB)
    memory.reserve("a", "image", 8 * MB)
    memory.reserve("a", "image", 9 * MB)
    assert memory.reserved_bytes == 9 * MB


def test_what_is_refused_leaves_the_earlier_one_reserved() -> None:
    memory = Memory(10 * MB)
    memory.reserve("a", "image", 8 * MB)
    with pytest.raises(TooLarge):
        memory.reserve("a", "image", 11 * MB)
    assert memory.reserved_bytes == 8 * MB


def test_what_is_released_can_be_reserved_by_others() -> None:
    memory = Memory(10 * MB)
    memory.reserve("a", "image", 6 * MB)
    memory.reserve("a", "target buffer", 4 * MB)
    memory.release("a")
    memory.reserve("b", "image", 10 * MB)
    assert memory.reserved_bytes == 10 * MB


def test_what_is_lent_counts_until_the_end_of_the_block() -> None:
    memory = Memory(10 * MB)
    with memory.lend("upload", 6 * MB), memory.lend("upload", 4 * MB):
        with pytest.raises(TooLarge, match="upload: found that 1 MB"), memory.lend("upload", MB):
            pass
        memory.release("a")  # who may have asked for it
        assert memory.reserved_bytes == 10 * MB
    assert memory.reserved_bytes == 0


def test_what_is_handed_over_stays_in_place_of_what_was_there() -> None:
    memory = Memory(10 * MB)
    memory.reserve("a", "image", 3 * MB)
    with memory.lend("image", 5 * MB) as borrower:
        assert memory.reserved_bytes == 8 * MB  # both images are there
        memory.hand_over(borrower, "a", "image")
        assert memory.reserved_bytes == 5 * MB
    assert memory.reserved_bytes == 5 * MB
    memory.release("a")
    assert memory.reserved_bytes == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps free memory")
def test_memory_that_is_free_is_given_back() -> None:
    process = psutil.Process()
    # Too small to be mapped each by itself, and freed but for the last, which is in the way.
    held = [np.ones(2**13) for _ in range(2**10)]
    del held[:-1]
    before = process.memory_info().rss
    give_back()
    assert process.memory_info().rss <= before - 32 * MB  # of 64
