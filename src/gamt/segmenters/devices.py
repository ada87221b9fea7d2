"""Where a network runs, in which precision, and how much of its input at once."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from gamt.segmenters import SegmenterError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The precisions that a user can ask for, by name."""

LARGEST_BATCH = 16
"""Items at once at most: more make a GPU no faster, and a walk along slices wants few ahead
(docs/constants.md)."""

MEMORY_SHARE = 0.5
"""Share of a GPU's free memory that a batch may take (docs/constants.md)."""

BATCH_PIXELS = 8 * 256**2
"""Pixels at once elsewhere: one slice of 1024 px keeps all cores busy, one of 256 px does not
(docs/constants.md)."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def choose_device(name: str) -> torch.device:
    """Returns the device of a name; ``auto`` takes a GPU where there is one.

    Args:
        name: ``auto``, or one of torch's names such as ``cpu``, ``cuda:1`` or ``mps``.

    Raises:
        SegmenterError: torch does not know it, or the machine does not have it.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        if is_out_of_memory(error):  # it is there, and who needs it takes the CPU instead
            return device
        reason = str(error).strip().partition("\n")[0]
        raise SegmenterError(f"device {name!r} can't be used: {reason}") from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Returns the precision of a name; ``auto`` takes bfloat16 where the device has units for it.

    Args:
        name: ``auto``, or one of `DTYPES`.
        device: where the network is going to run.

    Raises:
        SegmenterError: there is no such precision.
    """
    if name == "auto":
        return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise SegmenterError(f"no precision is named {name!r}; expected auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return torch.cpu._is_amx_tile_supported()


def choose_batch(device: torch.device, side: int, bytes_each: int) -> int:
    """Returns how many items a network best works on at once.

    Args:
        device: where it runs.
        side: of its square input, in pixels.
        bytes_each: of memory that an item takes meanwhile.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return max(1, min(LARGEST_BATCH, int(free * MEMORY_SHARE) // bytes_each))
    return max(1, BATCH_PIXELS // side**2)


def is_out_of_memory(error: BaseException) -> bool:
    """Says whether a device had no room for something.

    On a full GPU, torch's own allocator raises `torch.OutOfMemoryError`; the driver, and libraries
    that allocate by themselves, can be told by their message alone.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    texts = "out of memory", "ALLOC_FAILED"
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)


def in_batches(
    function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], size: int
) -> list[Result]:
    """Applies a function to batches of items, to smaller ones where memory does not suffice.

    Args:
        function: returns one result an item.
        items: any number of them.
        size: of a batch, at most.

    Raises:
        RuntimeError: the memory does not even suffice for one item (`is_out_of_memory`).
    """
    results: list[Result] = []
    while len(results) < len(items):
        batch = items[len(results) : len(results) + size]
        try:
            results += function(batch)
        except RuntimeError as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            size = len(batch) // 2
        else:
            continue
        # Outside of the handler, whose traceback holds on to the batch's memory.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return results
