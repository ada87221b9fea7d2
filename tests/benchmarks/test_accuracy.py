"""The comparison of candidates, but for those that need packages of their own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.accuracy import (
    Choice,
    Step,
    Summary,
    choices,
    compare,
    describe,
    main,
    print_comparison,
    steps,
    summarise,
    table_head,
    table_row,
)
from benchmarks.candidates.boxed import BoxedSegmenter, Image
from benchmarks.candidates.ellipsoid import ellipsoid_with_balls
from benchmarks.candidates.histograms import ellipsoid_with_histograms
from benchmarks.phantoms import Labels, Mask
from evaluation.records import CaseRecord, ClassClick, Interaction
from gamt.io.case import Case
from gamt.prompts import PixelBox, SlicePrompt
from tests.evaluation.toy_method import write_easy_case

CLICK = ClassClick("fg", (0, 0, 0))


@pytest.fixture
def easy(tmp_path: Path) -> Path:
    """A case of two classes, the first of which is the ellipsoid in its box."""
    path = tmp_path / "MR_easy.npz"
    write_easy_case(path)
    return path


def record(name: str, dice: Sequence[Sequence[float]], has_box: bool = True) -> CaseRecord:
    """Makes a record of Dice by run and class, in which NSD is half of it, at a second a run."""
    first = 1 if has_box else 2
    interactions = []
    for number, by_class in enumerate(dice, start=first):
        clicks = tuple(None if number == 1 or one == 1 else CLICK for one in by_class)
        dsc = float(np.mean(by_class))
        interactions.append(
            Interaction(
                number,
                clicks if number > 1 else (),
                1.0,
                "written",
                None,
                dsc,
                dsc / 2,
                tuple(by_class),
                None,
            )
        )
    labels = tuple(range(1, len(dice[0]) + 1))
    return CaseRecord(f"{name}.npz", "", "", {}, (1, 1, 1), labels, tuple(interactions), 0.0)


def test_a_candidate_gets_the_box_and_then_five_clicks_on_its_last_result(easy: Path) -> None:
    cases: list[Case] = []

    def nothing(case: Case) -> Labels:
        cases.append(case)
        return np.zeros(case.image.shape, np.uint8)

    (found,) = compare({"nothing": nothing}, [easy])["nothing"]
    assert [len(case.prompts[0].clicks) for case in cases] == [0, 1, 2, 3, 4, 5]
    assert [case.previous is None for case in cases] == [True] + [False] * 5
    assert [one.dsc for one in found.interactions] == [0.0] * 6


def test_a_class_that_the_box_draws_right_is_left_alone(easy: Path) -> None:
    (found,) = compare({"ellipsoid": ellipsoid_with_balls}, [easy])["ellipsoid"]
    assert [one.class_dsc[0] for one in found.interactions] == [1.0] * 6
    assert all(one.clicks[0] is None for one in found.interactions[1:])
    assert all(one.clicks[1] is not None for one in found.interactions[1:])


def test_intensities_help_the_ellipsoid(easy: Path) -> None:
    candidates = {"plain": ellipsoid_with_balls, "mixed": ellipsoid_with_histograms}
    records = compare(candidates, [easy])
    plain, mixed = (records[name][0].interactions[0].class_dsc[1] for name in candidates)
    assert mixed > plain


def test_pixels_are_decided_in_the_box_and_points_are_obeyed() -> None:
    def inside(image: Image, box: PixelBox, prompt: SlicePrompt) -> Mask:
        mask = np.zeros(image.shape, np.bool_)
        mask[box[1] : box[3], box[0] : box[2]] = True
        return mask

    segmenter = BoxedSegmenter("all of the box", inside)
    prompt = SlicePrompt((-3.0, 2.0, 4.0, 5.0), np.array([[1.0, 3.0]]), np.array([0]))
    (answer,) = segmenter.decode(segmenter.encode(np.zeros((1, 8, 9), np.uint8)), [prompt])
    expected = np.zeros((8, 9), np.bool_)
    expected[2:5, :4] = True
    expected[3, 1] = False
    np.testing.assert_array_equal(answer.mask, expected)


def test_without_box_and_points_inside_no_pixel_is_the_targets() -> None:
    segmenter = BoxedSegmenter("unasked", lambda image, box, prompt: image == 0)
    (answer,) = segmenter.decode(segmenter.encode(np.zeros((1, 8, 9), np.uint8)), [SlicePrompt()])
    assert not answer.mask.any()


def test_a_summary_takes_the_means_over_cases() -> None:
    boxed = record("CT_a", [[0.5, 1.0], [0.4, 1.0], [0.4, 1.0], [0.4, 1.0], [0.4, 1.0], [0.6, 1.0]])
    clicked = record("US_b", [[0.2], [0.2], [0.2], [0.195], [0.4]], has_box=False)
    found = summarise([boxed, clicked])
    assert found.box == pytest.approx((0.75, 0.375))
    assert found.final == pytest.approx((0.6, 0.3))
    assert found.areas == pytest.approx(((2.85 + 0.895) / 2, (2.85 + 0.895) / 4))
    # One of five clicks on the first case, none of four on the second.
    assert found.losing == pytest.approx(1 / 9)
    assert found.modalities == pytest.approx({"CT": 0.8, "US": 0.4})
    assert found.seconds == pytest.approx((6 / 2 + 5 / 1) / 2)


def test_without_any_box_there_are_no_figures_from_boxes() -> None:
    assert summarise([record("US_b", [[0.2]] * 5, has_box=False)]).box is None


def test_a_class_that_was_not_clicked_takes_no_step() -> None:
    found = steps(record("CT_a", [[0.5, 0.9], [0.4, 1.0], [0.7, 1.0]]))
    assert found == [Step("CT_a", 1, 1, 0.5, 0.4), Step("CT_a", 1, 2, 0.4, 0.7)]
    assert [step.loss for step in found] == pytest.approx([0.1, -0.3])


def test_a_row_has_a_cell_for_every_head() -> None:
    modalities = ["CT", "US"]
    summary = Summary(None, (0.8125, 0.65), (3.16, 2.4666), 0.0612, {"US": 0.7, "CT": 0.9}, 1.234)
    row = table_row("mine", summary, modalities)
    assert row == ("| mine | – | 0.812 / 0.650 | 3.160 / 2.467 | 6.1% | 0.900 | 0.700 | 1.23 |")
    head, rule = table_head(modalities)
    assert head.count("|") == rule.count("|") == row.count("|")


def test_each_case_is_chosen_for_by_the_others() -> None:
    scores = {"a": [1.0, 0.5, 0.5], "b": [0.0, 0.6, 0.8], "c": [0.0, 0.0, 0.0]}
    first, second, third = choices(scores)
    assert (first.best, first.score, first.there, first.most) == ("b", 0.0, "a", 1.0)
    assert first.lead == pytest.approx(0.2)
    assert (second.best, second.score, second.there, second.most) == ("a", 0.5, "b", 0.6)
    assert second.lead == pytest.approx(0.35)
    assert (third.best, third.score, third.there, third.most) == ("a", 0.5, "b", 0.8)


def test_the_line_on_choices_names_who_was_chosen_and_how_often() -> None:
    found = [Choice("a", 0.1, 0.5, "a", 0.5), Choice("a", 0.3, 0.7, "b", 0.8)]
    line = describe(found, {"a": [0.5, 0.7], "b": [0.1, 0.8]})
    assert line == (
        "chosen without a case: a 2 of 2 times, ahead by 0.100 to 0.300; on the cases left out "
        "0.600 (standard deviation 0.141, 0.500 to 0.700); on all cases a 0.600"
    )


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_cases_is_an_error(
    exists: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cases"
    if exists:
        folder.mkdir()
    with pytest.raises(SystemExit, match="2"):
        main(["--cases", str(folder)])
    assert f"error: --cases {folder}: found no npz files there" in capsys.readouterr().err


def test_packages_that_are_missing_are_an_error_that_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accuracy, "PACKAGES", ("no_such_package",))
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "found no no_such_package; 'make bench-accuracy' gets" in capsys.readouterr().err


def test_a_single_case_has_a_table_and_leaves_no_choice(
    easy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_comparison("Cases", compare({"ellipsoid": ellipsoid_with_balls}, [easy]))
    printed = capsys.readouterr().out
    assert "| ellipsoid | 0.9" in printed
    assert "left out" not in printed


def test_a_broken_case_is_an_error_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "CT_broken.npz").write_bytes(b"no archive")
    monkeypatch.setattr(accuracy, "PACKAGES", ())
    monkeypatch.setattr(accuracy, "FOLDER", tmp_path)
    assert main([]) == 1
    assert "CT_broken.npz" in capsys.readouterr().err
