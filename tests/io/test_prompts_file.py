"""Prompts beside a segmentation: what is written is read, and nothing else."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.axes import Plane
from gamt.io.files import OverwriteError
from gamt.io.image import Image, read_image
from gamt.io.json_files import JsonError
from gamt.io.prompts_file import (
    PromptsGridError,
    SavedPrompts,
    prompts_path,
    read_prompts,
    refuse_other_content,
    write_prompts,
)
from gamt.prompts import Click, LabelledPrompt, Lasso, Region, Scribble, SliceBox
from gamt.windows import IntensityWindow
from tests.costs import cost
from tests.io.test_image import ORIENTATIONS, SHAPE, affine_of, read, save
from tests.io.test_markups import points, roi


def load(path: Path, image: Image) -> SavedPrompts:
    return read_prompts(path, image, {}, lambda: 1)


def every_kind(image: Image) -> SavedPrompts:
    """Returns prompts of every kind, given in the file's own voxels (i, j, k)."""
    z, y, x = image.voxel((1, 2, 3), ras=False)
    prompts = (
        LabelledPrompt(2, image.box((1, 0, 2), (3, 5, 6), ras=False)),
        LabelledPrompt(7, Click(*image.voxel((4, 5, 6), ras=False), positive=True)),
        LabelledPrompt(2, Click(z, y, x, positive=False)),
        LabelledPrompt(9, SliceBox(Plane.CORONAL, (z, y, x), (z + 1, y + 1, x + 1))),
        LabelledPrompt(7, Click(*image.voxel((0, 0, 0), ras=False), positive=True)),
    )
    return SavedPrompts(prompts, {2: "Leber ä", 9: "cyst"}, {2: IntensityWindow(-160.0, 240.0)})


def save_prompts(path: Path, image: Image) -> None:
    with path.open("wb") as file:
        write_prompts(file, image, every_kind(image), "statistical")


def test_a_file_is_readable_and_says_all_in_the_files_own_axes(tmp_path: Path) -> None:
    # Axes towards left, front and head: a voxel is at -31 - 0.5 i, 12.5 + 1.5 j, 208 + 4 k mm.
    image = read(tmp_path, None, affine_of(("L", "A", "S")))
    path = tmp_path / "out.prompts.json"
    save_prompts(path, image)
    assert path.read_text("utf-8") == (
        """{
  "format": "gamt prompts",
  "version": 1,
  "image": {
    "file": "scan.nii.gz",
    "shape": [5, 6, 7],
    "spacing_mm": [0.5, 1.5, 4.0],
    "affine": [[-0.5, 0.0, 0.0, -31.0], [0.0, 1.5, 0.0, 12.5], """
        """[0.0, 0.0, 4.0, 208.0], [0.0, 0.0, 0.0, 1.0]]
  },
  "segmenter": "statistical",
  "labels": [
    {"label": 2, "name": "Leber ä", "window": [-160.0, 240.0]},
    {"label": 7, "name": null, "window": null},
    {"label": 9, "name": "cyst", "window": null}
  ],
  "prompts": [
    {"label": 2, "kind": "box", "voxels": [[1, 0, 2], [3, 5, 6]], """
        """"ras_mm": [[-31.5, 12.5, 216.0], [-32.5, 20.0, 232.0]]},
    {"label": 7, "kind": "positive click", "voxel": [4, 5, 6], "ras_mm": [-33.0, 20.0, 232.0]},
    {"label": 2, "kind": "negative click", "voxel": [1, 2, 3], "ras_mm": [-31.5, 15.5, 220.0]},
    {"label": 9, "kind": "slice box", "voxels": [[1, 2, 3], [1, 2, 3]], """
        """"ras_mm": [[-31.5, 15.5, 220.0], [-31.5, 15.5, 220.0]], "plane": "coronal"},
    {"label": 7, "kind": "positive click", "voxel": [0, 0, 0], "ras_mm": [-31.0, 12.5, 208.0]}
  ]
}
"""
    )


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids="".join)
def test_what_is_written_is_read_in_any_orientation(
    orientation: tuple[str, ...], tmp_path: Path
) -> None:
    image = read(tmp_path, None, affine_of(orientation, tilt=0.3))
    path = tmp_path / "out.prompts.json"
    save_prompts(path, image)
    assert load(path, image) == every_kind(image)
    entries = json.loads(path.read_text("utf-8"))["prompts"]
    assert [entry.get("voxel") for entry in entries] == [
        None,
        [4, 5, 6],
        [1, 2, 3],
        None,
        [0, 0, 0],
    ]
    # The millimetres are those that --ras takes.
    last = entries[1]
    assert image.voxel(last["ras_mm"], ras=True) == image.voxel(last["voxel"], ras=False)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids="".join)
