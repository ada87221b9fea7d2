"""The scan as the page gets it: a NIfTI file whose axes run to the right, to the front and up."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from gamt.io.image import Image, read_image, write_image
from gamt.server.annotate import volume
from gamt.server.annotate.volume import choose_dtype, make_nifti, stream, stream_gzipped


def image_of(array: npt.NDArray[Any], folder: Path) -> Image:
    path = folder / "scan.nii.gz"
    write_image(path, array, spacing_mm=(2.5, 0.75, 0.5))
    return read_image(path)


def parse(content: bytes) -> Any:
    return nib.Nifti1Image.from_bytes(content)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([False, True]), np.uint8),
        (np.array([0, 255], np.int64), np.uint8),
        (np.array([-1, 255], np.int32), np.int16),
        (np.array([0, 32767], np.uint16), np.int16),
        (np.array([0, 32768], np.uint16), np.float32),
        (np.array([-1024.0, 3071.0]), np.int16),
        (np.array([0.0, 0.5]), np.float32),
        (np.array([0.0, np.nan]), np.float32),
    ],
)
def test_values_travel_in_the_smallest_type_that_holds_them(
    values: npt.NDArray[Any], expected: type
) -> None:
    assert choose_dtype(values.reshape(2, 1, 1)) == expected


def test_the_first_voxel_is_the_one_most_to_the_left_of_the_file_back_and_down(
    tmp_path: Path,
) -> None:
    # (z, y, x) towards head, back and left; the page's (i, j, k) towards right, front and head.
    array = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4) - 5
    sent = parse(b"".join(make_nifti(image_of(array, tmp_path), np.dtype(np.int16))))
    content = np.asarray(sent.dataobj)
    assert content.shape == (4, 3, 2)
    assert content[0, 0, 0] == array[0, 2, 3]
    assert content[3, 0, 0] == array[0, 2, 0]
    assert content[0, 2, 0] == array[0, 0, 3]
    assert content[0, 0, 1] == array[1, 2, 3]


def test_the_header_has_the_spacing_and_turns_no_axis(tmp_path: Path) -> None:
    oblique = np.zeros((2, 3, 4), np.uint8)
    image = image_of(oblique, tmp_path)
    turned = np.array([[0.6, -0.8, 0, 0], [0.8, 0.6, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    image = Image(
        image.path,
        image.name,
        image.array,
        image.spacing_mm,
        turned @ image.affine,
        image.turn,
        image.header,
        None,
    )
    header = parse(b"".join(make_nifti(image, np.dtype(np.uint8)))).header
    np.testing.assert_allclose(header.get_zooms(), (0.5, 0.75, 2.5))
    np.testing.assert_allclose(header.get_best_affine(), np.diag([0.5, 0.75, 2.5, 1]))


def test_what_no_screen_shows_is_made_finite(tmp_path: Path) -> None:
    array = np.array([0.5, np.nan, np.inf, -np.inf, 1e300], np.float64).reshape(1, 1, 5)
    sent = parse(b"".join(make_nifti(image_of(array, tmp_path), np.dtype(np.float32))))
    most = float(np.finfo(np.float32).max)
    # i runs against x
    assert np.asarray(sent.dataobj).ravel().tolist() == [most, -most, most, 0.0, 0.5]


def test_streams_hold_the_file_compressed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume, "CHUNK_BYTES", 100)
    array = np.random.default_rng(0).integers(-900, 900, (11, 7, 5)).astype(np.int16)
    image = image_of(array, tmp_path)
    whole = b"".join(make_nifti(image, np.dtype(np.int16)))

    async def collect(parts: AsyncIterator[bytes]) -> bytes:
        return b"".join([part async for part in parts])

    async def test() -> None:
        assert await collect(stream(make_nifti(image, np.dtype(np.int16)))) == whole
        fast = await collect(stream_gzipped(make_nifti(image, np.dtype(np.int16))))
        assert gzip.decompress(fast) == whole

    asyncio.run(test())


def test_a_browser_that_is_slow_gets_less_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume, "CHUNK_BYTES", 10_000)
    image = image_of(np.zeros((40, 100, 100), np.int16), tmp_path)  # 800 kB of zeros

    async def size(seconds: float) -> int:
        total = 0
        async for part in stream_gzipped(make_nifti(image, np.dtype(np.int16))):
            total += len(part)
            await asyncio.sleep(seconds)
        return total

    monkeypatch.setattr(volume, "SLOW_BYTES_PER_SECOND", 1e-9)
    assert asyncio.run(size(0)) > 800_000
    monkeypatch.setattr(volume, "SLOW_BYTES_PER_SECOND", 1e12)
    assert asyncio.run(size(0.001)) < 50_000
