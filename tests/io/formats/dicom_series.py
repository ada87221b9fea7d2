"""DICOM series for tests, written by SimpleITK."""

# SimpleITK has no types.
# mypy: allow-untyped-calls

import locale
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def write_series(
    folder: Path,
    array: npt.NDArray[np.int16],
    affine: npt.NDArray[np.float64],
    series: str = "1.2.826.1",
    modality: str = "MR",
    places: Sequence[float] | None = None,
) -> Path:
    """Writes a slice a file, with names in the reverse order of the slices' places.

    Args:
        folder: of the files; made where there is none.
        array: (i, j, k), a slice for each k.
        affine: (4, 4), from (i, j, k) to RAS coordinates, mm.
        series: the identifier.
        modality: such as CT.
        places: of the slices, in steps of k; 0, 1, 2, ... by default.
    """
    import SimpleITK as sitk  # noqa: N813 - its usual name

    folder.mkdir(exist_ok=True)
    lps: npt.NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    count = array.shape[2]
    for k, place in enumerate(range(count) if places is None else places):
        image: Any = sitk.GetImageFromArray(array[:, :, k : k + 1].T)
        image.SetSpacing(spacing.tolist())
        position = (lps @ (0, 0, place, 1))[:3]
        tags = {
            "0008|0060": modality,
            "0020|000d": "1.2.826.0",
            "0020|000e": series,
            "0020|0013": str(k + 1),
            "0020|0032": _join(position),
            "0020|0037": _join(direction[:, :2].T.ravel()),
            "0018|0050": f"{spacing[2]:g}",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{series}-{count - k:03}.dcm"))
        with _kept_locale():
            writer.Execute(image)
    return folder


@contextmanager
def _kept_locale() -> Iterator[None]:
    """Puts back the process's locale, which writing DICOM leaves at "C": text would be ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


def _join(numbers: npt.NDArray[np.float64]) -> str:
    return "\\".join(f"{number:.9g}" for number in numbers)
