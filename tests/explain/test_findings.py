"""What an explanation says in words."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from gamt.axes import Plane
from gamt.explain.findings import describe_prompts, find_problems, spans, tell_stop
from gamt.explain.record import (
    BodyRecord,
    ClassRecord,
    ClickRecord,
    PlaneRecord,
    Stage,
    Stop,
    Visit,
    WalkRecord,
)
from gamt.lifting.propagation import End
from gamt.prompts import Box, ClassPrompts, Click, Region, Scribble, SliceBox
from gamt.windows import IntensityWindow

BOX = Box(z_min=2, z_max=10, z_mid=4, y_min=3, y_max=8, x_min=5, x_max=16)


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([], "none"),
        ([7], "7 (1)"),
        ([3, 2, 4], "2–4 (3)"),
        ([1, 2, 5], "1–2, 5 (3)"),
        ([1, 3, 5, 7], "1–7 (4 of 7)"),
    ],
)
def test_slices_are_told_as_ranges(indices: list[int], text: str) -> None:
    assert spans(indices) == text


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (Stop(6, End.VANISHED), "6: the mask vanished"),
        (Stop(0, End.UNSURE), "0: quality too low (min_quality)"),
        (Stop(None, End.TIME), "out of time"),
    ],
)
def test_a_stop_is_told_with_its_slice_if_it_has_one(stop: Stop, text: str) -> None:
    assert tell_stop(stop) == text


def test_prompts_are_told_with_their_last_voxels_inside() -> None:
    slice_box = SliceBox(Plane.CORONAL, low=(2, 7, 4), high=(9, 8, 15))
    drawn = Box(z_min=1, z_max=5, z_mid=3, y_min=0, y_max=6, x_min=2, x_max=3)
    assert list(describe_prompts(ClassRecord(ClassPrompts(1, BOX)))) == [
        "Box on slice z 4: z 2–9, y 3–7, x 5–15."
    ]
    record = ClassRecord(ClassPrompts(1, slice_box=slice_box), drawn_box=drawn)
    assert list(describe_prompts(record)) == [
        "Box on one coronal slice: z 2–8, y 7–7, x 4–14.",
        "Box that the method drew around what the first prompt shows: z 1–4, y 0–5, x 2–2.",
    ]
    record = ClassRecord(ClassPrompts(1), window=IntensityWindow.of_level(-600, 1500))
    assert list(describe_prompts(record)) == ["Window of intensities: level -600, width 1500."]


def test_scribbles_and_regions_are_told_with_their_side_and_size() -> None:
    line = Scribble(np.array([[1, 2, 3], [1, 2, 4], [1, 2, 5]]), positive=True)
    area = Region((4, 5, 6), np.ones((1, 2, 7), np.bool_), positive=False)
    body = BodyRecord(clear=False, asked=False, taken=True)
    record = ClassRecord(ClassPrompts(1, scribbles=(line,), regions=(area,)), begun=True, body=body)
    assert list(describe_prompts(record)) == [
        "The first scribble stands in a body of a size that is a guess, grown from the scan "
        "itself. The planes are not asked: the segmenter knows no more than intensities.",
        "Region 1, outside, 14 voxels: z 4–4, y 5–6, x 6–12.",
        "Scribble 1, inside, 3 voxels: z 1–1, y 2–2, x 3–5.",
    ]
    assert list(find_problems(record)) == [
        "Nothing around the first scribble stands out: how large the target is, is a guess."
    ]


def test_clicks_are_told_with_what_came_of_them() -> None:
    inside, outside = Click(1, 2, 3, positive=True), Click(4, 5, 6, positive=False)
    clicks = (
        ClickRecord(inside, changed=1234, reached=True),
        ClickRecord(outside, changed=7, reached=True),
        ClickRecord(inside, changed=0, reached=True),
        ClickRecord(outside, changed=0, reached=False),
    )
    record = ClassRecord(ClassPrompts(1), had_previous=True, clicks=clicks)
    assert list(describe_prompts(record)) == [
        "Click 1, inside, at z 1, y 2, x 3: added 1,234 voxels.",
        "Click 2, outside, at z 4, y 5, x 6: removed 7 voxels.",
        "Click 3, inside, at z 1, y 2, x 3: agrees with what was found.",
        "Click 4, outside, at z 4, y 5, x 6: the time was up before its turn.",
        "Previous prediction, which stays where no prompt contradicts it.",
    ]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            BodyRecord(clear=True, asked=False, taken=True),
            "The first click stands in a body that stands out clearly, grown from the scan itself. "
            "The planes are not asked: the segmenter knows no more than intensities.",
        ),
        (
            BodyRecord(clear=False, asked=True, taken=True),
            "The first click stands in a body of a size that is a guess, grown from the scan "
            "itself. What the planes saw does not confirm it, and does not count.",
        ),
        (
            BodyRecord(clear=True, asked=True, taken=False),
            "The first click stands in a body that stands out clearly, grown from the scan itself. "
            "What the planes saw confirms it, and counts in its place.",
        ),
        (
            BodyRecord(clear=True, asked=False, taken=True, scale="large"),
            "The first click stands in a body that stands out clearly, grown from the scan itself. "
            "Scale large takes more. "
            "The planes are not asked: the segmenter knows no more than intensities.",
        ),
    ],
)
def test_a_body_is_told_with_what_the_planes_say_of_it(body: BodyRecord, text: str) -> None:
    assert list(describe_prompts(ClassRecord(ClassPrompts(1), body=body))) == [text]


@pytest.mark.parametrize(("clear", "count"), [(True, 0), (False, 1)])
def test_a_body_that_is_a_guess_is_worth_a_look(clear: bool, count: int) -> None:
    body = BodyRecord(clear, asked=False, taken=True)
    found = list(find_problems(ClassRecord(ClassPrompts(1), begun=True, body=body)))
    assert [text.endswith("how large the target is, is a guess.") for text in found] == [
        True
    ] * count


def walk_that_ended(end: End) -> WalkRecord:
    """Returns a walk from slice 4 through 2..9 that went down to 2, and up to 6."""
    visits = [Visit(index, 50.0, 0.9, None) for index in (4, 3, 2, 5)]
    visits.append(Visit(6, 10.0, 0.9, end))
    return WalkRecord(Plane.AXIAL, 4, tuple(range(2, 10)), None, visits)


def problems(
    box: Box | None = BOX, planes: Sequence[PlaneRecord] = (), stages: Sequence[Stage] = ()
) -> list[str]:
    record = ClassRecord(
        ClassPrompts(1, box), begun=True, planes=tuple(planes), stages=tuple(stages)
    )
    return list(find_problems(record))


def test_a_class_of_which_nothing_is_known_is_the_only_problem() -> None:
    assert list(find_problems(ClassRecord(ClassPrompts(1)))) == [
        "There is neither a prompt nor a previous prediction: nothing was looked for."
    ]


def test_a_walk_that_ended_before_the_boxs_last_slice_is_a_problem() -> None:
    walk = walk_that_ended(End.VANISHED)
    assert problems(planes=[PlaneRecord(Plane.AXIAL, (walk,), 5)]) == [
        "The axial walk up from slice 4 ended early, at 6: the mask vanished. It was to go to 9."
    ]


def test_without_a_box_only_a_walk_that_lost_its_target_is_a_problem() -> None:
    vanished = PlaneRecord(Plane.AXIAL, (walk_that_ended(End.VANISHED),), 5)
    assert problems(box=None, planes=[vanished]) == []
    unsure = PlaneRecord(Plane.AXIAL, (walk_that_ended(End.UNSURE),), 5)
    (problem,) = problems(box=None, planes=[unsure])
    assert "ended early, at 6: quality too low (min_quality)." in problem


@pytest.mark.parametrize(("runs", "told"), [(3, 6), (4, 0)])
def test_runs_that_are_walked_in_two_ways_are_counted_once(runs: int, told: int) -> None:
    by_prompts = walk_that_ended(End.VANISHED)
    walks = (by_prompts, replace(by_prompts, by_memory=True)) * runs
    assert len(problems(planes=[PlaneRecord(Plane.AXIAL, walks, 5)])) == told


def test_of_a_plane_of_many_walks_no_end_is_told() -> None:
    walks = (walk_that_ended(End.VANISHED),) * 4
    assert problems(planes=[PlaneRecord(Plane.AXIAL, walks, 5)]) == []


def test_a_plane_without_a_walk_is_a_problem() -> None:
    assert problems(planes=[PlaneRecord(Plane.CORONAL, (), 0)]) == [
        "No coronal walk: nothing that was seen before leads to such a slice."
    ]


@pytest.mark.parametrize(
    ("axial", "sagittal", "expected"),
    [
        (0.65, 0.40, ["No plane's votes are near the truth: Dice 0.65 at most. "]),
        (0.90, 0.60, ["The planes differ: Dice 0.60 for sagittal votes, 0.90 for axial votes."]),
        (0.90, 0.80, []),
        (0.90, None, []),  # a plane that looked at nothing
    ],
)
def test_votes_that_are_far_from_the_truth_or_each_other_are_a_problem(
    axial: float, sagittal: float | None, expected: list[str]
) -> None:
    stages = [Stage("axial votes", 90, axial), Stage("sagittal votes", 80, sagittal)]
    found = problems(stages=stages)
    assert len(found) == len(expected)
    assert all(one.startswith(begin) for one, begin in zip(found, expected, strict=True))


def test_a_step_after_which_the_dice_is_lower_is_a_problem() -> None:
    dice = {"axial votes": 0.95, "fused": 0.90, "corrected": 0.89, "result": 0.80}
    stages = [Stage(name, 100, value) for name, value in dice.items()]
    # Neither from votes to what is fused of them, nor by 0.01.
    assert problems(stages=stages) == [
        "Dice falls from 0.89 to 0.80 between “corrected” and “result”."
    ]


def test_faults_of_the_segmenter_are_told_first() -> None:
    faults = ("no axial view (RuntimeError: no luck)",)
    record = ClassRecord(ClassPrompts(1, BOX), begun=True, faults=faults)
    assert next(iter(find_problems(record))) == (
        "The segmenter failed: no axial view (RuntimeError: no luck)."
    )
