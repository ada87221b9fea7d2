"""What the embedded segmenter promises: exact on flat shades, obedient to clicks, never lost."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from gamt.prompts import SlicePrompt
from gamt.segmenters.base import SliceMask
from gamt.segmenters.statistical import StatisticalSegmenter

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Box = tuple[float, float, float, float]

SIDE = 96
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]


def disk(row: float, column: float, radius: float) -> Mask:
    return np.asarray(np.hypot(ROWS - row, COLUMNS - column) < radius)


SHAPES: dict[str, Mask] = {
    "ellipse": ((ROWS - 48) / 24) ** 2 + ((COLUMNS - 51) / 15) ** 2 < 1,
    "small disk": disk(48, 48, 4),
    "crescent": disk(48, 48, 30) & ~disk(48, 58, 28),
    "bent tube": disk(48, 48, 31) & ~disk(48, 48, 21) & ((ROWS > 48) | (COLUMNS > 56)),
    "ring": disk(48, 48, 30) & ~disk(48, 48, 18),
    "two lobes": disk(48, 30, 13) | disk(51, 66, 11),
}


def shade(mask: Mask, contrast: float, seed: int = 0) -> Image:
    noise = np.random.default_rng(seed).normal(0, 6, mask.shape)
    return np.clip(110 + contrast * mask + noise, 0, 255).astype(np.uint8)


def box_of(mask: Mask, margin: float = 0) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        float(columns[0]) - margin,
        float(rows[0]) - margin,
        float(columns[-1]) + 1 + margin,
        float(rows[-1]) + 1 + margin,
    )


def dice(a: Mask, b: Mask) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def clicks(*points: tuple[int, int, int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Turns (row, column, label) into the points and labels of a prompt."""
    points_xy = np.array([(column, row) for row, column, _ in points], float)
    return points_xy, np.array([label for _, _, label in points], np.int64)


def segment(image: Image, prompt: SlicePrompt, multimask: bool | None = None) -> SliceMask:
    segmenter = StatisticalSegmenter()
    (mask,) = segmenter.decode(segmenter.encode(image[None]), [prompt], multimask)
    assert mask.logits.shape == image.shape
    assert np.isfinite(mask.logits).all()
    assert np.isfinite(np.asarray(mask.state)).all()
    assert 0 <= mask.quality <= 1
    return mask


@pytest.mark.parametrize("contrast", [40, -40, 90])
@pytest.mark.parametrize("name", SHAPES)
def test_a_box_finds_flat_shapes(name: str, contrast: float) -> None:
    truth = SHAPES[name]
    mask = segment(shade(truth, contrast), SlicePrompt(box_of(truth, margin=1)))
    assert dice(mask.mask, truth) >= 0.97


@pytest.mark.parametrize("contrast", [40, -40])
def test_touching_neighbours_of_other_shades_stay_out(contrast: float) -> None:
    truth = SHAPES["ellipse"]
    image = shade(truth, contrast).astype(float)
    image[disk(48, 78, 14) & ~truth] -= 1.2 * contrast
    image[disk(18, 46, 13) & ~truth] += 2.2 * contrast
    mask = segment(image.clip(0, 255).astype(np.uint8), SlicePrompt(box_of(truth, margin=1)))
    assert dice(mask.mask, truth) >= 0.97


