"""NRRD, by SimpleITK; segmentations in ``.seg.nrrd`` have their names as 3D Slicer keeps them."""

import colorsys
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gamt.io.format import ImageError, StoredImage
from gamt.io.formats._itk import ITK, check_encoding, read_file, read_header, write_file

NAME = "NRRD"
SUFFIXES = (".nrrd", ".seg.nrrd")
PACKAGE = ITK
NAMED_SUFFIXES = (".seg.nrrd",)

_SEGMENT = re.compile(r"Segment\d+_LabelValue")


def recognises(path: Path, head: bytes) -> bool:
    """Says whether a file has NRRD's magic number."""
    del path
    return head.startswith(b"NRRD000")


def read(path: Path, volume: int | None) -> StoredImage:
    """Reads an image; see `gamt.io.format.Format`."""
    return read_file(path, "NrrdImageIO", volume)


def read_names(path: Path) -> dict[int, str]:
    """Reads segments' names; see `gamt.io.format.NamedFormat`."""
    header = read_header(path, "NrrdImageIO")
    segments = {key.partition("_")[0] for key in header if _SEGMENT.fullmatch(key)}
    names = {}
    for segment in segments:
        value, name = header[f"{segment}_LabelValue"], header.get(f"{segment}_Name", "")
        if value.isdecimal() and name:
            names[int(value)] = name
    return names


def check_name(path: Path) -> None:
    """Refuses names that aren't UTF-8; see `gamt.io.format.WritableFormat`."""
    check_encoding(path)


def write(path: Path, image: StoredImage, names: Mapping[int, str]) -> None:
    """Writes an image, or a segmentation; see `gamt.io.format.WritableFormat`."""
    segments = {}
    if path.name.lower().endswith(NAMED_SUFFIXES):
        if image.array.dtype.kind not in "iu":
            raise ImageError(path, f"found voxels of type {image.array.dtype}, expected labels")
        segments = _describe_segments(image, names)
    write_file(path, image, segments)


def _describe_segments(image: StoredImage, names: Mapping[int, str]) -> dict[str, str]:
    """Returns the keys of the header by which 3D Slicer knows segments."""
    extent = " ".join(f"0 {size - 1}" for size in image.array.shape)
    header = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    labels = np.unique(image.array[image.array > 0]).tolist()
    for number, label in enumerate(labels):
        # Steps of the golden ratio around the circle of hues give colours that differ.
        colour = colorsys.hsv_to_rgb(number * 0.618 % 1.0, 0.7, 0.9)
        header |= {
            f"Segment{number}_ID": f"Segment_{label}",
            f"Segment{number}_Name": names.get(label, f"Segment_{label}"),
            f"Segment{number}_LabelValue": str(label),
            f"Segment{number}_Layer": "0",
            f"Segment{number}_Extent": extent,
            f"Segment{number}_Color": " ".join(f"{part:.3f}" for part in colour),
        }
    return header