def test_what_is_drawn_is_read_in_any_orientation(
    orientation: tuple[str, ...], tmp_path: Path
) -> None:
    image = read(tmp_path, None, affine_of(orientation))
    z, y, x = (size - 1 for size in image.array.shape)
    corner = np.array([[True, True], [True, False]])  # rows and columns of a sagittal slice: z, y
    said = (
        LabelledPrompt(1, Scribble(np.array([[0, 0, 0], [0, 1, 1], [z, y, x]]), positive=True)),
        LabelledPrompt(1, Scribble(np.array([[1, 2, 3], [1, 2, 4]]), positive=False)),
        LabelledPrompt(2, Lasso(Plane.SAGITTAL, (1, 2, x), (3, 4, x + 1), corner)),
        LabelledPrompt(2, Region((0, 1, 1), np.ones((2, 3, 1), np.bool_), positive=False)),
        LabelledPrompt(2, Region((2, 1, 1), corner[:, None], positive=False)),
    )
    path = tmp_path / "out.prompts.json"
    with path.open("wb") as file:
        write_prompts(file, image, SavedPrompts(said, {}, {}), "statistical")
    found = load(path, image).prompts
    assert [(one.label, type(one.prompt)) for one in found] == [
        (one.label, type(one.prompt)) for one in said
    ]
    for one, other in zip(found, said, strict=True):
        assert marked(one.prompt) == marked(other.prompt)


def marked(prompt: object) -> tuple[list[list[int]], object]:
    """Returns the voxels (z, y, x) of what is drawn, and its kind or plane."""
    if isinstance(prompt, Lasso):
        area = np.argwhere(np.expand_dims(prompt.mask, prompt.plane.normal)) + prompt.low
        return area.tolist(), prompt.plane
    assert isinstance(prompt, Scribble | Region)
    return prompt.voxels.tolist(), prompt.positive


@pytest.mark.parametrize(
    ("segmentation", "name"),
    [
        ("scan_seg.nii.gz", "scan_seg.prompts.json"),
        ("a.b.NII", "a.b.prompts.json"),
        ("out.seg.nrrd", "out.prompts.json"),
    ],
)
def test_the_file_is_named_after_its_segmentation(segmentation: str, name: str) -> None:
    assert prompts_path(Path("folder") / segmentation) == Path("folder") / name


def test_other_content_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.prompts.json"
    refuse_other_content(path)
    image = read(tmp_path)
    save_prompts(path, image)
    refuse_other_content(path)
    for content in ('{"name": "mine"}', "[]", "no JSON"):
        path.write_text(content)
        with pytest.raises(OverwriteError, match=r"out\.prompts\.json: found a file that gamt did"):
            refuse_other_content(path)


@pytest.mark.parametrize(
    ("shape", "shift_mm"),
    [((5, 6, 8), 0.0), ((7, 6, 5), 0.0), (SHAPE, 0.1)],  # 0.1 mm are 0.2 voxels of 0.5 mm
    ids=["longer", "turned", "moved"],
)
def test_prompts_of_another_image_are_refused(
    shape: tuple[int, int, int], shift_mm: float, tmp_path: Path
) -> None:
    image = read(tmp_path)
    path = tmp_path / "out.prompts.json"
    save_prompts(path, image)
    affine = affine_of(("L", "P", "S"))
    affine[0, 3] += shift_mm
    other = read_image(save(tmp_path / "other.nii", np.zeros(shape, np.uint8), affine))
    with pytest.raises(PromptsGridError) as error:
        load(path, other)
    sizes = " x ".join(map(str, shape))
    assert str(error.value) == (
        "out.prompts.json: found prompts for scan.nii.gz, 5 x 6 x 7 voxels, "
        f"expected the voxels of other.nii, {sizes}, at the same place"
    )


