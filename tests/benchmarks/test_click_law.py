"""The fit of what a click says: what it records, what it finds, and whom it leaves out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.click_law import (
    VOXELS,
    Sample,
    fit,
    fit_samples,
    group_of,
    left_out,
    main,
    mean_gain,
    record,
)
from benchmarks.phantoms import Labels
from evaluation.records import CLICKS
from gamt import segmenters
from gamt.io.case import Case, write_case
from gamt.lifting.evidence import WEIGHTS
from gamt.prompts import ClassPrompts, box_of_mask
from tests.doubles import block


def draw(law: npt.NDArray[np.float64], case: str = "one", seed: int = 0) -> Sample:
    """Draws voxels that are as often wrong as a law says; as many are candidates as in a target."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(4000, len(law)))
    wrong = rng.random(len(features)) < 1 / (1 + np.exp(-features @ law))
    return Sample(case, features, wrong, candidates=4000, volume=4000)


def noisy_case(name: str, seed: int = 0) -> tuple[Case, Labels]:
    """Draws a box and what is in it, so faintly that clicks are needed."""
    truth: Labels = block((12, 16, 18), slice(3, 9), slice(4, 12), slice(5, 14)).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(100, 30, truth.shape)
    image = (noise + 30 * truth).clip(0, 255).astype(np.uint8)
    prompts = (ClassPrompts(1, box_of_mask(truth > 0)),)
    return Case(name, image, (1.0, 1.0, 1.0), prompts, None), truth


def test_the_weights_that_drew_the_voxels_are_found() -> None:
    law = np.array([0.5, -1.0, 2.0, 0.0])
    sample = draw(law)
    found = fit(sample.features, sample.wrong, np.ones(len(sample.wrong)))
    assert found == pytest.approx(law, abs=0.15)


def test_a_feature_that_never_varies_weighs_nothing() -> None:
    sample = draw(np.array([1.0, 3.0]))
    sample.features[:, 1] = 0
    assert fit_samples([sample])[1] == pytest.approx(0)


def test_voxels_count_by_their_weights() -> None:
    seen, wrong = np.ones((2, 1)), np.array([True, False])
    (law,) = fit(seen, wrong, np.array([3.0, 1.0]))
    assert law == pytest.approx(np.log(3), abs=0.02)  # three times as often wrong as right


def test_a_click_weighs_by_its_candidates_up_to_a_volume_and_less_among_many() -> None:
    one = Sample("one", np.ones((1, 1)), np.array([True]), 50, 100)
    other = Sample("other", np.ones((1, 1)), np.array([False]), 50, 100)
    even = fit_samples([one, other])
    assert even == pytest.approx(0, abs=1e-6)
    twice, capped = replace(one, candidates=100), replace(one, candidates=900)
    assert fit_samples([twice, other]) == pytest.approx(np.log(2), abs=0.02)
    assert fit_samples([capped, other]) == pytest.approx(fit_samples([twice, other]))
    # Four clicks of a case weigh twice as much as one.
    assert fit_samples([one] * 4 + [other]) == pytest.approx(np.log(2), abs=0.02)


def test_cases_are_joined_by_what_their_names_contain() -> None:
    same = [["STS"], ["aorta", "pulm"]]
    names = ["CT_STS_1", "MR_STS_2", "CT_aorta", "CT_pulm", "CT_spine"]
    groups = [group_of(name, same) for name in names]
    assert groups[0] == groups[1]
    assert groups[2] == groups[3]
    assert len(set(groups)) == 3
    assert group_of("CT_spine", []) == "CT_spine"


def test_a_patient_is_predicted_without_all_of_its_cases() -> None:
    # The cases of one patient follow the opposite law of all others.
    law = np.array([4.0])
    samples = [draw(law, "b", 1), draw(law, "c", 2), draw(-law, "a CT", 3), draw(-law, "a MR", 4)]
    groups = {one.case: group_of(one.case, [["a "]]) for one in samples}
    for sample, changed in zip(samples[2:], left_out(samples, groups)[2:], strict=True):
        assert changed.tolist() == (sample.features[:, 0] > 0).tolist()


def test_a_gain_is_counted_in_volumes_of_the_target_and_cases_count_alike() -> None:
    wrong = np.array([True, True, False, False])
    one = Sample("one", np.zeros((4, 1)), wrong, candidates=40, volume=200)
    assert one.gain(wrong) == pytest.approx(0.1)
    assert one.gain(np.ones(4, np.bool_)) == 0
    assert one.gain(~wrong) == pytest.approx(-0.1)
    other = Sample("other", np.zeros((4, 1)), wrong, candidates=40, volume=100)
    assert mean_gain([one, one, other], [wrong] * 3) == pytest.approx(0.15)


def test_every_correction_of_a_case_is_sampled() -> None:
    case, truth = noisy_case("one")
    samples = record(case, truth, segmenters.load())
    assert len(samples) >= CLICKS
    columns = dict(zip(WEIGHTS, np.concatenate([one.features for one in samples]).T, strict=True))
    # Voxels are either to be added or to be removed.
    assert (columns["intercept_add"] + columns["intercept_remove"] == 1).all()
    for one in samples:
        assert one.case == "one"
        assert one.volume == truth.sum()
        assert len(one.wrong) == min(VOXELS, one.candidates)
        assert one.wrong.any()  # around a click, something is


def test_the_table_has_every_weight_and_every_gain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "other"):
        case, truth = noisy_case(name, seed=len(name))
        write_case(tmp_path / f"{name}.npz", case.image, case.spacing_mm, case.prompts, truth)
    main(["--cases", str(tmp_path)])
    printed = capsys.readouterr().out
    assert all(f"| `{name}` | {weight:g} | " in printed for name, weight in WEIGHTS.items())
    assert "clicks, 2 cases" in printed
    with pytest.raises(SystemExit):
        main(["--cases", str(tmp_path), "--same", "one", "other"])
    assert "two groups" in capsys.readouterr().err
