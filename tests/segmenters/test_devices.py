"""Choice of device and precision, and batches that shrink where memory runs out."""

from collections.abc import Sequence

import pytest
import torch

from gamt.segmenters import SegmenterError
from gamt.segmenters.devices import (
    LARGEST_BATCH,
    choose_batch,
    choose_device,
    choose_dtype,
    in_batches,
)

CPU = torch.device("cpu")
GPU = torch.device("cuda")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, False, "cuda"), (False, True, "mps"), (True, True, "cuda"), (False, False, "cpu")],
)
def test_the_device_is_a_gpu_where_there_is_one(
    cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == torch.device(expected)


def test_a_named_device_is_taken() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda:99", "toaster", "", "cpu:x"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(SegmenterError, match=f"device '{name}' can't be used: ."):
        choose_device(name)


@pytest.mark.parametrize(("amx", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_takes_bfloat16_where_it_has_matrix_units(
    amx: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx, "avx512_bf16": True}, raising=False
    )
    assert choose_dtype("auto", CPU) == expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choose_dtype("auto", CPU) == expected


def test_other_devices_take_what_they_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert choose_dtype("auto", GPU) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert choose_dtype("auto", GPU) == torch.float32
    assert choose_dtype("auto", torch.device("mps")) == torch.float32


def test_a_precision_can_be_forced() -> None:
    assert choose_dtype("float32", GPU) == torch.float32
    assert choose_dtype("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(SegmenterError, match="'half'; expected auto, float32, bfloat16"):
        choose_dtype("half", CPU)


def test_batches_on_a_cpu_go_by_the_size_of_the_input() -> None:
    assert choose_batch(CPU, 1024, 10**6) == 1
    assert choose_batch(CPU, 256, 10**6) == 8


def test_batches_on_a_gpu_go_by_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gigabyte = 10**9
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 * gigabyte, 80 * gigabyte))
    # Half of 8 GB.
    assert choose_batch(GPU, 1024, gigabyte) == 4
    assert choose_batch(GPU, 1024, 9 * gigabyte) == 1
    assert choose_batch(GPU, 1024, 1000) == LARGEST_BATCH


class Worker:
    """Squares numbers, up to `room` of them at once."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.batches: list[int] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(len(numbers))
        if len(numbers) > self.room:
            raise torch.OutOfMemoryError("no room")
        return [number**2 for number in numbers]


def test_items_are_worked_on_in_batches() -> None:
    worker = Worker(4)
    assert in_batches(worker, range(10), 4) == [n**2 for n in range(10)]
    assert worker.batches == [4, 4, 2]
    assert in_batches(worker, [], 4) == []
    assert len(worker.batches) == 3


def test_batches_are_halved_until_memory_suffices() -> None:
    worker = Worker(3)
    assert in_batches(worker, range(20), 16) == [n**2 for n in range(20)]
    assert worker.batches == [16, 8, 4, *[2] * 10]


def test_a_last_batch_that_is_small_is_halved_from_its_own_size() -> None:
    worker = Worker(1)
    assert in_batches(worker, range(3), 16) == [0, 1, 4]
    assert worker.batches == [3, 1, 1, 1]


def test_lack_of_memory_for_a_single_item_is_an_error() -> None:
    worker = Worker(0)
    with pytest.raises(torch.OutOfMemoryError):
        in_batches(worker, range(5), 4)
    assert worker.batches == [4, 2, 1]