def test_windows_are_not_those_of_an_image_of_another_name(tmp_path: Path) -> None:
    image = read(tmp_path)
    path = tmp_path / "out.prompts.json"
    save_prompts(path, image)
    image.path.rename(tmp_path / "T2.nii.gz")
    other = load(path, read_image(tmp_path / "T2.nii.gz"))
    assert other == replace(every_kind(image), windows={})


def test_windows_are_read_however_large_a_scans_intensities_are(tmp_path: Path) -> None:
    image, path = read(tmp_path, None, np.eye(4)), tmp_path / "out.prompts.json"
    saved = replace(every_kind(image), windows={2: IntensityWindow(-1.5e13, 1e15)})
    with path.open("wb") as file:
        write_prompts(file, image, saved, "statistical")
    assert load(path, image) == saved


def changed(image: Image, key: str, value: object) -> dict[str, Any]:
    """Returns what is written for an image, with one value changed; `key` is as in an error."""
    path = image.path.with_name("out.prompts.json")
    save_prompts(path, image)
    document: Any = json.loads(path.read_text("utf-8"))
    *steps, last = [int(step) if step.isdecimal() else step for step in re.findall(r"\w+", key)]
    inner = document
    for step in steps:
        inner = inner[step]
    inner[last] = value
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "nnU-Net", "found \"nnU-Net\", expected 'gamt prompts'"),
        ("version", 3, "found 3, expected 1 or 2, which is what"),
        ("image", [], "found a list of 0, expected an object"),
        ("image.affine", [], "found a list of 0, expected 4 rows of 4 numbers"),
        ("image.shape", [5, 6], "found a list of 2, expected a list of 3 numbers"),
        ("labels[1].label", 256, "found 256, expected a whole number from 1 to 255"),
        ("labels[0].name", "7", 'found "7", expected a name without a colon, and no number'),
        ("labels[0].name", "a\nb", 'found "a\\nb", expected a text of printable characters'),
        ("labels[0].window", [3, 3], "found 3 and 3, expected the lower number first"),
        ("prompts", None, "found null, expected a list"),
        ("prompts[0].label", "liver", 'found "liver", expected a whole number'),
        ("prompts[1].kind", "scribble", "found \"scribble\", expected 'box' or 'slice box' or"),
        ("prompts[1].voxel", [5, 0, 0], "5,0,0 is outside of the image, which is from 0,0,0 to"),
        ("prompts[1].voxel", [0.5, 0, 0], "found voxel 0.5,0,0, expected whole numbers"),
        ("prompts[0].voxels", [[0, 0, 0]], "found a list of 1, expected two opposite corners"),
        ("prompts[3].voxels", [[0, 0, 0], [4, 5, 6]], "found a box of several slices, expected"),
        ("prompts[3].plane", "oblique", "found \"oblique\", expected 'axial' or 'coronal' or"),
    ],
)
def test_a_broken_file_is_one_line_that_names_the_key(
    key: str, value: object, message: str, tmp_path: Path
) -> None:
    image = read(tmp_path)
    path = tmp_path / "out.prompts.json"
    path.write_text(json.dumps(changed(image, key, value)))
    with pytest.raises(JsonError) as error:
        load(path, image)
    assert str(error.value).startswith(f"out.prompts.json: {key}: ")
    assert message in str(error.value)


def drawn(kind: str, *runs: list[list[int]]) -> dict[str, Any]:
    return {"label": 1, "kind": kind, "runs": list(runs), "plane": "axial"}


CLICK = {"label": 1, "kind": "positive click", "voxel": [1, 2, 3]}


def test_more_prompts_than_anybody_makes_are_refused(tmp_path: Path) -> None:
    image = read(tmp_path)
    message = message_of(image, json.dumps(changed(image, "prompts", [CLICK] * 100_001)).encode())
    assert message == "any.json: prompts: found a list of 100001, expected 100,000 at most"