def test_without_contrast_a_box_means_the_ellipse_in_it() -> None:
    ellipse = ((ROWS - 47.5) / 24) ** 2 + ((COLUMNS - 47.5) / 16) ** 2 < 1
    mask = segment(shade(ellipse, 0), SlicePrompt(box_of(ellipse)))
    assert dice(mask.mask, ellipse) >= 0.85


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "two lobes"])
@pytest.mark.parametrize("multimask", [None, True, False])
def test_a_lone_click_finds_its_scale(name: str, multimask: bool | None) -> None:
    truth = SHAPES[name]
    row, column = (int(v) for v in np.argwhere(truth)[truth.sum() // 2])
    mask = segment(shade(truth, 60), SlicePrompt(None, *clicks((row, column, 1))), multimask)
    assert dice(mask.mask, truth) >= 0.95


@pytest.mark.parametrize("step", [(0, 2), (2, 0), (-1, 1)])
def test_a_mask_follows_a_target_that_moves(step: tuple[int, int]) -> None:
    row, column = 40, 40
    mask = segment(shade(disk(row, column, 8), 40), SlicePrompt((32, 32, 49, 49)))
    for number in range(10):
        row, column = row + step[0], column + step[1]
        truth = disk(row, column, 8)
        prompt = SlicePrompt(box_of(mask.mask), state=mask.state)
        mask = segment(shade(truth, 40, seed=number), prompt)
        assert dice(mask.mask, truth) >= 0.95


@pytest.mark.parametrize("radii", [(20, 19, 17, 14, 10, 5), (5, 7, 10, 13, 16, 18)])
def test_a_mask_follows_a_target_that_shrinks_or_grows(radii: Sequence[int]) -> None:
    first = disk(48, 48, radii[0])
    prompt = SlicePrompt(box_of(first), mask=np.where(first, np.float32(5), np.float32(-5)))
    for number, radius in enumerate(radii[1:]):
        truth = disk(48, 48, radius)
        mask = segment(shade(truth, 40, seed=number), prompt)
        assert dice(mask.mask, truth) >= 0.95
        prompt = SlicePrompt(box_of(mask.mask), state=mask.state)


def test_a_mask_prompt_is_added_to_the_state() -> None:
    truth = disk(48, 48, 12)
    image = shade(truth, 40)
    first = segment(image, SlicePrompt(box_of(truth)))
    half = np.where(ROWS < 48, np.float32(20), np.float32(-20))
    box = box_of(truth)
    found = segment(image, SlicePrompt(box, mask=half, state=first.state))
    expected = segment(image, SlicePrompt(box, mask=np.asarray(first.state) + half))
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert not found.mask[60:].any()  # the mask says that the target ends
    assert segment(image, SlicePrompt(box, state=first.state)).mask[56].any()


def test_a_mask_without_contrast_keeps_its_shape() -> None:
    crescent = SHAPES["crescent"]
    scores = np.where(crescent, np.float32(5), np.float32(-5))
    mask = segment(shade(crescent, 0), SlicePrompt(box_of(crescent), mask=scores))
    assert dice(mask.mask, crescent) >= 0.85


def test_a_mask_of_nothing_gives_nothing_where_the_slice_shows_nothing() -> None:
    nothing = np.full((SIDE, SIDE), -6, np.float32)
    assert not segment(shade(disk(0, 0, 0), 0), SlicePrompt(mask=nothing)).mask.any()


def test_a_negative_click_removes_what_looks_like_it() -> None:
    target, intruder = disk(48, 40, 14), disk(48, 66, 8)
    image = shade(target | intruder, 60)
    prompt = SlicePrompt(box_of(target | intruder), *clicks((48, 40, 1), (48, 66, 0)))
    mask = segment(image, prompt).mask
    assert mask[target].mean() > 0.95
    assert not mask[48, 66]
    assert mask[disk(48, 66, 2)].mean() < 0.2


def test_a_positive_click_outside_of_the_box_enters() -> None:
    target, lobe = disk(48, 36, 14), disk(48, 70, 6)
    prompt = SlicePrompt(box_of(target), *clicks((48, 70, 1)))
    mask = segment(shade(target | lobe, 60), prompt).mask
    assert mask[48, 70]
    assert mask[disk(48, 70, 1.5)].all()
    assert mask[target].mean() > 0.95


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("with_mask", [False, True])
def test_every_clicked_pixel_ends_on_its_side(label: int, with_mask: bool) -> None:
    truth = SHAPES["ellipse"]
    image = shade(truth, 40)
    scores = np.where(truth, np.float32(5), np.float32(-5)) if with_mask else None
    for row, column in [(0, 0), (95, 95), (48, 51), (20, 51), (48, 70), (47, 36)]:
        prompt = SlicePrompt(box_of(truth), *clicks((row, column, label)), scores)
        assert segment(image, prompt).mask[row, column] == bool(label)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", ["box", "clicks", "mask"])
def test_flipped_questions_get_flipped_answers(kind: str, axis: int) -> None:
    truth = SHAPES["crescent"] | SHAPES["small disk"]
    image = shade(truth, 25)
    row, column = (int(v) for v in np.argwhere(truth)[100])
    x0, y0, x1, y1 = box_of(truth, margin=2)
    scores = np.where(truth, np.float32(3), np.float32(-3))
    if axis == 0:
        flipped_box: Box = (x0, SIDE - y1, x1, SIDE - y0)
        flipped_click = clicks((SIDE - 1 - row, column, 1))
    else:
        flipped_box = (SIDE - x1, y0, SIDE - x0, y1)
        flipped_click = clicks((row, SIDE - 1 - column, 1))
    click = clicks((row, column, 1))
    question, mirrored = {
        "box": (SlicePrompt((x0, y0, x1, y1)), SlicePrompt(flipped_box)),
        "clicks": (SlicePrompt(None, *click), SlicePrompt(None, *flipped_click)),
        "mask": (
            SlicePrompt((x0, y0, x1, y1), *click, scores),
            SlicePrompt(flipped_box, *flipped_click, np.flip(scores, axis)),
        ),
    }[kind]
    answer = segment(image, question)
    reflection = segment(np.ascontiguousarray(np.flip(image, axis)), mirrored)
    np.testing.assert_allclose(np.flip(reflection.logits, axis), answer.logits, atol=0.02)
    assert reflection.quality == pytest.approx(answer.quality, abs=0.01)


def test_the_same_question_gets_the_same_answer_alone_and_in_a_batch() -> None:
    segmenter = StatisticalSegmenter()
    images = np.stack([shade(SHAPES["ring"], 40), shade(SHAPES["ellipse"], 30)])
    prompts = [SlicePrompt(box_of(SHAPES["ring"])), SlicePrompt(box_of(SHAPES["ellipse"]))]
    batch = segmenter.decode(segmenter.encode(images), prompts)
    for image, prompt, mask in zip(images, prompts, batch, strict=True):
        np.testing.assert_array_equal(segment(image, prompt).logits, mask.logits)


def test_clear_targets_get_a_higher_quality_than_hidden_ones() -> None:
    truth = SHAPES["ellipse"]
    qualities = [
        segment(shade(truth, contrast), SlicePrompt(box_of(truth))).quality
        for contrast in (80, 20, 0)
    ]
    assert qualities == sorted(qualities, reverse=True)
    assert qualities[0] > 0.8


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((96, 96), (40, 40, 41, 41)),
        ((96, 96), (40, 10, 42, 80)),
        ((96, 96), (0, 0, 96, 96)),
        ((96, 96), (90, 90, 96, 96)),
        ((96, 96), (-5, -5, 4, 120)),
        ((96, 96), (30, 30, 30, 30)),
        ((96, 96), (200, 200, 210, 210)),
        ((5, 300), (100, 1, 180, 4)),
        ((300, 5), (0, 0, 5, 300)),
        ((1, 1), (0, 0, 1, 1)),
        ((600, 700), (10, 20, 650, 580)),
    ],
)
@pytest.mark.parametrize("fill", ["noise", "constant", "black"])
def test_odd_slices_and_boxes_are_survived(shape: tuple[int, int], box: Box, fill: str) -> None:
    image = np.full(shape, 0 if fill == "black" else 128, np.uint8)
    if fill == "noise":
        image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    state = segment(image, SlicePrompt(box)).state
    point = clicks((0, shape[1] - 1, 1))
    segment(image, SlicePrompt(box, *point, state=state))
    segment(image, SlicePrompt(None, *point))


def test_no_positive_prompt_gives_an_empty_mask() -> None:
    image = shade(SHAPES["ellipse"], 60)
    for prompt in (SlicePrompt(), SlicePrompt(None, *clicks((48, 48, 0)))):
        mask = segment(image, prompt)
        assert not mask.mask.any()
        assert mask.quality == 0
