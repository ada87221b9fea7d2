"""The readers of untrusted files, each with honest files of its kind and what it may say no with.

Both drivers use these: hypothesis (tests/benchmarks/fuzz/test_readers.py) and atheris
(`benchmarks.fuzz.guided`).
"""

# SimpleITK and nibabel have types in part only.
# mypy: allow-untyped-calls

import atexit
import gzip
import io
import json
import pickle
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from benchmarks.fuzz.honest import SHAPE, draw_case
from benchmarks.fuzz.npz import honest_npz
from gamt.axes import Plane
from gamt.io import prompts_file
from gamt.io.case import CaseError, read_case
from gamt.io.format import ImageError
from gamt.io.formats._itk import load_itk
from gamt.io.image import Image, read_image, read_label_names, read_labels, write_image
from gamt.io.json_files import JsonError
from gamt.io.pickles import NpyError, load_plain
from gamt.io.prompts_file import SavedPrompts
from gamt.prompts import Click, LabelledPrompt, Lasso, Region, Scribble, SliceBox
from gamt.server import frames
from gamt.windows import IntensityWindow

_MOST_CHARACTERS = 1000
"""Of a message."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A way in for bytes of others.

    Attributes:
        read: takes the bytes.
        refusals: what it raises if they won't do.
        honest: returns bytes that will.
    """

    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    honest: Callable[[], Sequence[bytes]]


def check(reader: Reader, data: bytes) -> bool:
    """Says whether bytes are read; they may be refused, in a short line, and no more.

    Raises:
        AssertionError: they are refused in another way.
        Exception: whatever else happens.
    """
    try:
        reader.read(data)
    except reader.refusals as error:
        message = str(error)
        assert len(message) <= _MOST_CHARACTERS, f"{len(message)} characters: {message[:300]}"
        for text in ("Traceback", "MemoryError", "SystemError", "RecursionError", "object at 0x"):
            assert text not in message, message
        return False
    return True


def _read_npz(data: bytes) -> object:
    return read_case(_put("case.npz", data))


def _honest_npz() -> Sequence[bytes]:
    return [honest_npz(draw_case(np.random.default_rng(n))) for n in range(6)]


def _read_pickle(data: bytes) -> object:
    return load_plain(data)


def _honest_pickles() -> Sequence[bytes]:
    found = []
    for n in range(6):
        case = draw_case(np.random.default_rng(n))
        found += [pickle.dumps(one, n) for one in case.values() if one.dtype == object]
    return found


def _read_image(name: str, data: bytes) -> object:
    path = _put(name, data)
    read_label_names(path)
    image = read_image(path, 0)
    if image.array.size < 10_000:
        with suppress(ImageError):  # few images are segmentations
            read_labels(path, image)
    return image


def _honest_nifti() -> Sequence[bytes]:
    array = _body()
    affine = np.diag([-0.5, -1.5, 4.0, 1.0])
    volumes = np.stack([array, array], axis=3)
    scaled = nib.Nifti1Image(array, affine)
    scaled.header.set_slope_inter(2.0, -3.0)
    placed = nib.Nifti1Image(array.astype(np.float32), affine)
    placed.set_qform(affine, code=2)
    placed.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"of no use"))
    kinds = (
        nib.Nifti1Image(array, affine),
        nib.Nifti2Image(array, affine),
        scaled,
        placed,
        nib.Nifti1Image(volumes, affine),
    )
    return [one.to_bytes() for one in kinds]


def _honest_gzip() -> Sequence[bytes]:
    return [gzip.compress(one, mtime=0) for one in _honest_nifti()]


def _honest_itk(suffix: str) -> Sequence[bytes]:
    path = Path(_folder()) / f"honest{suffix}"
    write_image(path, _body().T, names={1: "ball"} if "seg" in suffix else {})
    packed = path.read_bytes()
    unpacked = load_itk().ReadImage(str(path))
    load_itk().WriteImage(unpacked, str(path), useCompression=False)
    return [packed, path.read_bytes()]


def _read_prompts(data: bytes) -> object:
    return prompts_file.read_prompts(_put("a.prompts.json", data), _image(), {"a": 1}, lambda: 1)