@pytest.mark.parametrize(
    ("kind", "count", "runs"),
    [
        # Two voxels at opposite corners of the scan, which is 2^26 voxels: their mask is 64 MiB.
        ("negative lasso", 5, [[[0, 0, 0]] * 2, [[1023, 1023, 63]] * 2]),
        # 2^10 voxels a run
        ("positive scribble", 1, [[[0, 0, 0], [1023, 0, 0]]] * (2**14 + 1)),
    ],
)
def test_drawings_that_take_far_more_memory_than_their_file_are_refused(
    kind: str, count: int, runs: list[list[list[int]]], tmp_path: Path
) -> None:
    image = read(tmp_path, np.zeros((1024, 1024, 64), np.uint8))
    document = changed(image, "prompts", [drawn(kind, *runs)] * count)
    message = message_of(image, json.dumps(document).encode())
    assert message.startswith("any.json: prompts: found drawings of ")
    document = changed(image, "prompts", [drawn(kind, *runs[:2])])
    assert message_of(image, json.dumps(document).encode()) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "make"),
    [
        (100_000, lambda count: [CLICK] * count),
        (50_000, lambda count: [drawn("lasso", [[1, 2, 3], [1, 4, 3]])] * count),
        (
            300_000,
            lambda count: [drawn("positive scribble", *[[[1, 2, 3], [1, 2, 4]]] * count)],
        ),
    ],
    ids=["clicks", "lassos", "runs"],
)
def test_the_time_for_a_file_grows_no_faster_than_it(
    limit: int, make: Callable[[int], list[dict[str, Any]]], tmp_path: Path
) -> None:
    """Ten times as long a file would take a hundred times as long, were each compared with all."""
    image = read(tmp_path)

    def read_prompts(count: int) -> None:
        content = json.dumps(changed(image, "prompts", make(count)), separators=(",", ":"))
        assert message_of(image, content.encode()) == ""

    assert cost(lambda: read_prompts(limit)) < 30 * cost(lambda: read_prompts(limit // 10), times=2)


NUMBERS = st.integers(-3, 300) | st.floats() | st.integers()
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(NUMBERS, min_size=3, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=20,
)
KEYS = [
    *("format", "version", "image", "image.file", "image.shape", "image.affine", "image.affine[1]"),
    *("labels", "labels[0]", "labels[0].label", "labels[0].name", "labels[0].window"),
    *("prompts", "prompts[0]", "prompts[0].label", "prompts[0].kind", "prompts[0].voxels"),
    *("prompts[1].voxel", "prompts[1].voxel[0]", "prompts[3].plane", "prompts[3].voxels"),
]
MARKUP_KEYS = [
    *("type", "name", "coordinateSystem", "coordinateUnits", "controlPoints", "center", "size"),
    "orientation",
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return read(tmp_path_factory.mktemp("any"))


def message_of(image: Image, content: bytes) -> str:
    """Returns what is told of a file of this content; nothing if it can be read."""
    path = image.path.with_name("any.json")
    path.write_bytes(content)
    try:
        load(path, image)
    except JsonError as error:
        return str(error)
    return ""


def is_one_line(message: str) -> bool:
    return message == "" or (message.startswith("any.json: ") and "\n" not in message)


@given(document=JSON)
def test_any_json_is_read_or_told_in_one_line(document: object, image: Image) -> None:
    assert is_one_line(message_of(image, json.dumps(document).encode()))


@given(key=st.sampled_from(KEYS), value=JSON)
def test_any_value_at_any_key_is_read_or_told_in_one_line(
    key: str, value: object, image: Image
) -> None:
    document = changed(image, key, value)
    assert is_one_line(message_of(image, json.dumps(document).encode()))


@given(
    key=st.sampled_from(MARKUP_KEYS), value=JSON, markup=st.sampled_from([points([0, 0, 0]), roi()])
)
def test_any_markup_is_read_or_told_in_one_line(
    key: str, value: object, markup: dict[str, Any], image: Image
) -> None:
    document = {"markups": [markup | {key: value}]}
    assert is_one_line(message_of(image, json.dumps(document).encode()))


@given(content=st.binary(max_size=50))
def test_any_bytes_are_read_or_told_in_one_line(content: bytes, image: Image) -> None:
    assert is_one_line(message_of(image, content))
