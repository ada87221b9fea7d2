"""Pictures: where things lie, at which scale and in which colour."""

import base64
import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from gamt.explain.montage import COLORS, LONGEST_SIDE, draw_montage
from gamt.prompts import Box, ClassPrompts
from tests.doubles import (
    Mask,
    block,
    make_case,
    picture,
)
from tests.explain.examples import (
    SHAPE,
    SPACING,
    body_case,
    explain,
    only,
)


def pixels(uri: str) -> npt.NDArray[np.uint8]:
    data = base64.b64decode(uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def is_color(uri: str, name: str) -> Mask:
    color = tuple(bytes.fromhex(COLORS[name][1:]))
    return np.asarray((pixels(uri)[..., :3] == color).all(axis=-1) & (pixels(uri)[..., 3] == 255))


def bounds_of(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def test_pictures_have_true_proportions_at_one_scale() -> None:
    record = only(explain(body_case()))
    assert record.montage is not None
    # Three voxels of room on each side, but not more than there are.
    assert record.montage.frame == ((0, 1, 3), (9, 15, 21))
    rows = draw_montage(record.montage, SPACING)
    scale = LONGEST_SIDE / 27  # mm on z
    sizes = [(row.plane, row.width, row.height) for row in rows]
    width, depth = round(18 * scale), round(14 * scale)
    assert sizes == [
        ("axial", width, depth),
        ("coronal", width, LONGEST_SIDE),
        ("sagittal", depth, LONGEST_SIDE),
    ]
    shares = [row.share / row.width for row in rows]
    assert shares == pytest.approx([shares[0]] * 3)
    for row in rows:
        assert pixels(row.image).shape[:2] == (row.height, row.width)
        assert {pixels(one.overlay).shape[:2] for one in row.pictures} == {(row.height, row.width)}


def test_prompts_and_result_lie_where_they_are_and_z_points_up() -> None:
    # Slices 1 to 4 alone: seen from the side, nearer to the bottom.
    body = block(SHAPE, slice(1, 5), slice(4, 12), slice(6, 18))
    box = Box(1, 5, 2, 4, 12, 6, 18)
    case = make_case(picture(body), ClassPrompts(1, box), spacing_mm=SPACING)
    montage = only(explain(case)).montage
    assert montage is not None
    assert montage.frame == ((0, 1, 3), (8, 15, 21))
    rows = draw_montage(montage, SPACING)
    scale = LONGEST_SIDE / 24
    for row, y0, y1 in ((rows[0], 3, 11), (rows[1], 9, 21)):
        for picture_, name in ((row.pictures[0], "box"), (row.pictures[-1], "result")):
            found = bounds_of(is_color(picture_.overlay, name))
            expected = [v * scale for v in (y0, y1, 3, 15)]
            assert found == pytest.approx(expected, abs=1), (row.plane, name)


def test_what_no_view_looked_at_is_darkened() -> None:
    montage = only(explain(body_case())).montage
    assert montage is not None
    coronal = draw_montage(montage, SPACING)[1].pictures[1]
    assert montage.columns[1] == "axial votes"
    overlay = pixels(coronal.overlay)
    # The axial walk kept to the box's slices, 2 to 6 of 0 to 8.
    top, middle = (
        overlay[5, overlay.shape[1] // 2],
        overlay[overlay.shape[0] // 2, overlay.shape[1] // 2],
    )
    assert (top[:3] == 0).all()
    assert 0 < top[3] < 255
    assert tuple(middle[:3]) == tuple(bytes.fromhex(COLORS["votes"][1:]))


def test_the_truth_shows_where_the_result_differs() -> None:
    truth = block(SHAPE, slice(2, 7), slice(4, 12), slice(6, 20)).astype(np.uint8)
    montage = only(explain(body_case(), truth=truth)).montage
    assert montage is not None
    last = draw_montage(montage, SPACING)[0].pictures[-1]
    found, true = is_color(last.overlay, "result"), is_color(last.overlay, "truth")
    assert bounds_of(true)[3] > bounds_of(found)[3]