def _honest_prompts() -> Sequence[bytes]:
    image = _image()
    area = np.zeros(image.array.shape, np.bool_)
    area[2, 3:6, 2:5] = True
    voxels = np.argwhere(area)
    prompts = (
        LabelledPrompt(1, image.box((1, 0, 2), (3, 5, 4), ras=False)),
        LabelledPrompt(2, Click(1, 2, 3, positive=True)),
        LabelledPrompt(2, Click(2, 2, 3, positive=False)),
        LabelledPrompt(1, SliceBox(Plane.AXIAL, (1, 2, 3), (2, 5, 6))),
        LabelledPrompt(1, Scribble(voxels, positive=True)),
        LabelledPrompt(1, Region((2, 3, 2), area[2:3, 3:6, 2:5], positive=False)),
        LabelledPrompt(3, Lasso(Plane.AXIAL, (2, 3, 2), (3, 6, 5), area[2, 3:6, 2:5])),
    )
    saved = SavedPrompts(prompts, {1: "Leber ä"}, {2: IntensityWindow(-160.0, 240.0)})
    found = []
    for one in (saved, SavedPrompts(prompts[:2], {}, {})):
        file = io.BytesIO()
        prompts_file.write_prompts(file, image, one, "statistical")
        found.append(file.getvalue())
    return found


def _honest_markups() -> Sequence[bytes]:
    x, y, z = (float(n) for n in _image().affine[:3, 3])
    points = {
        "type": "Fiducial",
        "name": "1",
        "coordinateSystem": "RAS",
        "coordinateUnits": "mm",
        "controlPoints": [
            {"label": "F-1", "position": [x, y, z], "positionStatus": "defined"},
            {"label": "negative", "position": [x, y, z + 1], "positionStatus": "defined"},
        ],
    }
    roi = {
        "type": "ROI",
        "center": [x, y, z],
        "size": [4.0, 4.0, 4.0],
        "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        "coordinateSystem": "RAS",
    }
    both = ([points], [roi], [points, roi])
    return [json.dumps({"@schema": "markups", "markups": one}).encode() for one in both]


def _read_frame(data: bytes) -> object:
    with suppress(frames.FrameError):
        frames.unpack_mask(data, 1 << 20)
    return frames.unpack(data, 1 << 22)


def _honest_frames() -> Sequence[bytes]:
    rng = np.random.default_rng(0)
    arrays = (
        rng.integers(0, 200, (1, 5, 12, 10)).astype(np.int16),
        rng.random((5, 12, 10)).astype(np.float32),
        np.ones((5, 12, 10), np.uint8),
        rng.random((5, 12, 10)) > 0.5,
        np.zeros((0, 3), np.float64),
    )
    return [frames.pack(one) for one in arrays]


def _body() -> npt.NDArray[np.int16]:
    """Returns an image, (i, j, k)."""
    array = np.zeros(SHAPE[::-1], np.int16)
    array[3:7, 3:8, 1:4] = 1
    return array


@cache
def _image() -> Image:
    """Returns the image that prompts are about."""
    path = Path(_folder()) / "scan.nii"
    path.write_bytes(_honest_nifti()[0])
    return read_image(path)


@cache
def _folder() -> str:
    """Returns a folder of this process's own, which is removed when it ends."""
    folder = tempfile.TemporaryDirectory(prefix="gamt-fuzz-")
    atexit.register(folder.cleanup)
    return folder.name


def _put(name: str, data: bytes) -> Path:
    path = Path(_folder()) / name
    path.write_bytes(data)
    return path


READERS = {
    "npz": Reader(_read_npz, (CaseError,), _honest_npz),
    "pickle": Reader(_read_pickle, (NpyError,), _honest_pickles),
    "nifti": Reader(partial(_read_image, "scan.nii"), (ImageError,), _honest_nifti),
    "nifti-gzip": Reader(partial(_read_image, "scan.nii.gz"), (ImageError,), _honest_gzip),
    "metaimage": Reader(
        partial(_read_image, "scan.mha"), (ImageError,), partial(_honest_itk, ".mha")
    ),
    "nrrd": Reader(
        partial(_read_image, "scan.nrrd"), (ImageError,), partial(_honest_itk, ".seg.nrrd")
    ),
    "prompts": Reader(_read_prompts, (JsonError,), _honest_prompts),
    "markups": Reader(_read_prompts, (JsonError,), _honest_markups),
    "frames": Reader(_read_frame, (frames.FrameError,), _honest_frames),
}
"""By name."""
