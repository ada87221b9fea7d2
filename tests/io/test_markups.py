"""Points and boxes from 3D Slicer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gamt.io.image import Image
from gamt.io.json_files import JsonError, read_json
from gamt.io.markups import read_markups
from gamt.prompts import Box, Click, LabelledPrompt
from tests.costs import cost
from tests.io.test_image import read

# Turned by the angle of the triangle 3, 4, 5 about the third axis; voxels of 2 x 1 x 4 mm. So the
# voxel (i, j, k) is at -31 + 1.2 i - 0.8 j, 12.5 + 1.6 i + 0.6 j, 208 + 4 k in RAS.
OBLIQUE = np.array(
    [[1.2, -0.8, 0, -31], [1.6, 0.6, 0, 12.5], [0, 0, 4, 208], [0, 0, 0, 1]], dtype=np.float64
)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return read(tmp_path, np.zeros((9, 11, 13), np.uint8), OBLIQUE)


def points(*positions: Sequence[object], system: str = "RAS", **more: Any) -> dict[str, Any]:
    control_points = [{"position": position} for position in positions]
    markup = {"type": "Fiducial", "coordinateSystem": system, "controlPoints": control_points}
    return markup | more


def roi(**more: Any) -> dict[str, Any]:
    """Returns the box of the voxels i 3 to 5, j 3 to 7, k 6, along the image's axes."""
    # Its centre is the voxel (4, 5, 6): -31 + 4.8 - 4, 12.5 + 6.4 + 3, 208 + 24.
    return {
        "type": "ROI",
        "coordinateSystem": "RAS",
        "coordinateUnits": "mm",
        "center": [-30.2, 21.9, 232],
        "size": [6, 5, 4],
        "orientation": [0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, 1],
    } | more


def parse(
    image: Image, *markups: dict[str, Any], default: int = 1, **named: int
) -> list[LabelledPrompt]:
    path = image.path.with_name("F.mrk.json")
    path.write_text(json.dumps({"markups": markups}), "utf-8")
    return list(read_markups(read_json(path), image, named, lambda: default))


def test_points_in_lps_and_in_ras_are_the_same_voxels(image: Image) -> None:
    # (2, 3, 5): -31 + 2.4 - 2.4, 12.5 + 3.2 + 1.8, 208 + 20; (0, 10, 12): -31 - 8, 12.5 + 6, 256.
    ras = parse(image, points([-31, 17.5, 228], [-39, 18.5, 256]))
    lps = parse(image, points([31, -17.5, 228], [39, -18.5, 256], system="LPS"))
    clicks = [one.prompt for one in ras]
    assert ras == lps
    assert [isinstance(one, Click) and one.positive for one in clicks] == [True, True]
    voxels = [image.file_voxel(one.voxel) for one in clicks if isinstance(one, Click)]
    assert voxels == [(2, 3, 5), (0, 10, 12)]


def test_positions_are_lps_where_the_file_does_not_say(image: Image) -> None:
    markup = points([31, -17.5, 228])
    del markup["coordinateSystem"]
    assert parse(image, markup) == parse(image, points([-31, 17.5, 228]))


def test_a_roi_holds_the_voxels_whose_centres_are_in_it(image: Image) -> None:
    lps = roi(
        coordinateSystem="LPS",
        center=[30.2, -21.9, 232],
        orientation=[-0.6, 0.8, 0, -0.8, -0.6, 0, 0, 0, 1],
    )
    assert parse(image, roi()) == parse(image, lps)
    (one,) = parse(image, roi())
    assert isinstance(one.prompt, Box)
    assert one.prompt == image.box((3, 3, 6), (5, 7, 6), ras=False)


@pytest.mark.parametrize(
    ("size", "corners"),
    [
        # In voxels, i 2.51 to 5.49: 3 to 5; j 2.51 to 7.49; k 5.51 to 6.49.
        ([5.96, 4.98, 3.92], [(3, 3, 6), (5, 7, 6)]),
        # i 2.49 to 5.51, still without the centres of 2 and 6; to 1.99 and 6.01 with them.
        ([6.04, 5, 4], [(3, 3, 6), (5, 7, 6)]),
        ([8.04, 5, 4], [(2, 3, 6), (6, 7, 6)]),
        # Without any thickness, as one that is drawn on a slice: the voxels nearest to it.
        ([6, 5, 0], [(3, 3, 6), (5, 7, 6)]),
        # Beyond the image in all directions.
        ([600, 500, 400], [(0, 0, 0), (8, 10, 12)]),
    ],
)
def test_a_roi_need_not_end_between_voxels(
    image: Image, size: list[float], corners: list[tuple[int, int, int]]
) -> None:
    (one,) = parse(image, roi(size=size))
    low, high = corners
    assert one.prompt == image.box(low, high, ras=False)


def test_a_roi_without_an_orientation_is_upright_in_space(image: Image) -> None:
    markup = roi(size=[2, 2, 4])
    del markup["orientation"]
    (one,) = parse(image, markup)
    # Its corners, 1 mm away in x and y, are (0.6 +- 0.8) / 2 voxels away in i, so up to 0.7, and
    # up to 0.8 + 0.6 = 1.4 in j: the voxels i 4, j 4 to 6.
    assert one.prompt == image.box((4, 4, 6), (4, 6, 6), ras=False)


@pytest.mark.parametrize("status", ["undefined", "preview", "missing"])
def test_points_that_are_not_placed_are_left_out(status: str, image: Image) -> None:
    markup = points([-31, 17.5, 228], [-39, 18.5, 256])
    markup["controlPoints"][0] = {"position": [], "positionStatus": status}
    markup["controlPoints"][1]["positionStatus"] = "defined"
    assert parse(image, markup) == parse(image, points([-39, 18.5, 256]))


