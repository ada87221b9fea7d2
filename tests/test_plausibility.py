"""What is warned of, and what is not."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from gamt.io.case import Case
from gamt.plausibility import count_voxels, warn_of_input, warn_of_result, warn_of_scale
from gamt.prompts import Box, ClassPrompts, Click

SHAPE = (4, 5, 6)
CONSTANT = "CT_a: all voxels of the image are"
INSIDE, OUTSIDE = Click(1, 2, 3, True), Click(1, 2, 3, False)
BOX = Box(z_min=1, z_max=3, z_mid=1, y_min=1, y_max=4, x_min=1, x_max=5)


def make_case(
    *prompts: ClassPrompts,
    image: npt.NDArray[np.generic] | None = None,
    previous: npt.NDArray[np.uint8] | None = None,
) -> Case:
    if image is None:
        image = np.arange(120, dtype=np.float32).reshape(SHAPE)
    return Case("CT_a", image, (1.0, 1.0, 1.0), prompts, previous)


def image_of(first: float, others: float) -> npt.NDArray[np.float32]:
    image = np.full(SHAPE, others, np.float32)
    image[0, 0, 0] = first
    return image


@pytest.mark.parametrize(
    ("image", "warnings"),
    [
        (np.full(SHAPE, np.nan), ["CT_a: the image holds no finite number"]),
        (image_of(np.nan, 5), [f"{CONSTANT} 5: nothing can be told apart"]),
        (np.ones(SHAPE, np.int16), [f"{CONSTANT} 1: nothing can be told apart"]),
        (image_of(5, 6), []),
    ],
    ids=["nan", "constant but for nan", "ones", "two values"],
)
def test_images_without_contrast_are_told(
    image: npt.NDArray[np.generic], warnings: Sequence[str], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_input(make_case(ClassPrompts(1, BOX), image=image))
    assert caplog.messages == warnings


@pytest.mark.parametrize(
    ("prompts", "warned"),
    [
        (ClassPrompts(1, BOX, (OUTSIDE,)), False),
        (ClassPrompts(1, None, (INSIDE,)), False),
        (ClassPrompts(1, None, (OUTSIDE,)), True),
        (ClassPrompts(1, None, (INSIDE, OUTSIDE)), True),
        (ClassPrompts(1, Box(1, 2, 1, 1, 2, 1, 2)), True),
    ],
)
def test_prompts_that_name_no_target_are_told(
    prompts: ClassPrompts, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_input(make_case(prompts), {1: "liver"})
    assert len(caplog.messages) == warned
    assert all(message.startswith("CT_a: liver: ") for message in caplog.messages)


def test_a_negative_click_corrects_an_earlier_result_of_its_class(
    caplog: pytest.LogCaptureFixture,
) -> None:
    previous = np.zeros(SHAPE, np.uint8)
    previous[1, 2, 3] = 2
    only_outside = (ClassPrompts(1, None, (OUTSIDE,)), ClassPrompts(2, None, (OUTSIDE,)))
    warn_of_input(make_case(*only_outside, previous=previous))
    assert caplog.messages == [
        "CT_a: class 1: there are negative clicks alone, and no earlier result to take away from"
    ]


def test_a_scale_without_effect_is_told(caplog: pytest.LogCaptureFixture) -> None:
    previous = np.zeros(SHAPE, np.uint8)
    previous[1, 2, 3] = 3
    clicks = [
        ClassPrompts(n, clicks=(click,)) for n, click in ((2, INSIDE), (3, INSIDE), (4, OUTSIDE))
    ]
    case = make_case(ClassPrompts(1, BOX), *clicks, previous=previous)
    warn_of_scale(case, "medium")
    assert not caplog.messages
    warn_of_scale(case, "large", {1: "liver"})
    no_effect = "scale large has no effect, for it begins with"
    assert caplog.messages == [
        f"CT_a: liver: {no_effect} a box, not with a click",
        f"CT_a: class 3: {no_effect} an earlier result, not with a click",
        f"CT_a: class 4: {no_effect} negative clicks alone, not with a click",
    ]


def test_classes_without_a_voxel_are_told(caplog: pytest.LogCaptureFixture) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, 0] = 2
    prompts = (ClassPrompts(1, BOX), ClassPrompts(2, BOX), ClassPrompts(3, BOX))
    warn_of_result(make_case(*prompts), labels, {3: "spleen"})
    assert caplog.messages == [
        "CT_a: class 1: the segmentation is empty",
        "CT_a: spleen: the segmentation is empty",
    ]


def test_voxels_are_counted_by_label() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 0, 0] = 7
    labels[3] = 255
    counts = count_voxels(labels)
    # 4 slices of 5 x 6 voxels: one is full of 255, and of the others two voxels are 7.
    assert (counts.shape, counts[0], counts[7], counts[255]) == ((256,), 88, 2, 30)
