import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gamt.cli.console import UsageError
from gamt.cli.prompt_text import parse_prompts
from gamt.io.format import ImageError
from gamt.io.image import Image, read_image
from gamt.prompts import Box, LabelledPrompt

# mypy: allow-untyped-calls


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Returns an image of 160 x 150 x 60 voxels, along left, back and head, each 1 x 1 x 2 mm."""
    array = np.zeros((160, 150, 60), np.uint8)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1.0, 2.0, 1.0])), tmp_path / "scan.nii")
    return read_image(tmp_path / "scan.nii")


def test_a_box_is_told_as_it_is_understood(image: Image, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="gamt"):
        found = parse_prompts(image, ["3:143,12,42,56,145,57"], None, None, ras=False)
    assert found == [LabelledPrompt(3, Box(42, 58, 49, 12, 146, 56, 144))]
    assert caplog.messages == ["label 3: box x 56-143, y 12-145, z 42-57"]


def test_a_box_in_millimetres_is_told_in_millimetres(
    image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="gamt"):
        parse_prompts(image, ["-10,-20,30,-90.5,-70,50"], None, None, ras=True)
    assert caplog.messages == ["label 1: box x -90.5 to -10, y -70 to -20, z 30 to 50 mm"]


def test_pairs_by_axis_that_are_no_corners_are_told_from_them(
    image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    # x 10 to 70, y 90 to 140, z 5 to 50; as a corner, 10,70,90 has a z of 90, past the last, 59.
    with pytest.raises(UsageError, match=r"first and last of each axis, .*: 10,90,5,70,140,50$"):
        parse_prompts(image, ["10,70,90,140,5,50"], None, None, ras=False)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("pairs", "corners"),
    [
        # As corners, y would go down from 145 to 12.
        ("56,145,57,143,12,42", "56,57,12,145,143,42"),
        # As corners, y would go down from 64 to 19.
        ("16,64,18,63,19,19", "16,18,19,64,63,19"),
    ],
)
def test_pairs_by_axis_are_refused_though_they_would_be_corners_inside(
    image: Image, pairs: str, corners: str
) -> None:
    with pytest.raises(
        UsageError, match=rf"^--box {pairs}: .* two corners, lower first: {corners}$"
    ):
        parse_prompts(image, [pairs], None, None, ras=False)


@pytest.mark.parametrize(
    ("corners", "box"),
    [
        # Pairs that ascend too, as do the corners: it can't be told.
        ("10,20,30,40,50,55", Box(30, 56, 42, 20, 51, 10, 41)),
        # y goes down; pairs that ascend, but whose y of 40 to 155 is past the last, 149.
        ("5,70,40,155,30,50", Box(40, 51, 45, 30, 71, 5, 156)),
        # y goes down; no pairs, for the first begins with its end.
        ("70,50,20,90,30,40", Box(20, 41, 30, 30, 51, 70, 91)),
    ],
)
def test_what_may_be_two_corners_is_taken_for_them(image: Image, corners: str, box: Box) -> None:
    found = parse_prompts(image, [corners], None, None, ras=False)
    assert found == [LabelledPrompt(1, box)]


@pytest.mark.parametrize(
    "box",
    [
        "10,70,90,140,5,99",  # neither corners nor pairs are inside
        "70,10,90,140,5,50",  # no pairs, for the first begins with its end
    ],
)
def test_a_corner_outside_is_an_error_where_the_numbers_are_no_pairs_either(
    image: Image, box: str
) -> None:
    with pytest.raises(ImageError, match="is outside of the image"):
        parse_prompts(image, [box], None, None, ras=False)


@pytest.mark.parametrize("label", ["0", "-3", "1.5", "livr", "9" * 5000])
def test_a_label_that_is_none_is_told_from_wrong_numbers(image: Image, label: str) -> None:
    with pytest.raises(UsageError, match=rf"found the label '{label}', expected a whole number"):
        parse_prompts(image, None, [f"{label}:1,2,3"], None, ras=False, named_labels={"liver": 1})
    with pytest.raises(UsageError, match="expected 3 numbers with commas"):
        parse_prompts(image, None, ["liver:1,2"], None, ras=False, named_labels={"liver": 1})
