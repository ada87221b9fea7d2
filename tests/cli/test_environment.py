"""Settings: the command line before the environment before the preset."""

from dataclasses import replace
from pathlib import Path

import pytest

from gamt.settings import PRESETS, Settings
from tests.cli.calls import THRESHOLD, Run, one_line
from tests.test_predict import save


def chosen(run: Run, used: list[Settings], folder: Path, *options: str) -> Settings:
    path = save(folder / "in" / "a.npz")
    status, log = run("predict", path, folder / "out", *options)
    assert status == 0, log
    return used.pop()


def test_without_options_the_default_preset_is_used(
    tmp_path: Path, run: Run, used: list[Settings]
) -> None:
    assert chosen(run, used, tmp_path) == PRESETS["default"]


def test_the_command_line_goes_before_the_environment_and_that_before_the_preset(
    tmp_path: Path, run: Run, used: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAMT_SEGMENTER", "statistical")
    monkeypatch.setenv("GAMT_PRESET", "coreset")
    coreset = PRESETS["coreset"]
    assert chosen(run, used, tmp_path) == coreset
    monkeypatch.setenv("GAMT_RANGE_PERCENTILE", "70")
    monkeypatch.setenv("GAMT_BUDGET", "false")
    changed = replace(coreset, range_percentile=70.0, budget=False)
    assert chosen(run, used, tmp_path) == changed
    options = ("--set", "range_percentile=60", "--set", "smoothing=opening")
    assert chosen(run, used, tmp_path, *options) == replace(
        changed, range_percentile=60.0, smoothing="opening"
    )
    assert chosen(run, used, tmp_path, "--preset", "all-data") == replace(
        PRESETS["all-data"], range_percentile=70.0, budget=False
    )


def test_no_budget_goes_before_the_environment(
    tmp_path: Path, run: Run, used: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAMT_BUDGET", "true")
    assert not chosen(run, used, tmp_path, "--no-budget").budget


def test_the_environment_names_the_segmenter(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "in" / "a.npz")
    monkeypatch.setenv("GAMT_SEGMENTER", THRESHOLD[1])
    assert "threshold on abacus" in run("predict", path, tmp_path / "out")[1]
    assert "statistical on" in run("predict", path, tmp_path / "out", "--segmenter=statistical")[1]


def test_a_variable_of_no_setting_is_an_error_that_names_the_settings(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAMT_RANGE_PERCENTILES", "90")
    status, log = run("predict", save(tmp_path / "in" / "a.npz"), tmp_path / "out")
    assert status == 2
    assert one_line(log)
    assert "GAMT_RANGE_PERCENTILES" in log
    assert "range_percentile," in log


def test_empty_variables_and_those_for_other_things_are_left_alone(
    tmp_path: Path, run: Run, used: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WEIGHTS_DIR", "WEIGHTS_MIRROR", "CACHE"):
        monkeypatch.setenv(f"GAMT_{name}", f"{tmp_path}/somewhere")
    monkeypatch.setenv("GAMT_DTYPE", "auto")
    monkeypatch.setenv("GAMT_WEIGHTS", "")
    monkeypatch.setenv("GAMT_RANGE_PERCENTILE", "")
    assert chosen(run, used, tmp_path) == PRESETS["default"]
