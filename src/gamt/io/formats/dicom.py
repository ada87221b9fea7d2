"""A DICOM series by SimpleITK: a folder that holds one, or any file of it."""

# SimpleITK has no types.
# mypy: allow-untyped-calls

from pathlib import Path
from typing import Any

import numpy as np

from gamt.io.format import MOST_RATIO, ImageError, StoredImage
from gamt.io.formats._itk import (
    ITK,
    LPS,
    check_declared,
    check_encoding,
    itk_reason,
    load_itk,
    read_information,
    to_stored,
)

NAME = "DICOM"
SUFFIXES = (".dcm",)
PACKAGE = ITK

_SERIES, _MODALITY, _POSITION = "0020|000e", "0008|0060", "0020|0032"
_UNEVEN = 0.1
"""Share of the step between slices by which steps may differ; more, and slices are missing."""


def recognises(path: Path, head: bytes) -> bool:
    """Says whether a file has DICOM's prefix, or a folder holds one that has."""
    if path.is_dir():
        return any(_has_prefix(file) for file in sorted(path.iterdir()) if file.is_file())
    return head[128:132] == b"DICM"


def read(path: Path, volume: int | None) -> StoredImage:
    """Reads a series; see `gamt.io.format.Format`."""
    check_encoding(path)
    sitk = load_itk()
    try:
        files = _find_series(sitk, path)
        if len(files) == 1:  # such as one file of many frames
            return to_stored(path, sitk.ReadImage(files[0], imageIO="GDCMImageIO"), volume)
        reader = sitk.ImageSeriesReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileNames(files)
        reader.MetaDataDictionaryArrayUpdateOn()
        stored = to_stored(path, reader.Execute(), volume)
    except RuntimeError as error:
        raise ImageError(path, f"can't be read: {itk_reason(error)}") from error
    if not all(reader.HasMetaDataKey(n, _POSITION) for n in range(len(files))):
        raise ImageError(path, "found slices that don't say where they lie (0020,0032)")
    texts = [reader.GetMetaData(n, _POSITION).split("\\") for n in range(len(files))]
    try:
        positions = np.array(texts, dtype=np.float64).reshape(-1, 3)
    except ValueError as error:
        raise ImageError(path, "found a slice's place (0020,0032) that isn't 3 numbers") from error
    return _place_slices(path, stored, positions)


def _has_prefix(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _find_series(sitk: Any, path: Path) -> list[str]:
    """Returns the files of the series, in the order of their places.

    Raises:
        ImageError: a folder has several series, or the series is no image.
    """
    folder = path if path.is_dir() else path.parent
    first = path
    # GDCM opens all that is there, and would wait for whoever writes into a pipe.
    for entry in folder.iterdir():
        if entry.is_fifo() or entry.is_char_device() or entry.is_block_device():
            raise ImageError(path, f"found {entry.name} in its folder, expected files alone")
    if path.is_dir():
        series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        if len(series) != 1:
            raise ImageError(path, f"found {len(series)} series, expected one: name a file of it")
        first = Path(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])[0])
    reader = read_information(first, "GDCMImageIO")
    modality = reader.GetMetaData(_MODALITY).strip() if reader.HasMetaDataKey(_MODALITY) else ""
    if modality == "SEG":
        raise ImageError(path, "found a DICOM segmentation, which isn't read; NIfTI or NRRD are")
    series = reader.GetMetaData(_SERIES).strip() if reader.HasMetaDataKey(_SERIES) else ""
    if not series.isascii():
        raise ImageError(path, f"found the series {series!r:.80}, expected digits and dots")
    files = [str(first)]
    if series:
        files = list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series))
    check_declared(path, reader, first.stat().st_size, MOST_RATIO, len(files))
    return files


def _place_slices(path: Path, stored: StoredImage, positions: Any) -> StoredImage:
    """Takes the way from slice to slice from the slices' own places.

    SimpleITK takes slices to follow each other at right angles, which those of a tilted gantry
    don't, and evenly, which they don't where some are missing.

    Args:
        path: for errors.
        stored: as SimpleITK reads it.
        positions: (slices, 3), the first voxel's place in each, LPS, mm.

    Raises:
        ImageError: slices are missing, or several lie in one place.
    """
    steps = np.diff(positions, axis=0)
    step = steps.mean(axis=0)
    length = float(np.linalg.norm(step))
    if length == 0 or (np.linalg.norm(steps - step, axis=1) > _UNEVEN * length).any():
        sizes = np.linalg.norm(steps, axis=1)
        found = f"found slices {sizes.min():.4g} to {sizes.max():.4g} mm apart"
        raise ImageError(path, f"{found}, expected one volume in even steps")
    affine = stored.affine.copy()
    affine[:3, 2] = LPS[:3, :3] @ step
    i, j, _ = stored.spacing_mm
    return StoredImage(stored.array, affine, (i, j, length))