@pytest.mark.parametrize(
    ("name", "label", "negative"),
    [
        ("F", None, False),
        ("- F", None, True),
        ("Negative", None, True),
        ("F negative", None, True),
        ("Background_2", None, True),
        ("F", "negative-3", True),
        ("F", "-3", True),
        ("F", "F-3", False),
        ("nonnegative", None, False),
    ],
)
def test_a_list_or_a_point_says_that_it_is_outside_of_the_target(
    name: str, label: str | None, negative: bool, image: Image
) -> None:
    markup = points([-31, 17.5, 228], name=name)
    markup["controlPoints"][0]["label"] = label
    (one,) = parse(image, markup)
    assert isinstance(one.prompt, Click)
    assert one.prompt.positive is not negative


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["F"], [9]),
        (["F", "F negative", ""], [9, 9, 9]),
        (["liver", "-liver"], [3, 3]),
        (["liver negative", "negative"], [3, 3]),
        (["2", "-2", "F"], [2, 2, 9]),
        # Two names that say nothing: in their order, without those that are taken.
        (["cyst", "2", "-cyst", "node"], [1, 2, 1, 4]),
    ],
)
def test_a_lists_name_says_its_label(names: list[str], labels: list[int], image: Image) -> None:
    markups = [points([-31, 17.5, 228], name=name) for name in names]
    assert [one.label for one in parse(image, *markups, default=9, liver=3)] == labels


BAD = {
    "type": (points(type="Curve"), "markups[0].type: found \"Curve\", expected 'Fiducial' or"),
    "no type": ({}, "markups[0]: found no 'type', expected one"),
    "system": (points(system="IJK"), "coordinateSystem: found \"IJK\", expected 'LPS' or 'RAS'"),
    "unit": (points(coordinateUnits="um"), "coordinateUnits: found \"um\", expected 'mm'"),
    "units": (points(coordinateUnits=["um", "UCUM", "micrometer"]), "expected 'mm'"),
    "points": (points(controlPoints=7), "markups[0].controlPoints: found 7, expected a list"),
    "outside": (
        points([-31, 17.5, 228], [-31, 17.5, 8]),
        "controlPoints[1].position: scan.nii.gz: -31,17.5,8 mm (RAS) is outside of the image",
    ),
    "position": (points([1, 2]), "controlPoints[0].position: found a list of 2, expected a list"),
    "text": (points(["1", 2, 3]), 'controlPoints[0].position[0]: found "1", expected a number'),
    "status": (
        points(controlPoints=[{"positionStatus": "lost"}]),
        "controlPoints[0].positionStatus: found \"lost\", expected 'defined' or",
    ),
    "no centre": (roi(center=None), "markups[0].center: found null, expected a list of 3"),
    "orientation": (roi(orientation=[1]), "orientation: found a list of 1, expected a list of 9"),
    "far": (roi(center=[0, 0, 0]), "markups[0].center: scan.nii.gz: the box is outside of the"),
    "negative": (roi(name="-R"), "markups[0]: found a negative ROI, expected points"),
    "name": (points(name="a\nb"), "markups[0].name: found"),
    "many": (
        points(*[[-31, 17.5, 228]] * 100_001),
        "markups[0].controlPoints: found a list of 100001, expected 100,000 at most",
    ),
}


def test_a_file_of_far_more_than_anybody_places_is_refused(image: Image) -> None:
    with pytest.raises(JsonError, match="markups: found a list of 1001, expected 1000 at most"):
        parse(image, *[points([-31, 17.5, 228])] * 1001)
    with pytest.raises(JsonError, match="markups: found over 100,000 points, expected fewer"):
        parse(image, *[points(*[[-31, 17.5, 228]] * 60_000)] * 2)


def test_the_time_for_points_grows_no_faster_than_their_number(image: Image) -> None:
    """Ten times as many would take a hundred times as long, were each compared with all."""

    def read_points(count: int) -> None:
        assert len(parse(image, points(*[[-31, 17.5, 228]] * count))) == count

    assert cost(lambda: read_points(100_000)) < 30 * cost(lambda: read_points(10_000), times=2)


@pytest.mark.parametrize(("markup", "message"), BAD.values(), ids=BAD)
def test_what_is_no_prompt_is_one_line_that_says_where(
    markup: dict[str, Any], message: str, image: Image
) -> None:
    with pytest.raises(JsonError, match=r"^F\.mrk\.json: ") as error:
        parse(image, markup)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_list_without_a_target_beside_several_is_an_error(image: Image) -> None:
    lists = [points(name="1"), points(name="2"), points(name="negative")]
    with pytest.raises(JsonError, match=r"markups\[2\]: found a name that says no target, .*'1'"):
        parse(image, *lists)


@pytest.mark.parametrize(
    ("name", "named", "warned"),
    [
        ("Lesion", {"liver": 1, "lesion": 2}, True),
        ("lesion negative", {"liver": 1, "lesion": 2}, False),
        ("", {"liver": 1, "lesion": 2}, False),
        ("F", {"liver": 1}, False),
        ("F", {}, False),
    ],
)
def test_a_list_named_after_none_of_several_labels_is_warned_of(
    name: str, named: dict[str, int], warned: bool, image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    parse(image, points([-31, 17.5, 228], name=name), **named)
    expected = f"list {name!r} names none of 'liver', 'lesion'; label 1 is taken"
    assert caplog.messages == ([expected] if warned else [])
