"""Scans with bright bodies to annotate, and what is done to them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from gamt.annotation.document import Document
from gamt.annotation.grid import bounds_to_page, to_page
from gamt.annotation.prompts import BoxPrompt, NewPrompt, PointPrompt
from gamt.axes import Plane
from gamt.io.image import Image, read_image
from gamt.segmenters.base import Segmenter
from gamt.session import ArrayBounds, Session
from tests.doubles import Mask, Thresholder, block, picture
from tests.io.test_image import affine_of

# mypy: allow-untyped-calls

SHAPE = (12, 16, 20)  # z, y, x
LIVER = block(SHAPE, slice(3, 9), slice(2, 9), slice(2, 9))
SPLEEN = block(SHAPE, slice(3, 8), slice(10, 15), slice(12, 18))
LIVER_BOX = [[3, 9], [2, 9], [2, 9]]
SPLEEN_BOX = [[3, 8], [10, 15], [12, 18]]


def make_image(
    folder: Path,
    array: npt.NDArray[Any] | None = None,
    orientation: tuple[str, str, str] = ("L", "P", "S"),
    tilt: float = 0.0,
    name: str = "scan.nii.gz",
) -> Image:
    """Writes an array (z, y, x) as a file whose axes run in some way, and reads it."""
    array = picture(LIVER | SPLEEN) if array is None else array
    affine = affine_of(orientation, tilt)
    turned = ornt_transform(axcodes2ornt(("L", "P", "S")), io_orientation(affine))
    nib.save(nib.Nifti1Image(apply_orientation(array.T, turned), affine), folder / name)
    image = read_image(folder / name)
    np.testing.assert_array_equal(image.array, array)
    return image


@dataclass
class Annotation:
    """A document and the session that it uses."""

    document: Document
    session: Session

    @classmethod
    def of(
        cls, image: Image, segmenter: Segmenter | str | None = None, **options: Any
    ) -> "Annotation":
        document = Document(image)
        session = Session(segmenter or Thresholder(), observer=document.observer, **options)
        document.attach(session)
        return cls(document, session)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.document.labels.shape

    def mask(self, target: int = 1) -> Mask:
        return np.asarray(self.document.labels == target)

    def box(self, bounds: ArrayBounds, positive: bool = True) -> BoxPrompt:
        low, high = bounds_to_page(bounds, self.shape)
        thin = [plane for plane in Plane if np.diff(bounds)[plane.normal, 0] == 1]
        return BoxPrompt(low, high, positive, thin[0] if thin else None)

    def point(self, voxel: tuple[int, int, int], positive: bool = True) -> PointPrompt:
        return PointPrompt(to_page(voxel, self.shape), positive)

    def add(self, prompt: NewPrompt, target: int = 1) -> ArrayBounds | None:
        assert self.document.begin(self.session, target, prompt)
        self.document.predict(self.session)
        return self.document.finish(0.25)

    def remove(self, prompt: int, target: int = 1) -> ArrayBounds | None:
        if self.document.begin_removal(self.session, target, prompt):
            self.document.predict(self.session)
        return self.document.finish(0.25)

    def undo(self, target: int = 1) -> ArrayBounds | None:
        return self.document.undo(self.session, target)

    def redo(self, target: int = 1) -> ArrayBounds | None:
        return self.document.redo(self.session, target)

    def told(self, target: int = 1) -> dict[str, Any]:
        return next(one for one in self.document.describe() if one["id"] == target)
