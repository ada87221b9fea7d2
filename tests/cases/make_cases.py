"""Rebuilds the sample cases beside this file: python -m tests.cases.make_cases.

The drawn ones need nothing but the project; the MR template needs nilearn, which carries the data,
and stays as it is where nilearn is not installed. Rerunning gives the same files.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from benchmarks.phantoms import Labels, Mask, Phantom, box_prompts
from benchmarks.samples import FOLDER
from gamt.axes import bounding_range
from gamt.io.case import write_case
from tests.cases.scenes import DRAWN, to_grey

TEMPLATE = "MR_mni152"
TEMPLATE_MM = 2

BRAIN, RIGHT_VENTRICLE, LEFT_VENTRICLE = 1, 2, 3

FLUID = 0.6
"""Below this share of the template's highest value a voxel of the brain is fluid: on T1 the
ventricles have about 0.33, grey matter 0.65 and white matter 0.87."""


def main() -> None:
    """Writes every case that can be made here."""
    for draw in DRAWN.values():
        write(draw())
    if find_spec("nilearn") is None:
        print(f"{TEMPLATE}: nilearn is not installed, left as it is")
    else:
        write(mni_template())


def write(phantom: Phantom) -> None:
    """Writes one case; a clicked one comes with an empty previous prediction, as in a first run."""
    path = FOLDER / f"{phantom.name}.npz"
    image, truth = phantom.image, phantom.truth
    clicked = any(one.clicks for one in phantom.prompts)
    previous = np.zeros_like(truth) if clicked else None
    write_case(path, image, phantom.spacing_mm, phantom.prompts, gts=truth, previous=previous)
    print(f"{path.name}: {phantom.image.shape}, {path.stat().st_size / 1e3:.0f} kB")


def mni_template() -> Phantom:
    """Returns the ICBM 152 average brain: its tissue, and the right and left lateral ventricle."""
    from nilearn import datasets

    template = datasets.load_mni152_template(resolution=TEMPLATE_MM)
    mask = datasets.load_mni152_brain_mask(resolution=TEMPLATE_MM)
    t1 = np.asarray(template.get_fdata(), dtype=np.float64)
    brain = np.asarray(mask.get_fdata()) > 0.5
    origin = np.asarray(template.affine[:3, 3], dtype=np.float64)

    truth: Labels = np.where(brain, BRAIN, 0).astype(np.uint8)
    truth[ventricle(t1, origin, side=1)] = RIGHT_VENTRICLE
    truth[ventricle(t1, origin, side=-1)] = LEFT_VENTRICLE
    low, high = np.percentile(t1[t1 > 0], [0.5, 99.5])
    image = to_grey(t1, low, high)

    part = around(brain, margin=3)
    image, truth = radiological(image[part]), radiological(truth[part])
    prompts = box_prompts(truth, np.random.default_rng(0))
    return Phantom(TEMPLATE, image, truth, (float(TEMPLATE_MM),) * 3, prompts)


def ventricle(t1: npt.NDArray[np.float64], origin: npt.NDArray[np.float64], side: int) -> Mask:
    """Returns the lateral ventricle of one side: the fluid around a point known to lie in it.

    Args:
        t1: the template, indexed (x, y, z).
        origin: MNI coordinates (mm) of its first voxel.
        side: 1 for the right, -1 for the left.
    """
    x, y, z = np.meshgrid(
        *(start + TEMPLATE_MM * np.arange(n) for start, n in zip(origin, t1.shape, strict=True)),
        indexing="ij",
        sparse=True,
    )
    # Cut off the third ventricle (midline) and the cisterns (below, behind), which join on.
    region = (x * side > 2) & (x * side < 42) & (abs(y + 6) < 46) & (z > -4) & (z < 32)
    components, _ = ndimage.label(region & (t1 > 0) & (t1 < FLUID))
    body = np.array([10 * side, -6, 22])  # the ventricle's body, above the thalamus
    at_body = components[tuple(np.rint((body - origin) / TEMPLATE_MM).astype(int))]
    inside: Mask = (components == at_body) & (at_body > 0)
    return inside


def around(mask: Mask, margin: int) -> tuple[slice, ...]:
    """Returns the bounding box of `mask` with `margin` voxels more on each side."""
    bounds = bounding_range(mask)
    assert bounds is not None
    return tuple(slice(max(a - margin, 0), b + margin) for a, b in zip(*bounds, strict=True))


def radiological(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Turns (x to the right, y to the front, z up) into (z, y, x) with front and right first."""
    return np.ascontiguousarray(volume.transpose(2, 1, 0)[:, ::-1, ::-1])


if __name__ == "__main__":
    main()
