"""Methods: what a spec stands for, gamt in process, and what can't be run."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.loop import LateError, MethodError
from evaluation.methods import InProcess, parse_method
from gamt.cli.options import PredictOptions
from tests.evaluation.engine import Engine
from tests.evaluation.runs import log, run


def test_a_command_runs_beside_inputs_and_outputs(folder: Path) -> None:
    parsed = parse_method("command:cp inputs/*.npz outputs/ && echo copied", run_limit=60)
    assert run(parsed, folder) is None
    assert (folder / "outputs" / "US_phantom.npz").exists()
    assert log(folder) == "copied\n"


def test_gamt_is_given_its_options(folder: Path) -> None:
    parsed = parse_method("gamt --set smoothing=opening --no-budget", run_limit=60)
    assert "smoothing='opening'" in parsed.identity
    assert "budget=False" in parsed.identity
    assert run(parsed, folder) is None
    with np.load(folder / "outputs" / "US_phantom.npz") as file:
        assert set(np.unique(file["segs"])) == {0, 1, 2, 3}
    assert "US_phantom: statistical" in log(folder)


def write_model(folder: Path, weights: bytes) -> None:
    """Writes files that nothing but their names makes a model of."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ("--segmenter hf:./net", "net/model.safetensors"),
        ("--segmenter hf:./net", "net/config.json"),
        ("--segmenter hf:./net --weights tuned.pth", "tuned.pth"),
        ("--segmenter medsam2 --weights tuned.pth", "tuned.pth"),
        ("--preset cpu", "weights/MedSAM2_latest.pt"),
        ("--segmenter package.module:Class --weights tuned.pth", "tuned.pth"),
    ],
)
def test_gamt_with_other_weights_is_another_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAMT_WEIGHTS_DIR", raising=False)
    write_model(tmp_path / "net", b"one")
    (tmp_path / "weights").mkdir()
    for name in ("tuned.pth", "weights/MedSAM2_latest.pt"):
        (tmp_path / name).write_bytes(b"one")
    identity = parse_method(f"gamt {options}", run_limit=60).identity
    assert parse_method(f"gamt {options}", run_limit=60).identity == identity
    (tmp_path / file).write_bytes(b"two")
    assert parse_method(f"gamt {options}", run_limit=60).identity != identity


def test_gamt_with_another_version_of_what_computes_its_network_is_another_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "net", b"one")
    spec = f"gamt --segmenter hf:{tmp_path}/net"
    without = parse_method("gamt", run_limit=60).identity
    identity = parse_method(spec, run_limit=60).identity
    monkeypatch.setattr("gamt.identity.version", lambda distribution: "1000.0")
    assert parse_method(spec, run_limit=60).identity != identity
    assert parse_method("gamt", run_limit=60).identity == without


def test_gamt_that_hangs_is_stopped(folder: Path) -> None:
    with pytest.raises(LateError, match=r"stopped after 0\.01 s"):
        run(parse_method("gamt", run_limit=0.01), folder)


def test_gamt_that_is_done_after_its_limit_is_late(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_slowly(path: Path, *arguments: object) -> None:
        time.sleep(1.1)

    parsed = parse_method("gamt", run_limit=60)
    assert isinstance(parsed.method, InProcess)
    parsed.method.load()
    done = SimpleNamespace(labels=None, status="complete")
    monkeypatch.setattr("gamt.predict.write_segmentation", write_slowly)
    monkeypatch.setattr("gamt.predict.predict_case", lambda *arguments, **options: done)
    monkeypatch.setattr("gamt.predict.log_prediction", lambda *arguments: None)
    with pytest.raises(LateError):
        replace(parsed.method, run_limit=1.0).run(folder, folder.parent / "log.txt", lambda: False)


def test_paths_in_gamts_options_start_where_it_was_parsed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "model.pth").touch()
    parsed = parse_method("gamt --cache slices --weights model.pth", run_limit=60)
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded: list[object] = []
    monkeypatch.setattr(
        PredictOptions,
        "load_segmenter",
        lambda options, settings: loaded.append(options.weights),
    )
    assert isinstance(parsed.method, InProcess)
    _, _, cache = parsed.method.load()
    assert cache == tmp_path / "here" / "slices"
    assert loaded == [str(tmp_path / "here" / "model.pth")]


def test_gamt_runs_and_is_stopped_in_any_thread(folder: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(run, parse_method("gamt", run_limit=60), folder).result() is None
        late = threads.submit(run, parse_method("gamt", run_limit=0.01), folder)
    assert isinstance(late.exception(), LateError)


def test_why_gamt_failed_is_told(folder: Path) -> None:
    (folder / "inputs" / "US_phantom.npz").write_bytes(b"no zip")
    failure = run(parse_method("gamt", run_limit=60), folder)
    assert failure is not None
    assert failure.startswith("US_phantom.npz: found no zip archive")


def test_gamt_in_process_has_an_output_where_gamt_predict_has_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("no \x1b[2J luck")

    monkeypatch.setattr("gamt.predict.predict_case", fail)
    failure = run(parse_method("gamt", run_limit=60), folder)
    # How it was degraded is told, as a command's exit status would be.
    assert failure == "the prompts' shape alone (RuntimeError: no \\x1b[2J luck)"
    with np.load(folder / "outputs" / "US_phantom.npz") as file:
        assert set(np.unique(file["segs"])) == {0, 1, 2, 3}
    assert "\x1b" not in log(folder)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "found the method 'nothing', expected one of"),
        ("command:", "expected one of"),
        ("docker:", "expected one of"),
        ("gamt --preset nothing", "no preset is named 'nothing'"),
        ("gamt --nothing", "--nothing"),
        ("gamt --segmenter hf:./nothing", "found 'hf:./nothing', which is no folder"),
        ("gamt --segmenter medsam2 --weights none.pt", "none.pt: no such checkpoint file"),
        (
            "gamt --preset 'default",
            'found the method "gamt --preset \'default": No closing quotation',
        ),
        ("docker:missing", "docker has no image missing:latest; expected a local image"),
        ("apptainer:missing.sif", "no such file"),
    ],
)
def test_what_can_not_be_run_is_refused_before_the_work(
    engine: Engine, spec: str, message: str
) -> None:
    with pytest.raises(MethodError, match=message):
        parse_method(spec, run_limit=60)


def test_an_engine_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MethodError, match="podman isn't installed"):
        parse_method("podman:team", run_limit=60)
