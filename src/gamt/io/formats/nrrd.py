"""NRRD, by SimpleITK; segmentations in ``.seg.nrrd`` have their names as 3D Slicer keeps them."""

import colorsys
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gamt.io.format import MOST_RATIO, ImageError, StoredImage, data_file
from gamt.io.formats._itk import ITK, check_encoding, read_file, read_header, write_file

NAME = "NRRD"
SUFFIXES = (".nrrd", ".seg.nrrd")
PACKAGE = ITK
NAMED_SUFFIXES = (".seg.nrrd",)

_HEAD = 1 << 20
"""Bytes of a file in which its header ends, at an empty line."""
_END = re.compile(rb"\r?\n\r?\n")
_DATA_FILE = re.compile(rb"^data ?file:[ \t]*(.*?)\s*$", re.MULTILINE | re.IGNORECASE)
_ENCODING = re.compile(rb"^encoding:[ \t]*(\w+)", re.MULTILINE | re.IGNORECASE)
_MOST_TEXT = 8
"""Bytes of a number that takes one character as text."""
_RATIOS = {b"raw": 1, b"gzip": MOST_RATIO, b"gz": MOST_RATIO}
"""Bytes that a byte of the file becomes at most, by its encoding."""
_MOST_DIGITS = 9
"""Of a label."""

_SEGMENT = re.compile(r"Segment\d+_LabelValue")


def recognises(path: Path, head: bytes) -> bool:
    """Says whether a file has NRRD's magic number."""
    del path
    return head.startswith(b"NRRD000")


def read(path: Path, volume: int | None) -> StoredImage:
    """Reads an image; see `gamt.io.format.Format`."""
    with path.open("rb") as file:
        head = _END.split(file.read(_HEAD), maxsplit=1)[0]
    files = [os.fsdecode(name) for name in _DATA_FILE.findall(head)]
    if len(files) > 1 or any("%" in name or name.startswith("LIST") for name in files):
        raise ImageError(path, f"found the data files {files!r:.80}, expected one, or none")
    data = data_file(path, files[0]) if files else path
    encoding = _ENCODING.search(head)
    ratio = _RATIOS.get(encoding[1].lower() if encoding else b"", _MOST_TEXT)
    return read_file(path, "NrrdImageIO", volume, data, ratio)


def read_names(path: Path) -> dict[int, str]:
    """Reads segments' names; see `gamt.io.format.NamedFormat`."""
    header = read_header(path, "NrrdImageIO")
    segments = {key.partition("_")[0] for key in header if _SEGMENT.fullmatch(key)}
    names = {}
    for segment in segments:
        value, name = header[f"{segment}_LabelValue"], header.get(f"{segment}_Name", "")
        is_label = value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS
        if is_label and name and name.isprintable():
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
