"""A method that follows the challenge's contract and is as simple and as odd as a test needs it.

    python -m tests.evaluation.toy_method [FOLDER]

Reads the one file in FOLDER/inputs and writes FOLDER/outputs/SAME.npz; FOLDER is the working
directory if not given. Boxes become ellipsoids, clicks balls. Integers only, so that every machine
gets the same; numpy only, so that it starts fast and runs as a file of its own. Some cases are
treated oddly (`SILENT`, `write`), for the evaluator to show what it makes of that.

It unpickles what it reads, which a method should not do with files of others.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.uint8]

# In voxels.
SQUARED_RADIUS = 30

# Runs in which nothing is written, by case: 0 is the box's, 1 to 5 the clicks'.
SILENT = {
    "CT_phantom": (0,),
    "CT_vessels_phantom": (1,),
    "MR_phantom": (2, 5),
    "PET_phantom": (0, 1, 2, 3, 4, 5),
}


def main(folder: Path) -> None:
    """Segments the one file in folder/inputs."""
    (path,) = folder.glob("inputs/*.npz")
    with np.load(path, allow_pickle=True) as file:
        case = {key: file[key] for key in file.files if key != "gts"}
    run = len(case["clicks_order"][0]) if "clicks" in case else 0
    if run in SILENT.get(path.stem, ()):
        print(f"{path.stem}: run {run}, nothing written")
        return
    write(folder / "outputs" / path.name, segment(case))
    print(f"{path.stem}: run {run}")


def segment(case: Mapping[str, Any]) -> Labels:
    """Returns the ellipsoids in the boxes; with clicks, the previous prediction and their balls."""
    shape = case["imgs"].shape
    if "clicks" not in case:
        labels = np.zeros(shape, np.uint8)
        for label, box in enumerate(case["boxes"], start=1):
            labels[ellipsoid(shape, box)] = label
        return labels
    labels = np.array(case["prev_pred"])
    pending = [{kind: iter(voxels) for kind, voxels in one.items()} for one in case["clicks"]]
    for kinds in zip(*case["clicks_order"], strict=True):
        for label, kind in enumerate(kinds, start=1):
            if kind is None:
                continue
            inside = ball(shape, next(pending[label - 1][kind]))
            if kind == "fg":
                labels[inside] = label
            else:
                labels[inside & (labels == label)] = 0
    return labels


def ellipsoid(shape: Sequence[int], box: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Returns the ellipsoid inscribed in a box of the challenge."""
    low = [int(box[key]) for key in ("z_min", "z_mid_y_min", "z_mid_x_min")]
    high = [int(box[key]) for key in ("z_max", "z_mid_y_max", "z_mid_x_max")]
    sides = [b - a + 1 for a, b in zip(low, high, strict=True)]
    z, y, x = (
        (2 * voxels - a - b) ** 2 for voxels, a, b in zip(grid(shape), low, high, strict=True)
    )
    d, h, w = (side * side for side in sides)
    return np.asarray(z * h * w + d * y * w + d * h * x <= d * h * w)


def ball(shape: Sequence[int], voxel: Sequence[Any]) -> npt.NDArray[np.bool_]:
    """Returns the ball around a voxel (z, y, x)."""
    z, y, x = ((one - int(centre)) ** 2 for one, centre in zip(grid(shape), voxel, strict=True))
    return np.asarray(z + y + x <= SQUARED_RADIUS)


def grid(shape: Sequence[int]) -> tuple[npt.NDArray[np.int64], ...]:
    """Returns the indices along the axes, each to be spread over the other two."""
    depth, height, width = shape
    return (
        np.arange(depth, dtype=np.int64)[:, None, None],
        np.arange(height, dtype=np.int64)[:, None],
        np.arange(width, dtype=np.int64),
    )


def write(path: Path, labels: Labels) -> None:
    """Writes a prediction, in some cases in a way that is allowed and rare."""
    segs: npt.NDArray[Any] = labels
    if path.stem == "MR_mni152":
        segs = np.asfortranarray(labels)
    elif path.stem == "US_phantom":
        # Labels that are none of the truth's, but some once they are bytes.
        segs = labels.astype(np.int32)
        segs[:20] += 256 * (segs[:20] > 0)
    elif path.stem == "Microscopy_phantom":
        segs = np.where(labels == 0, np.uint8(77), labels)
        segs[4:] = labels[4:]
    np.savez_compressed(path, segs=segs)


def write_easy_case(path: Path) -> None:
    """Writes a case of which the method gets the first class right from the box, not the second.

    So the simulated user has nothing to click on there. Its labels are no bytes.
    """
    shape = (7, 16, 13)
    # Inclusive, in the order of the file's keys: z, z_mid, then x and y.
    keys = ["z_min", "z_max", "z_mid", "z_mid_x_min", "z_mid_y_min", "z_mid_x_max", "z_mid_y_max"]
    boxes = [
        dict(zip(keys, bounds, strict=True))
        for bounds in ((1, 5, 3, 2, 1, 8, 6), (2, 4, 3, 3, 9, 9, 14))
    ]
    gts = np.zeros(shape, np.int16)
    gts[ellipsoid(shape, boxes[0])] = 1
    gts[2:5, 10:14, 3:9] = 2
    imgs = (gts * 100).astype(np.uint8)
    np.savez_compressed(path, imgs=imgs, gts=gts, spacing=(3.0, 0.9, 0.7), boxes=np.array(boxes))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ""))
