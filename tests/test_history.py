"""Steps back and forth, and masks in little memory."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from gamt import history
from gamt.history import History, PackedMask, count_bytes


@dataclass(frozen=True)
class Number:
    """A state of three bytes, unless it is said what it holds."""

    value: int
    arrays: list[npt.NDArray[np.uint8]] = field(default_factory=lambda: [np.zeros(3, np.uint8)])


def steps(count: int) -> History[Number]:
    found = History(Number(0))
    for value in range(1, count):
        found.advance(Number(value))
    return found


def test_any_number_of_steps_goes_back_and_forth() -> None:
    found = steps(4)
    values = [found.state.value]
    while found.before is not None:
        found.back()
        values.append(found.state.value)
    assert values == [3, 2, 1, 0]
    while found.after is not None:
        found.forward()
        values.append(found.state.value)
    assert values == [3, 2, 1, 0, 1, 2, 3]


def test_a_new_step_forgets_what_was_taken_back() -> None:
    found = steps(3)
    found.back()
    found.advance(Number(9))
    assert found.after is None
    found.back()
    assert found.state.value == 1


def test_the_oldest_steps_are_forgotten_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_BYTES", 9)  # three states of three bytes
    found = steps(6)
    values = []
    while found.before is not None:
        found.back()
        values.append(found.state.value)
    assert values == [4, 3]


def test_the_oldest_step_can_be_forgotten_by_itself() -> None:
    found = steps(4)
    found.back()
    found.forget_oldest()
    assert [one.value for one in found.past] == [1]
    assert [one.value for one in found.states] == [1, 2, 3]


def test_what_several_steps_hold_together_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_BYTES", 9)
    shared = np.zeros(6, np.uint8)
    found = History(Number(0, [shared]))
    for value in range(1, 6):
        found.advance(Number(value, [shared, np.zeros(1, np.uint8)]))
    values = []
    while found.before is not None:  # 6 bytes together, and one in each of the last three
        found.back()
        values.append(found.state.value)
    assert values == [4, 3]


def test_a_value_that_is_repeated_takes_no_memory() -> None:
    assert count_bytes([np.broadcast_to(np.True_, (300, 512, 512)), np.zeros(5)]) == 40


@pytest.mark.parametrize("inside", [np.s_[1:4, 2:5, 3:6], np.s_[0:0], np.s_[:]])
def test_a_packed_mask_is_the_same_when_it_is_unpacked(inside: tuple[slice, ...]) -> None:
    mask = np.zeros((5, 6, 7), np.bool_)
    mask[inside] = np.random.default_rng(0).random(mask[inside].shape) < 0.5
    packed = PackedMask.of(mask)
    np.testing.assert_array_equal(packed.unpack(), mask)
    assert packed.bits.nbytes <= -(-mask.size // 8)


def test_a_small_body_in_a_large_scan_takes_little_memory() -> None:
    mask = np.zeros((100, 200, 300), np.bool_)
    mask[50:58, 90:98, 100:108] = True
    assert PackedMask.of(mask).bits.nbytes == 8 * 8 * 8 // 8
