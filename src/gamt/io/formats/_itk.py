"""What the formats share that SimpleITK reads and writes.

SimpleITK places voxels in LPS coordinates, the package in RAS: the first two change their sign.
"""

# SimpleITK has no types.
# mypy: allow-untyped-calls

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.io.format import ImageError, StoredImage, check_memory, check_size, choose_volume

ITK = ("SimpleITK", "itk")
"""The package, and the extra that brings it."""

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""(4, 4), from LPS coordinates to RAS, and back."""

_MOST_REASON = 300
"""Characters; some quote what they read."""
_NO_REASON = "Reason: Success"  # of the system, where that isn't to blame
_OBJECT = re.compile(r"^(ITK ERROR|itk::ERROR): \w+\(\w+\): ")


def load_itk() -> Any:
    """Imports SimpleITK, whose warnings would go past the log."""
    import SimpleITK as sitk  # noqa: N813 - its usual name

    sitk.ProcessObject_SetGlobalWarningDisplay(False)
    return sitk


def check_encoding(path: Path) -> None:
    """Refuses names at which SimpleITK ends the whole process.

    Raises:
        ImageError: the name, or that of one of its folders, isn't UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        found = f"found the path {os.fsencode(path)!r}"
        raise ImageError(path, f"{found}, expected names in UTF-8") from error


def read_file(path: Path, image_io: str, volume: int | None, data: Path, ratio: int) -> StoredImage:
    """Reads a file by one of SimpleITK's readers, whatever the file's suffix.

    Args:
        path: the file.
        image_io: the reader.
        volume: which one of several.
        data: the file that has the voxels.
        ratio: bytes that a byte of it becomes at most; 1 where it isn't compressed.

    Raises:
        ImageError: the file is broken, or holds no such volume, or its name isn't UTF-8, or its
            header declares more than the file has, or the memory has room for.
    """
    check_encoding(path)
    try:
        check_declared(path, read_information(path, image_io), data.stat().st_size, ratio)
        image = load_itk().ReadImage(str(path), imageIO=image_io)
    except RuntimeError as error:
        raise ImageError(path, f"can't be read: {itk_reason(error)}") from error
    return to_stored(path, image, volume)


def read_information(path: Path, image_io: str) -> Any:
    """Returns a reader that has read a file's header alone.

    Raises:
        RuntimeError: SimpleITK's, if the file is broken.
    """
    reader = load_itk().ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def check_declared(path: Path, reader: Any, stored_bytes: int, ratio: int, files: int = 1) -> None:
    """Refuses what can't be in the file, or in memory, before any is taken.

    Args:
        path: for errors.
        reader: has read the header, which declares the image.
        stored_bytes: that the file has.
        ratio: bytes that a byte of it becomes at most.
        files: that are to be read, each as large.

    Raises:
        ImageError: it is too large.
    """
    pixel = load_itk().Image([1, 1], reader.GetPixelID())
    voxel_bytes = reader.GetNumberOfComponents() * pixel.GetSizeOfPixelComponent()
    size = [max(1, length) for length in reader.GetSize()]
    check_size(path, size, voxel_bytes, stored_bytes, ratio)
    check_memory(path, (*size, files), 3 * voxel_bytes)  # two copies beside SimpleITK's


def read_header(path: Path, image_io: str) -> dict[str, str]:
    """Reads the texts of a file's header, by key; none whose key isn't ASCII.

    Raises:
        ImageError: the file is broken.
    """
    try:
        reader = read_information(path, image_io)
    except RuntimeError as error:
        raise ImageError(path, f"can't be read: {itk_reason(error)}") from error
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys() if key.isascii()}


def to_stored(path: Path, image: Any, volume: int | None) -> StoredImage:
    """Takes over one volume of a SimpleITK image.

    Further axes, and components such as colours, count as volumes.

    Raises:
        ImageError: the image has fewer than three axes, or no voxels, or no such volume.
    """
    dimension, size = image.GetDimension(), image.GetSize()
    if dimension < 3 or 0 in size:
        raise ImageError(path, f"found an image of size {size}, expected a 3-D volume")
    components = image.GetNumberOfComponentsPerPixel()
    index = choose_volume(path, math.prod(size[3:]) * components, volume)
    array = load_itk().GetArrayViewFromImage(image)
    array = array.reshape(-1, *size[2::-1], components)
    array = array[(index // components, ..., index % components)].T.copy()
    spacing = image.GetSpacing()[:3]
    affine = np.eye(4)
    direction = np.reshape(image.GetDirection(), (dimension, dimension))[:3, :3]
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = image.GetOrigin()[:3]
    return StoredImage(array, LPS @ affine, spacing)


def write_file(path: Path, image: StoredImage, metadata: Mapping[str, str]) -> None:
    """Writes a compressed file of the format of the path's suffix.

    Args:
        path: the file.
        image: the image.
        metadata: texts by key, which go into the file's header.

    Raises:
        OSError: the file can't be written.
    """
    sitk = load_itk()
    file = sitk.GetImageFromArray(image.array.T)
    affine: npt.NDArray[np.float64] = LPS @ image.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    file.SetSpacing(spacing.tolist())
    file.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    file.SetOrigin(affine[:3, 3].tolist())
    for key, value in metadata.items():
        file.SetMetaData(key, value)
    # SimpleITK knows suffixes in lower case alone.
    written = path.with_suffix(path.suffix.lower())
    try:
        sitk.WriteImage(file, str(written), useCompression=True)
    except RuntimeError as error:
        raise OSError(itk_reason(error)) from error
    written.rename(path)


def itk_reason(error: RuntimeError) -> str:
    """Returns the last line of SimpleITK's message that says what went wrong."""
    lines = [line for line in str(error).splitlines() if line.strip() not in ("", _NO_REASON)]
    return f"{_OBJECT.sub('', lines[-1]).strip():.{_MOST_REASON}}"
