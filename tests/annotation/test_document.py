"""A document: every target gets what its prompts alone say, and every step can be taken back."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gamt import Session, history
from gamt.annotation.document import Document, UnknownError
from gamt.annotation.grid import to_array
from gamt.annotation.prompts import BoxPrompt, DrawnPrompt, NewPrompt, PointPrompt, rasterise
from gamt.annotation.targets import Target
from gamt.axes import Plane, bounding_range
from gamt.history import PackedMask
from gamt.io.format import ImageError
from gamt.io.image import Image, write_image
from gamt.session import ArrayBounds, Cancelled
from tests.annotation.scans import (
    LIVER,
    LIVER_BOX,
    SHAPE,
    SPLEEN,
    SPLEEN_BOX,
    Annotation,
    make_image,
)
from tests.doubles import Thresholder, block, picture


@pytest.fixture
def scan(tmp_path: Path) -> Annotation:
    return Annotation.of(make_image(tmp_path))


def bounds_of(mask: npt.NDArray[np.bool_]) -> list[list[int]]:
    found = bounding_range(mask)
    assert found is not None
    return [[a, b] for a, b in zip(*found, strict=True)]


# --- one target ---------------------------------------------------------------------------------


def test_a_box_and_points_make_what_is_drawn_around(scan: Annotation) -> None:
    assert scan.add(scan.box(LIVER_BOX)) == LIVER_BOX
    np.testing.assert_array_equal(scan.mask(), LIVER)
    told = scan.told()
    # 6 x 7 x 7 voxels of 0.5 x 1.5 x 4 mm are 294 x 3 mm^3.
    assert (told["voxels"], told["volume_ml"]) == (294, pytest.approx(0.882))
    assert told["prompts"] == [
        {
            "id": 1,
            "kind": "box",
            "positive": True,
            "plane": None,
            "low": [11, 7, 3],
            "high": [18, 14, 9],
        }
    ]
    assert (told["can_undo"], told["can_redo"], told["note"]) == (True, False, None)
    last = scan.document.last
    assert last is not None
    assert (last.kind, last.target, last.seconds, last.complete) == ("box", 1, 0.25, True)
    assert last.planes == (Plane.AXIAL, Plane.CORONAL, Plane.SAGITTAL)
    assert last.slices > 0


def test_the_volume_of_an_oblique_voxel_is_its_own(tmp_path: Path) -> None:
    image = make_image(tmp_path)
    sheared = image.affine.copy()
    sheared[:3, 1] += sheared[:3, 2]  # a gantry's tilt: edges are longer, the volume is not
    tilted = Image(
        image.path, image.name, image.array, image.spacing_mm, sheared, image.turn, None, None
    )
    assert Document(tilted).voxel_ml == pytest.approx(0.003)


def places(size: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, size - 1), st.integers(1, size)).map(
        lambda pair: (pair[0], min(size, pair[0] + pair[1]))
    )


@st.composite
def prompts(draw: st.DrawFn) -> NewPrompt:
    """Draws a prompt of any kind on the page of a scan."""
    size = SHAPE[::-1]  # i, j, k
    positive = draw(st.booleans())
    kind = draw(st.sampled_from(["point", "box", "scribble", "lasso"]))
    if kind == "point":
        i, j, k = (draw(st.integers(0, n - 1)) for n in size)
        return PointPrompt((i, j, k), positive)
    if kind == "box":
        (i0, i1), (j0, j1), (k0, k1) = (draw(places(n)) for n in size)
        return BoxPrompt((i0, j0, k0), (i1, j1, k1), positive)
    plane = draw(st.sampled_from(Plane))
    axis = 2 - plane.normal
    index = draw(st.integers(0, size[axis] - 1))
    a, b = (draw(st.integers(1, n - 4)) for n in (*size[:axis], *size[axis + 1 :]))
    corners = ((a, b), (a + 3.2, b), (a + 3.2, b + 2.6), (a - 0.4, b + 2.6))
    if kind == "scribble":
        return DrawnPrompt("scribble", plane, index, corners, 0.5, positive)
    return DrawnPrompt("lasso", plane, index, corners, 0.0, positive)


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(said=st.lists(prompts(), min_size=1, max_size=3))
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "orientation", "tilt"),
    [
        ("statistical", ("L", "P", "S"), 0.0),
        ("thresholder", ("R", "A", "S"), 0.3),
        ("thresholder", ("S", "L", "A"), 0.0),
        ("thresholder", ("P", "I", "R"), 0.2),
    ],
)
def test_a_target_is_what_a_session_makes_of_the_same_prompts(
    said: list[NewPrompt],
    name: str,
    orientation: tuple[str, str, str],
    tilt: float,
    tmp_path: Path,
) -> None:
    noise = np.random.default_rng(3).normal(0, 9, SHAPE)
    array = np.clip(picture(LIVER | SPLEEN) * 0.6 + 40 + noise, 0, 255).astype(np.uint8)
    image = make_image(tmp_path, array, orientation, tilt)
    scan = Annotation.of(image, Thresholder() if name == "thresholder" else name)
    bare = Session(Thresholder() if name == "thresholder" else name)
    bare.set_image(image.array[None], {"spacing": image.spacing_mm})
    buffer = np.zeros(SHAPE, np.uint8)
    bare.set_target_buffer(buffer)
    for prompt in said:
        scan.add(prompt)
        tell(bare, prompt)
        np.testing.assert_array_equal(scan.mask(), buffer > 0)


def tell(session: Session, prompt: NewPrompt) -> None:
    """Tells a session what a prompt says, and lets it predict."""
    if isinstance(prompt, PointPrompt):
        session.add_point_interaction(to_array(prompt.voxel, SHAPE), prompt.positive)
    elif isinstance(prompt, BoxPrompt):
        low = to_array([n - 1 for n in prompt.high], SHAPE)
        high = to_array(prompt.low, SHAPE)
        first, last = np.minimum(low, high), np.maximum(low, high)
        bounds = np.stack([first, last + 1], axis=1).tolist()
        session.add_bbox_interaction(bounds, prompt.positive)
    else:
        part, bounds = rasterise(prompt, SHAPE)
        mask = np.zeros(SHAPE, np.uint8)
        mask[tuple(slice(a, b) for a, b in bounds)] = part
        if prompt.kind == "scribble":
            session.add_scribble_interaction(mask, prompt.positive)
        else:
            session.add_lasso_interaction(mask, prompt.positive)


# --- back and forth -----------------------------------------------------------------------------


def many_steps(scan: Annotation, folder: Path) -> list[Callable[[], object]]:
    """Returns steps of every kind, for target 1."""
    write_image(folder / "earlier.nii.gz", SPLEEN, like=scan.document.image)
    return [
        lambda: scan.add(scan.point((5, 5, 5))),
        lambda: scan.document.choose_scale(scan.session, 1, "large"),
        lambda: scan.add(scan.point((5, 12, 14))),
        lambda: scan.add(scan.box([[3, 4], [2, 9], [2, 9]], positive=False)),
        lambda: scan.remove(1),
        lambda: scan.document.reset(scan.session, 1),
        lambda: scan.document.load_mask(
            scan.session, folder / "earlier.nii.gz", "earlier.nii.gz", 1
        ),
        lambda: scan.add(scan.point((6, 12, 14), positive=False)),
        lambda: scan.remove(4),
    ]


def seen(scan: Annotation) -> tuple[bytes, list[Any], Any]:
    told = scan.told()
    return scan.document.labels.tobytes(), told["prompts"], told["scale"]


def test_every_kind_of_step_is_taken_back_and_done_again(scan: Annotation, tmp_path: Path) -> None:
    states = [seen(scan)]
    for step in many_steps(scan, tmp_path):
        step()
        states.append(seen(scan))
        assert states[-1] != states[-2]
    for before in reversed(states[:-1]):
        scan.undo()
        assert seen(scan) == before
    assert not scan.told()["can_undo"]
    assert scan.undo() is None
    for after in states[1:]:
        scan.redo()
        assert seen(scan) == after
    assert not scan.told()["can_redo"]
    assert scan.redo() is None


def test_memory_of_steps_is_that_of_one_history_for_all_targets(
    scan: Annotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan.add(scan.box(LIVER_BOX))
    other = scan.document.add_target()
    scan.add(scan.box(SPLEEN_BOX), other)
    monkeypatch.setattr("gamt.annotation.document.MOST_BYTES", 200)
    monkeypatch.setattr(history, "MOST_BYTES", 200)
    # The masks of 294 and 150 voxels take 37 and 19 bytes; a point takes none.
    for n in range(9):
        scan.add(scan.point((0, 0, n), positive=False), other)
    assert not scan.told(1)["can_undo"]  # its step was the oldest
    assert scan.told(other)["can_undo"]
    np.testing.assert_array_equal(scan.mask(1), LIVER)
    np.testing.assert_array_equal(scan.mask(other), SPLEEN)


# --- removal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("removed", [0, 1, 2, 3])
def test_a_prompt_that_is_removed_was_never_given(removed: int, tmp_path: Path) -> None:
    image = make_image(tmp_path)

    def given(scan: Annotation) -> list[NewPrompt]:
        return [
            scan.box(LIVER_BOX),
            scan.point((5, 12, 14)),
            scan.box([[3, 5], [2, 9], [2, 6]], positive=False),
            scan.point((8, 8, 8), positive=False),
        ]

    scan, other = Annotation.of(image), Annotation.of(image)
    for prompt in given(scan):
        scan.add(prompt)
    scan.remove(removed + 1)
    for n, prompt in enumerate(given(other)):
        if n != removed:
            other.add(prompt)
    np.testing.assert_array_equal(scan.document.labels, other.document.labels)
    told, expected = scan.told()["prompts"], other.told()["prompts"]
    assert [{**one, "id": 0} for one in told] == [{**one, "id": 0} for one in expected]


def test_without_its_only_prompt_a_target_is_empty(scan: Annotation) -> None:
    scan.add(scan.box(LIVER_BOX))
    assert scan.remove(1) == LIVER_BOX
    assert not scan.document.labels.any()
    assert scan.told()["note"] is None


def test_a_prompt_or_target_that_is_not_there_is_an_error(scan: Annotation) -> None:
    with pytest.raises(UnknownError, match="Target 1: found no prompt 7"):
        scan.remove(7)
    with pytest.raises(UnknownError, match="found no target 9"):
        scan.add(scan.point((5, 5, 5)), 9)


# --- what is refused, cancelled or superseded ---------------------------------------------------


def test_a_refused_prompt_changes_nothing(scan: Annotation) -> None:
    scan.add(scan.box(LIVER_BOX))
    before, revision = seen(scan), scan.document.revision
    with pytest.raises(ValueError, match="expected some inside"):
        scan.add(PointPrompt((99, 0, 0), True))
    assert seen(scan) == before
    assert scan.document.revision == revision
    assert scan.add(scan.point((0, 0, 0), positive=False)) is None


def test_a_cancelled_prompt_is_taken_back(tmp_path: Path) -> None:
    stop = threading.Event()
    scan = Annotation.of(make_image(tmp_path), cancelled=stop.is_set)
    scan.add(scan.box(LIVER_BOX))
    scan.undo()
    before = seen(scan)
    stop.set()
    scan.document.begin(scan.session, 1, scan.box(SPLEEN_BOX))
    assert scan.told()["note"] == "Not predicted yet."
    with pytest.raises(Cancelled):
        scan.document.predict(scan.session)
    scan.document.take_back(scan.session)
    assert seen(scan) == before
    stop.clear()
    scan.redo()
    np.testing.assert_array_equal(scan.mask(), LIVER)


def test_a_superseded_prompt_counts_as_if_it_had_been_predicted(tmp_path: Path) -> None:
    stop = threading.Event()
    image = make_image(tmp_path)
    scan, patient = Annotation.of(image, cancelled=stop.is_set), Annotation.of(image)
    quick: list[NewPrompt] = [
        scan.box(LIVER_BOX),
        scan.point((5, 12, 14)),
        scan.point((8, 8, 8), positive=False),
    ]
    stop.set()
    for prompt in quick[:2]:
        scan.document.begin(scan.session, 1, prompt)
        with pytest.raises(Cancelled):
            scan.document.predict(scan.session)
    assert scan.document.target(1).step.waiting
    stop.clear()
    scan.add(quick[2])
    assert not scan.document.target(1).step.waiting
    for prompt in quick:
        patient.add(prompt)
    np.testing.assert_array_equal(scan.document.labels, patient.document.labels)


def test_what_waits_is_predicted_without_another_prompt(scan: Annotation) -> None:
    assert not scan.document.begin_waiting(scan.session, 1)
    scan.document.begin(scan.session, 1, scan.box(LIVER_BOX))
    other = scan.document.add_target()
    scan.add(scan.box(SPLEEN_BOX), other)  # came before the prediction of the first
    assert scan.document.begin_waiting(scan.session, 1)
    scan.document.predict(scan.session)
    assert scan.document.finish(0.5) == LIVER_BOX
    np.testing.assert_array_equal(scan.mask(), LIVER)
    assert scan.told()["note"] is None


# --- several targets ----------------------------------------------------------------------------


def test_targets_have_prompts_and_steps_of_their_own(scan: Annotation) -> None:
    scan.add(scan.box(LIVER_BOX))
    other = scan.document.add_target("spleen", "#123456")
    assert (scan.document.current, scan.told(other)["color"]) == (2, "#123456")
    assert scan.add(scan.box(SPLEEN_BOX), other) == SPLEEN_BOX
    scan.add(scan.point((3, 2, 2), positive=False), 1)
    assert scan.document.current == 1
    assert [len(one["prompts"]) for one in scan.document.describe()] == [2, 1]
    assert scan.undo(other) == SPLEEN_BOX
    expected = LIVER.copy()
    expected[3, 2, 2] = False
    assert not scan.mask(1)[3, 2, 2]
    assert not scan.mask(other).any()
    scan.undo(1)
    np.testing.assert_array_equal(scan.mask(1), LIVER)


def test_of_two_targets_the_one_that_changed_last_has_the_voxel(scan: Annotation) -> None:
    scan.add(scan.box(LIVER_BOX))
    other = scan.document.add_target()
    scan.add(scan.box(LIVER_BOX), other)
    np.testing.assert_array_equal(scan.mask(other), LIVER)
    assert scan.told(1)["voxels"] == 0
    assert scan.told(1)["note"] == "All of its voxels belong to other targets."
    scan.undo(other)
    np.testing.assert_array_equal(scan.mask(1), LIVER)
    scan.redo(other)
    np.testing.assert_array_equal(scan.mask(other), LIVER)


def test_a_locked_target_keeps_its_voxels_and_takes_none(scan: Annotation) -> None:
    scan.add(scan.box(LIVER_BOX))
    other = scan.document.add_target()
    half = [[3, 9], [2, 9], [2, 5]]
    scan.add(scan.box(half, positive=True), other)
    before = scan.document.labels.copy()
    scan.document.change_target(1, locked=True)
    np.testing.assert_array_equal(scan.document.labels, before)
    scan.document.remove_target(other)
    expected = np.where(before == 1, 1, 0)  # what the other one had is free now
    np.testing.assert_array_equal(scan.document.labels, expected)
    third = scan.document.add_target()
    scan.add(scan.box(LIVER_BOX), third)
    np.testing.assert_array_equal(scan.mask(1), before == 1)
    changes: list[Callable[[], object]] = [
        lambda: scan.add(scan.point((0, 0, 0)), 1),
        lambda: scan.undo(1),
        lambda: scan.document.reset(scan.session, 1),
        lambda: scan.document.remove_target(1),
    ]
    for change in changes:
        with pytest.raises(ValueError, match="Target 1 is locked: unlock it to change it"):
            change()
    labels = scan.document.labels.copy()
    scan.document.change_target(1, locked=False)
    np.testing.assert_array_equal(scan.document.labels, labels)


def test_a_removed_target_leaves_its_voxels_to_others(scan: Annotation) -> None:
    scan.add(scan.box(LIVER_BOX))
    other = scan.document.add_target()
    scan.add(scan.box(LIVER_BOX), other)
    assert scan.document.remove_target(other) == LIVER_BOX
    np.testing.assert_array_equal(scan.mask(1), LIVER)
    assert scan.document.current == 1
    assert scan.document.remove_target(1) == LIVER_BOX
    assert [one["id"] for one in scan.document.describe()] == [1]  # there always is one
    assert scan.told()["prompts"] == []


def test_there_are_255_targets_at_most_and_ids_are_used_again(scan: Annotation) -> None:
    for _ in range(254):
        scan.document.add_target()
    with pytest.raises(ValueError, match="there are 255 targets"):
        scan.document.add_target()
    scan.document.remove_target(7)
    assert scan.document.add_target() == 7


def test_the_first_colours_are_those_of_okabe_and_ito(scan: Annotation) -> None:
    scan.document.add_target()
    assert [one["color"] for one in scan.document.describe()] == ["#E69F00", "#56B4E9"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a:b"}, "found the name 'a:b', expected some"),
        ({"name": " 12 "}, "found the name ' 12 ', expected some"),
        ({"name": "x" * 101}, "expected some, 100 characters at most"),
        ({"name": "spleen"}, "there is another target named spleen"),
        ({"name": "ok", "color": "red"}, "found the colour 'red', expected one like #e69f00"),
    ],
)
def test_names_and_colours_are_such_as_files_keep(
    change: dict[str, Any], message: str, scan: Annotation
) -> None:
    scan.document.add_target("spleen")
    before = scan.document.describe()
    with pytest.raises(ValueError, match=message):
        scan.document.change_target(1, **change)
    assert scan.document.describe() == before


def test_a_target_is_renamed_hidden_and_shown(scan: Annotation) -> None:
    scan.document.change_target(1, name=" liver ", visible=False)
    assert (scan.told()["name"], scan.told()["visible"]) == ("liver", False)
    scan.document.change_target(1, name="liver", visible=True)
    assert scan.told()["visible"]


# --- scales -------------------------------------------------------------------------------------


def test_a_first_point_can_be_widened_until_another_prompt_comes(scan: Annotation) -> None:
    scan.add(scan.point((5, 5, 5)))
    told = scan.told()
    assert (told["scales"], told["scale"]) == (["tight", "medium", "large"], "medium")
    medium = scan.mask()
    scan.document.choose_scale(scan.session, 1, "large")
    assert scan.told()["scale"] == "large"
    assert scan.mask().sum() > medium.sum()
    assert scan.document.choose_scale(scan.session, 1, "large") is None
    scan.undo()
    assert scan.told()["scale"] == "medium"
    scan.add(scan.point((0, 0, 0), positive=False))
    assert (scan.told()["scales"], scan.told()["scale"]) == ([], None)
    with pytest.raises(ValueError, match="after one positive point alone"):
        scan.document.choose_scale(scan.session, 1, "tight")


# --- masks --------------------------------------------------------------------------------------


def both_labels(scan: Annotation, folder: Path) -> Path:
    labels = np.where(LIVER, 2, 0) + np.where(SPLEEN, 5, 0)
    write_image(folder / "both.nii.gz", labels.astype(np.uint8), like=scan.document.image)
    return folder / "both.nii.gz"


def test_every_label_of_a_mask_becomes_a_target_to_go_on_from(
    scan: Annotation, tmp_path: Path
) -> None:
    changed = scan.document.load_mask(scan.session, both_labels(scan, tmp_path), "both.nii.gz")
    assert changed == bounds_of(LIVER | SPLEEN)
    assert [one["id"] for one in scan.document.describe()] == [2, 5]  # the empty one made room
    np.testing.assert_array_equal(scan.mask(2), LIVER)
    np.testing.assert_array_equal(scan.mask(5), SPLEEN)
    assert scan.told(5)["prompts"] == [
        {"id": 2, "kind": "mask", "name": "both.nii.gz", "positive": True}
    ]
    scan.add(scan.point((3, 2, 2), positive=False), 2)
    assert not scan.mask(2)[3, 2, 2]
    assert scan.mask(2).sum() > 200  # the rest stays


def test_a_mask_leaves_other_targets_what_they_have(scan: Annotation, tmp_path: Path) -> None:
    scan.add(scan.box(LIVER_BOX))
    liver = scan.mask().copy()
    labels = block(SHAPE, slice(3, 9), slice(2, 9), slice(2, 12))
    write_image(tmp_path / "x.nii.gz", labels.astype(np.uint8), like=scan.document.image)
    scan.document.load_mask(scan.session, tmp_path / "x.nii.gz", "x.nii.gz")
    np.testing.assert_array_equal(scan.mask(1), liver)
    np.testing.assert_array_equal(scan.mask(2), labels & ~liver)
    # Of the file's 6 x 7 x 10 voxels, the liver has 6 x 7 x 7.
    assert scan.told(2)["note"] == "294 voxels of x.nii.gz left out: other targets have them."
    scan.undo(2)
    np.testing.assert_array_equal(scan.mask(1), liver)
    assert not scan.mask(2).any()


def test_a_mask_replaces_what_its_own_target_has(scan: Annotation, tmp_path: Path) -> None:
    scan.add(scan.box(LIVER_BOX))
    part = block(SHAPE, slice(3, 9), slice(2, 9), slice(2, 4))
    write_image(tmp_path / "x.nii.gz", part.astype(np.uint8), like=scan.document.image)
    scan.document.load_mask(scan.session, tmp_path / "x.nii.gz", "x.nii.gz", 1)
    np.testing.assert_array_equal(scan.mask(1), part)
    assert scan.told(1)["note"] is None


def test_a_mask_of_which_others_have_all_is_an_empty_target_that_says_so(
    scan: Annotation, tmp_path: Path
) -> None:
    scan.add(scan.box(LIVER_BOX))
    liver = scan.mask().copy()
    write_image(tmp_path / "x.nii.gz", LIVER.astype(np.uint8), like=scan.document.image)
    assert scan.document.load_mask(scan.session, tmp_path / "x.nii.gz", "x.nii.gz") is None
    np.testing.assert_array_equal(scan.mask(1), liver)
    assert scan.told(2)["note"] == "294 voxels of x.nii.gz left out: other targets have them."


def test_a_mask_of_one_label_is_named_by_its_file(scan: Annotation, tmp_path: Path) -> None:
    write_image(tmp_path / "x.nii.gz", LIVER, like=scan.document.image)
    scan.document.load_mask(scan.session, tmp_path / "x.nii.gz", "left lung.nii.gz")
    assert scan.told()["name"] == "left lung"


def test_an_empty_target_with_a_name_stays_when_a_mask_is_loaded(
    scan: Annotation, tmp_path: Path
) -> None:
    scan.document.change_target(1, name="cyst")
    scan.document.load_mask(scan.session, both_labels(scan, tmp_path), "both.nii.gz")
    assert [one["name"] for one in scan.document.describe()] == ["cyst", "Target 2", "Target 5"]


def test_labels_beyond_255_become_targets_of_other_ids(scan: Annotation, tmp_path: Path) -> None:
    scan.add(scan.point((0, 0, 0), positive=False))  # so that target 1 is in use
    labels = np.where(LIVER, 300, 0) + np.where(SPLEEN, 1, 0)
    write_image(tmp_path / "x.nii.gz", labels.astype(np.int16), like=scan.document.image)
    scan.document.load_mask(scan.session, tmp_path / "x.nii.gz", "x.nii.gz")
    assert [one["id"] for one in scan.document.describe()] == [1, 2, 3]
    np.testing.assert_array_equal(scan.mask(2), SPLEEN)
    np.testing.assert_array_equal(scan.mask(3), LIVER)
    assert scan.document.current == 3


def test_a_mask_of_another_grid_or_of_several_labels_for_one_target_is_refused(
    scan: Annotation, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match="found 2 labels, expected the one of Target 1"):
        scan.document.load_mask(scan.session, both_labels(scan, tmp_path), "both.nii.gz", 1)
    write_image(tmp_path / "small.nii.gz", LIVER[1:])
    with pytest.raises(ImageError, match="lies on another grid"):
        scan.document.load_mask(scan.session, tmp_path / "small.nii.gz", "small.nii.gz")
    write_image(tmp_path / "none.nii.gz", LIVER & SPLEEN, like=scan.document.image)
    with pytest.raises(ImageError, match="found no label, expected one at least"):
        scan.document.load_mask(scan.session, tmp_path / "none.nii.gz", "none.nii.gz")
    assert [one["id"] for one in scan.document.describe()] == [1]
    assert scan.told()["prompts"] == []


# --- what is told -------------------------------------------------------------------------------


def test_notes_say_what_is_absurd(tmp_path: Path) -> None:
    scan = Annotation.of(make_image(tmp_path))
    assert scan.told()["note"] is None
    scan.add(scan.point((5, 5, 5), positive=False))
    assert scan.told()["note"] == (
        "There are negative prompts alone: mark a place inside of the target."
    )


def test_a_target_without_a_voxel_is_told(tmp_path: Path) -> None:
    scan = Annotation.of(make_image(tmp_path))
    scan.add(scan.point((5, 5, 5)))
    scan.add(scan.box([[0, 12], [0, 16], [0, 20]], positive=False))
    assert not scan.mask().any()
    assert scan.told()["note"] == "Nothing was found."


def test_a_target_that_fills_the_image_is_doubted(tmp_path: Path) -> None:
    bright = ~block(SHAPE, slice(0, 1), slice(0, 2), slice(0, 2))
    scan = Annotation.of(make_image(tmp_path, picture(bright)))
    scan.add(scan.box([[0, 12], [0, 16], [0, 20]]))
    assert scan.told()["note"] == (
        "It fills more than half of the image: mark places outside of the target."
    )


def test_a_constant_image_is_told_with_the_first_prompt(tmp_path: Path) -> None:
    scan = Annotation.of(make_image(tmp_path, np.full(SHAPE, 7, np.int16)))
    scan.add(scan.point((5, 5, 5)))
    assert scan.told()["note"] == "All voxels of the image are 7: nothing can be told apart."


def test_what_was_cut_short_is_told(tmp_path: Path) -> None:
    scan = Annotation.of(make_image(tmp_path), seconds=0.0)
    scan.add(scan.box(LIVER_BOX))
    last = scan.document.last
    assert last is not None
    assert not last.complete
    if scan.mask().any():
        assert scan.told()["note"] == (
            "There was no time for all of it: the next prompt goes on from here."
        )


def test_what_is_unsaved_is_what_was_done_since(scan: Annotation) -> None:
    assert not scan.document.is_unsaved
    scan.add(scan.box(LIVER_BOX))
    assert scan.document.is_unsaved
    scan.document.note_saved(scan.document.revision - 1)
    assert scan.document.is_unsaved
    scan.document.note_saved()
    assert not scan.document.is_unsaved
    scan.document.choose_target(1)
    assert not scan.document.is_unsaved
    scan.document.change_target(1, name="liver")
    assert scan.document.is_unsaved


# --- views --------------------------------------------------------------------------------------


class CoronalDoubter(Thresholder):
    """A thresholder that sees nothing in the first five columns of coronal slices.

    In a scan of 4 x 1.5 x 0.5 mm, their grid has 20 columns, and more rows than that of axial ones.
    """

    def segment(self, image: npt.NDArray[np.uint8], prompt: Any) -> npt.NDArray[np.bool_]:
        found = super().segment(image, prompt)
        if image.shape[1] == SHAPE[2] and image.shape[0] > 1.5 / 0.5 * SHAPE[1]:
            found[:, :5] = False
        return found


def test_views_disagree_where_one_of_them_sees_nothing(tmp_path: Path) -> None:
    scan = Annotation.of(make_image(tmp_path), CoronalDoubter())
    scan.add(scan.box(LIVER_BOX))
    found = scan.document.disagreement(1)
    assert found is not None
    bounds, amount = found
    whole = np.zeros(SHAPE, np.uint8)
    whole[tuple(slice(a, b) for a, b in bounds)] = amount
    # The others are certain of the liver. Of the first columns, the coronal view looked at those
    # beside what it saw.
    beside = LIVER & block(SHAPE, slice(None), slice(None), slice(4, 5))
    seen_by_all = LIVER & block(SHAPE, slice(None), slice(None), slice(5, None))
    assert (whole[beside] > 250).all()
    assert not whole[seen_by_all].any()
    scan.add(scan.point((0, 0, 0), positive=False))  # changes nothing, so no slice is looked at
    assert scan.document.disagreement(1) is not None
    scan.document.reset(scan.session, 1)
    assert scan.document.disagreement(1) is None


def test_an_explanation_is_a_page_about_the_target(scan: Annotation) -> None:
    scan.document.change_target(1, name="Leber")
    with pytest.raises(ValueError, match="Leber: there is no prompt yet"):
        scan.document.explain(scan.session, 1)
    scan.add(scan.box(LIVER_BOX))
    before = seen(scan)
    encoded = scan.session.encoded
    page = scan.document.explain(scan.session, 1)
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert "Leber" in page
    # The liver is a block of 6 x 7 x 7 voxels, which both runs find whole.
    assert "there the target has 294 voxels, here 294." in page
    assert seen(scan) == before
    assert scan.session.encoded == encoded  # no slice was encoded again
    with pytest.raises(Cancelled):
        scan.document.explain(scan.session, 1, cancelled=lambda: True)


class Watched(Document):
    """Notes what it says of its targets whenever it is about to change a label."""

    def __init__(self, image: Image) -> None:
        self.seen: list[tuple[int, list[int]]] = []
        super().__init__(image)

    def _paint(self, before: PackedMask | None, after: PackedMask | None) -> ArrayBounds | None:
        self.seen.append((self.current, [one["id"] for one in self.describe()]))
        return super()._paint(before, after)


def test_whenever_it_is_asked_the_current_target_is_one_of_all(tmp_path: Path) -> None:
    image = make_image(tmp_path)
    document = Watched(image)
    session = Session(Thresholder(), observer=document.observer)
    document.attach(session)
    write_image(tmp_path / "mask.nii.gz", 4 * LIVER + 7 * SPLEEN.astype(np.uint8), like=image)
    document.load_mask(session, tmp_path / "mask.nii.gz", "mask.nii.gz")
    others = [Target(9, "one", "#ff0000"), Target(12, "two", "#00ff00")]
    document.put_back(others, 12)
    document.remove_target(12)
    document.remove_target(9)
    assert len(document.seen) > 4
    assert all(current in ids for current, ids in document.seen)
    assert [(one.id, document.current) for one in document.targets] == [(1, 1)]
