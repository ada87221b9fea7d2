"""The command line, as users and the challenge's evaluator call it."""

import hashlib
import logging
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

import gamt
from gamt import predict, segmenters
from gamt.cli.app import main
from gamt.io.case import read_case, write_case
from gamt.lifting.pipeline import Lifted
from gamt.prompts import Box, ClassPrompts, Click
from gamt.segmenters import Traits, checkpoints
from gamt.settings import PRESET_SEGMENTERS, PRESETS, Settings
from gamt.volume.cache import EmbeddingCache
from tests.publisher import Offer, Publisher, archive, write_manifest
from tests.test_predict import (
    BLOCK,
    BOX,
    SHAPE,
    ThresholdSegmenter,
    bright_block,
    save,
    save_unlucky,
    segmentation,
)

# mypy: allow-untyped-calls

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "predict.sh"
THRESHOLD = ("--segmenter", "tests.test_predict:ThresholdSegmenter")
FAILING = ("--segmenter", "tests.test_predict:FailingSegmenter")

# The block of `bright_block`, in a NIfTI file whose axes (i, j, k) are (x, y, z).
CORNERS = "6,4,3,14,9,8"
AFFINE = np.diag([-1.5, -1.5, 2.0, 1.0])


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hides the tester's own settings and start, and undoes what a command line does to the log."""
    for name in list(os.environ):
        if name.startswith("GAMT_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("gamt.lifting.budget.process_start", time.monotonic)
    logger = logging.getLogger("gamt")
    handlers, level = logger.handlers, logger.level
    yield
    logger.handlers = handlers
    logger.setLevel(level)


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line here; returns the exit status and what is on standard error."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return int(end.value.code or 0), capsys.readouterr().err

    return call


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Collects the settings that the method is run with, and lets it find nothing."""
    seen: list[Settings] = []

    def lift(case: Any, volume: Any, *_: object) -> Lifted:
        seen.append(volume.settings)
        return Lifted(np.zeros(case.image.shape, np.uint8), 0, complete=True)

    monkeypatch.setattr(predict, "lift", lift)
    return seen


def one_line(error: str) -> bool:
    return error.startswith("gamt: ") and error.count("\n") == 1


# Start-up


def python(code: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import gamt",
        "from gamt.cli.app import main\ntry: main(['predict', '--help'])\nexcept SystemExit: 0",
    ],
    ids=["import", "help"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    heavy = ["torch", "numpy", "scipy", "nibabel", "cc3d", "rich", "gamt.lifting.pipeline"]
    heavy += ["filelock", "platformdirs", "http.client", "jinja2", "PIL"]
    check = f"{code}\nimport sys\nprint([name for name in {heavy} if name in sys.modules])"
    assert python(check).splitlines()[-1] == "[]"


def test_a_prediction_with_the_embedded_segmenter_needs_no_torch(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    arguments = ["predict", str(tmp_path / "in"), str(tmp_path / "out")]
    run = f"try: main({arguments})\nexcept SystemExit as end: print(end)"
    code = f"from gamt.cli.app import main\n{run}"
    assert python(f"{code}\nimport sys\nprint('torch' in sys.modules)").split() == ["0", "False"]


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"gamt {gamt.__version__}\n"


def test_the_package_has_no_other_attributes_on_demand() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        gamt.nonsense  # noqa: B018


@pytest.mark.parametrize(
    "command",
    [
        *([], ["predict"], ["segment"], ["convert"], ["explain"]),
        *(["weights", "list"], ["weights", "fetch"], ["weights", "verify"]),
    ],
    ids=" ".join,
)
def test_help_shows_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    out = capsys.readouterr().out
    assert f"  gamt {' '.join(command)}" in out
    assert max(map(len, out.splitlines())) <= 100


def test_help_names_every_preset(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in PRESETS)


def test_the_module_is_the_command_line_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gamt", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"gamt {gamt.__version__}\n"


# gamt predict


def test_predict_writes_a_segmentation_for_each_case(tmp_path: Path, run: Run) -> None:
    for name in ("a.npz", "b.npz"):
        save(tmp_path / "in" / name)
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD)
    assert status == 0
    assert [line.split(":")[0] for line in log.splitlines()] == ["INFO a", "INFO b"]
    for name in ("a.npz", "b.npz"):
        labels = segmentation(tmp_path / "out" / name)
        assert labels[BLOCK].all()
        assert labels.sum() == labels[BLOCK].sum()


def test_predict_takes_a_single_file(tmp_path: Path, run: Run) -> None:
    path = save(tmp_path / "in" / "a.npz")
    assert run("predict", path, tmp_path / "out", *THRESHOLD)[0] == 0
    assert (tmp_path / "out" / "a.npz").is_file()


def test_one_failed_case_makes_the_status_1(tmp_path: Path, run: Run) -> None:
    save(tmp_path / "in" / "a.npz")
    (tmp_path / "in" / "b.npz").write_bytes(b"no zip file")
    save_unlucky(tmp_path / "in" / "c.npz")
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *FAILING)
    assert status == 1
    assert [line.split(":")[0] for line in log.splitlines()] == [
        "INFO a",
        "ERROR b.npz",
        "ERROR c.npz",
        "ERROR 2 of 3 cases failed",
    ]


def test_an_empty_folder_makes_the_status_1(tmp_path: Path, run: Run) -> None:
    (tmp_path / "in").mkdir()
    status, log = run("predict", tmp_path / "in", tmp_path / "out")
    assert status == 1
    assert "no npz file" in log


def test_missing_inputs_are_one_line(tmp_path: Path, run: Run) -> None:
    status, log = run("predict", tmp_path / "nowhere", tmp_path / "out")
    assert status == 1
    assert one_line(log)
    assert "nowhere" in log


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--segmenter", "nonsense"], "nonsense"),
        (["--weights", "file.pth"], "weights"),
        (["--preset", "nonsense"], "default, all-data, coreset"),
        (["--set", "nonsense=1"], "range_percentile"),
        (["--set", "range_percentile=much"], "a number"),
        (["--set", "range_percentile"], "KEY=VALUE"),
    ],
)
def test_wrong_options_are_one_line_and_status_2(
    options: Sequence[str], message: str, tmp_path: Path, run: Run
) -> None:
    save(tmp_path / "in" / "a.npz")
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *options)
    assert status == 2
    assert one_line(log)
    assert message in log
    assert not (tmp_path / "out").exists()


def test_missing_arguments_are_status_2(run: Run) -> None:
    status, log = run("predict")
    assert status == 2
    assert "Missing argument 'INPUTS'" in log


def test_quiet_leaves_errors_alone_and_verbose_shows_tracebacks(tmp_path: Path, run: Run) -> None:
    save(tmp_path / "in" / "a.npz")
    save_unlucky(tmp_path / "in" / "b.npz")
    arguments = ("predict", tmp_path / "in", tmp_path / "out", *FAILING)
    assert [line.split()[0] for line in run(*arguments, "--quiet")[1].splitlines()] == [
        "ERROR",
        "ERROR",
    ]
    assert "Traceback" not in run(*arguments)[1]
    assert "Traceback" in run(*arguments, "--verbose")[1]


def test_the_first_clock_begins_with_the_process(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "in" / "a.npz")
    monkeypatch.setattr("gamt.lifting.budget.process_start", lambda: -1e9)
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD)
    assert status == 0
    assert log.endswith("cut short by the time limit\n")
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD, "--no-budget")
    assert status == 0
    assert log.endswith(" s\n")


def test_a_terminal_shows_a_progress_bar(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "gamt", "predict", tmp_path / "in", tmp_path / "out", *THRESHOLD],
        stderr=theirs,
        cwd=ROOT,
        env=os.environ | {"TERM": "xterm"},
        check=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how Linux says that the other end was closed
        pass
    os.close(ours)
    assert b"1/1" in shown
    assert b"INFO a: threshold" in shown


# Settings


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


# The model


class NetworkDouble(ThresholdSegmenter):
    """Needs a checkpoint, as the networks do, and shows how it was set up."""

    def __init__(
        self, weights: str | None = None, device: str = "auto", dtype: str = "auto"
    ) -> None:
        self.name = checkpoints.find("sam_med2d", weights).name
        self.traits = Traits(device=f"{device} in {dtype}")


@pytest.fixture
def _network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the double into the place of SAM-Med2D, and its checkpoint out of sight."""
    monkeypatch.setitem(segmenters.BUILT_IN, "sam_med2d", "tests.cli.test_cli:NetworkDouble")
    monkeypatch.setattr(checkpoints, "_cache_folder", lambda: tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_network")
def test_a_preset_brings_its_segmenter(
    tmp_path: Path, run: Run, used: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "in" / "a.npz")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "sam-med2d_b.pth").touch()
    status, log = run("predict", path, tmp_path / "out", "--preset", "coreset")
    assert (status, used) == (0, [PRESETS["coreset"]])
    assert log.startswith("INFO a: sam-med2d_b.pth on auto in auto")
    scan = save_scan(tmp_path)
    arguments = ("segment", scan, "-o", tmp_path / "out.nii", "--box", CORNERS)
    assert ": sam-med2d_b.pth on " in run(*arguments, "--preset", "coreset")[1]
    assert ": statistical on " in run(*arguments)[1]
    assert ": threshold on " in run(*arguments, "--preset", "coreset", *THRESHOLD)[1]
    monkeypatch.setenv("GAMT_SEGMENTER", "statistical")
    assert ": statistical on " in run(*arguments, "--preset", "coreset")[1]


@pytest.mark.usefixtures("_network")
@pytest.mark.parametrize("command", ["predict", "segment"])
def test_a_preset_without_its_checkpoint_is_an_error_that_says_how_to_get_it(
    command: str, tmp_path: Path, run: Run
) -> None:
    save(tmp_path / "in" / "a.npz")
    options = ("-o", tmp_path / "out.nii", "--click", "10,6,5")
    places = {
        "predict": (tmp_path / "in", tmp_path / "out"),
        "segment": (save_scan(tmp_path), *options),
    }
    status, log = run(command, *places[command], "--preset", "coreset")
    assert (status, one_line(log)) == (2, True)
    assert log.endswith(": gamt weights fetch sam_med2d\n")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.usefixtures("_network")
def test_weights_device_and_precision_are_handed_to_the_model(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "in" / "a.npz")
    (tmp_path / "my.pth").touch()
    options = ("--segmenter", "sam_med2d", "--weights", "my.pth")
    arguments = ("predict", path, tmp_path / "out", *options)
    assert ": my.pth on auto in auto," in run(*arguments)[1]
    assert ": my.pth on cpu in float32," in run(*arguments, "--device=cpu", "--dtype=float32")[1]
    monkeypatch.setenv("GAMT_DTYPE", "bfloat16")
    assert ": my.pth on auto in bfloat16," in run(*arguments)[1]
    status, log = run("predict", path, tmp_path / "out")  # the embedded one has no precisions
    assert (status, one_line(log)) == (2, True)
    assert "dtype" in log


@pytest.mark.parametrize("variable", [False, True])
def test_the_folder_of_encoded_slices_is_handed_on(
    variable: bool, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path | None] = []

    def keep(segmenter: Any, limit_bytes: int, folder: Path | None) -> EmbeddingCache:
        seen.append(folder)
        return EmbeddingCache(segmenter, limit_bytes)

    monkeypatch.setattr(predict, "EmbeddingCache", keep)
    encoded = tmp_path / "encoded"
    if variable:
        monkeypatch.setenv("GAMT_CACHE", str(encoded))
    option = () if variable else ("--cache", encoded)
    path, scan = save(tmp_path / "in" / "a.npz"), save_scan(tmp_path)
    assert run("predict", path, tmp_path / "out", *THRESHOLD, *option)[0] == 0
    out = tmp_path / "out.nii"
    assert run("segment", scan, "-o", out, "--box", CORNERS, *THRESHOLD, *option)[0] == 0
    assert seen == [encoded, encoded]


# gamt weights


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """A publisher of the checkpoints `one`, of a published SHA-256, and `sam_med2d`, without."""
    content = archive()
    with Publisher() as server:
        server.offers["/one.pth"] = server.offers["/two.pth"] = Offer(content)
        digest = hashlib.sha256(content).hexdigest()
        manifest = write_manifest(
            tmp_path,
            server.checkpoint(
                "/one.pth", name="one", file="one.pth", size=len(content), sha256=digest
            ),
            server.checkpoint("/two.pth", name="sam_med2d", file="two.pth"),
        )
        monkeypatch.setattr(checkpoints, "manifest", lambda: manifest)
        monkeypatch.setattr(checkpoints, "_cache_folder", lambda: tmp_path / "cache")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.chdir(tmp_path)
        yield server


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line here; returns the exit status and what is on standard output."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return int(end.value.code or 0), capsys.readouterr().out

    return call


@pytest.mark.usefixtures("publisher")
def test_checkpoints_are_fetched_listed_and_verified(tmp_path: Path, run: Run, show: Run) -> None:
    one, two = tmp_path / "cache" / "one.pth", tmp_path / "cache" / "two.pth"
    assert [line.split() for line in show("weights", "list")[1].splitlines()] == [
        ["NAME", "SIZE", "LICENCE", "PRESET", "FILE"],
        ["one", "5.1", "kB", "Apache-2.0", "-", "missing"],
        ["sam_med2d", "unknown", "Apache-2.0", "coreset", "missing"],
    ]
    assert run("weights", "verify") == (
        1,
        "ERROR no checkpoint is here; 'gamt weights fetch NAME' gets one\n",
    )
    status, out = show("weights", "fetch", "one", "sam_med2d")
    assert (status, out.splitlines()) == (
        0,
        [
            f"one: {one}: verified: SHA-256 as published",
            f"sam_med2d: {two}: verified: checksums inside the file",
        ],
    )
    lines = show("weights", "list")[1].splitlines()
    assert [line.split()[-1] for line in lines] == ["FILE", str(one), str(two)]
    status, out = show("weights", "verify")
    assert (status, out.splitlines()) == (
        0,
        [
            f"one: {one}: verified: SHA-256 as published",
            f"sam_med2d: {two}: verified: SHA-256 as recorded",
        ],
    )


@pytest.mark.usefixtures("publisher")
def test_verify_finds_a_flipped_byte_and_checks_the_others(tmp_path: Path, show: Run) -> None:
    show("weights", "fetch", "one", "sam_med2d")
    path = tmp_path / "cache" / "one.pth"
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    status, out = show("weights", "verify")
    assert status == 1
    assert [line.split(":")[0] for line in out.splitlines()] == ["sam_med2d"]
    assert show("weights", "verify", "sam_med2d")[0] == 0


@pytest.mark.usefixtures("publisher")
def test_verify_says_how_to_replace_a_damaged_file(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "cache" / "one.pth"
    path.parent.mkdir()
    path.write_bytes(b"damaged")
    status, log = run("weights", "verify", "one")
    assert status == 1
    assert log.startswith(f"ERROR {path}: found 7 bytes, expected ")
    command = f"weights fetch one --dir {path.parent}"
    assert log.endswith(f"; this replaces it: gamt {command}\n")
    assert run(*command.split())[0] == 0
    assert run("weights", "verify", "one") == (0, "")


def test_checkpoints_go_where_the_user_says(
    publisher: Publisher, tmp_path: Path, show: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAMT_WEIGHTS_DIR", str(tmp_path / "named"))
    assert str(tmp_path / "named" / "one.pth") in show("weights", "fetch", "one")[1]
    assert str(tmp_path / "told" / "one.pth") in show("weights", "fetch", "one", "--dir=told")[1]
    publisher.asked.clear()
    copy = ("--from", tmp_path / "told" / "one.pth", "--dir", tmp_path / "copy")
    assert show("weights", "fetch", "one", *copy)[0] == 0
    assert (tmp_path / "copy" / "one.pth").is_file()
    assert publisher.asked == []


@pytest.mark.usefixtures("publisher")
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["fetch", "nonsense"], 2, "'nonsense'; expected one of one, sam_med2d"),
        (["fetch", "one", "sam_med2d", "--from", "a.pth"], 2, "--from is for one NAME"),
        (["fetch", "one", "--from", "none.pth"], 1, "none.pth: No such file or directory"),
        (["fetch", "one", "--from", "manifest.toml"], 1, "manifest.toml: this isn't one.pth"),
        (["fetch", "one", "--dir", "manifest.toml"], 1, "manifest.toml: File exists"),
        (["verify", "one", "nonsense"], 2, "expected one of"),
        (["verify", "one"], 2, "gamt weights fetch one"),
    ],
)
def test_checkpoints_that_cannot_be_had_are_one_line(
    arguments: Sequence[str], status: int, message: str, run: Run
) -> None:
    found, log = run("weights", *arguments)
    assert (found, one_line(log)) == (status, True)
    assert message in log


def test_a_failed_download_is_one_line_with_the_way_out(publisher: Publisher, run: Run) -> None:
    publisher.offers.clear()
    status, log = run("weights", "fetch", "one")
    assert (status, one_line(log)) == (1, True)
    assert f"Get it by hand from {publisher.url('/one.pth')}" in log
    assert log.endswith("gamt weights fetch one --from FILE\n")


@pytest.mark.usefixtures("publisher")
def test_a_terminal_shows_how_far_a_download_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "5.1/5.1 kB" in run("weights", "fetch", "one")[1]
    assert run("weights", "fetch", "sam_med2d", "--quiet")[1] == ""


def test_the_makefile_fetches_what_the_presets_use() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nweights:")[2].partition("\n\n")[0]
    assert recipe.split("weights fetch ")[1].split() == list(PRESET_SEGMENTERS.values())


# gamt segment


def save_nifti(
    path: Path, array: npt.NDArray[Any], affine: npt.NDArray[np.float64] = AFFINE
) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def load_nifti(path: Path) -> npt.NDArray[Any]:
    return np.asanyarray(nib.load(path).dataobj)  # type: ignore[attr-defined]


def save_scan(folder: Path) -> Path:
    """Saves `bright_block` with the axes (i, j, k) as (x, y, z)."""
    return save_nifti(folder / "scan.nii.gz", bright_block().T)


def block(value: int = 1) -> npt.NDArray[np.uint8]:
    labels = np.zeros(SHAPE, np.uint8)
    labels[BLOCK] = value
    return labels.T


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)))
def test_a_box_in_any_orientation_gives_its_target_there(
    axes: tuple[int, ...], flips: tuple[int, ...], tmp_path: Path, run: Run
) -> None:
    """Tilted as well, and with voxels of three different sides."""
    array = np.full((9, 11, 13), 20, np.uint8)
    array[1:4, 3:8, 6:12] = 200
    tilt = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = (tilt @ np.diag([1.0, 1.2, 2.0]))[:, axes] * flips
    path = save_nifti(tmp_path / "scan.nii.gz", array, affine)
    out = tmp_path / "out.nii.gz"
    status, log = run("segment", path, "-o", out, "--box", "3,3,11,1,7,6", *THRESHOLD)
    assert status == 0, log
    np.testing.assert_array_equal(load_nifti(out), array > 127)
    np.testing.assert_array_equal(nib.load(out).affine, nib.load(path).affine)  # type: ignore[attr-defined]


@pytest.mark.parametrize("prompt", [("--box", CORNERS), ("--click", "10,6,5")], ids="".join)
def test_the_embedded_segmenter_takes_boxes_and_clicks(
    prompt: Sequence[str], tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "out.nii.gz"
    status, log = run("segment", save_scan(tmp_path), "-o", out, *prompt)
    assert status == 0, log
    found, truth = load_nifti(out) > 0, block() > 0
    assert found[10, 6, 5]
    assert 2 * (found & truth).sum() > 0.8 * (found.sum() + truth.sum())


def test_millimetres_are_the_scanners(tmp_path: Path, run: Run) -> None:
    scan = save_scan(tmp_path)
    out = tmp_path / "out.nii.gz"
    box = "-9,-6,6,-21,-13.5,16"  # CORNERS through AFFINE
    assert run("segment", scan, "-o", out, "--ras", "--box", box, *THRESHOLD)[0] == 0
    np.testing.assert_array_equal(load_nifti(out), block())
    assert run("segment", scan, "-o", out, "--ras", "--click", "-15,-9,10", *THRESHOLD)[0] == 0
    assert load_nifti(out)[10, 6, 5] == 1


def test_labels_stay_as_the_user_numbered_them(tmp_path: Path, run: Run) -> None:
    image = bright_block()
    image[1:3, 12:15, 1:4] = 200
    scan = save_nifti(tmp_path / "scan.nii", image.T)
    out = tmp_path / "out.nii.gz"
    boxes = ("--box", f"200:{CORNERS}", "--box", "7:1,12,1,3,14,2")
    assert run("segment", scan, "-o", out, *boxes, *THRESHOLD)[0] == 0
    expected = block(200)
    expected[1:4, 12:15, 1:3] = 7
    np.testing.assert_array_equal(load_nifti(out), expected)


def test_a_negative_click_takes_away_and_labels_without_a_prompt_stay(
    tmp_path: Path, run: Run
) -> None:
    scan = save_scan(tmp_path)
    before = block(5)
    before[0, 0, 0] = 9
    previous = save_nifti(tmp_path / "before.nii.gz", before)
    out = tmp_path / "out.nii.gz"
    options = ("--previous", previous, "--negative", "5:6,4,3")
    status, log = run("segment", scan, "-o", out, *options, *THRESHOLD)
    assert status == 0, log
    labels = load_nifti(out)
    assert labels[6, 4, 3] == 0
    assert labels[0, 0, 0] == 9
    assert set(np.unique(labels)) <= {0, 5, 9}


def test_segment_has_no_time_limit_unless_it_is_set(
    tmp_path: Path, run: Run, used: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("segment", save_scan(tmp_path), "-o", tmp_path / "out.nii", "--box", CORNERS)
    assert run(*arguments)[0] == 0
    assert used.pop() == replace(PRESETS["default"], budget=False)
    assert run(*arguments, "--set", "budget=true")[0] == 0
    assert used.pop() == PRESETS["default"]
    monkeypatch.setenv("GAMT_BUDGET", "true")
    assert run(*arguments)[0] == 0
    assert used.pop() == PRESETS["default"]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ([], 2, "at least one"),
        (["--box", "1,2,3"], 2, "expected 6 numbers"),
        (["--click", "1,2,x"], 2, "expected 3 numbers"),
        (["--click", "nan,1,2", "--ras"], 2, "expected 3 numbers"),
        (["--click", "liver:1,2,3"], 2, "LABEL"),
        (["--click", "0:1,2,3"], 2, "LABEL"),
        (["--click", "256:1,2,3"], 2, "1 to 255"),
        (["--box", CORNERS, "--box", CORNERS], 2, "box already"),
        (["--click", "20,0,0"], 1, "from 0,0,0 to 19,15,11"),
        (["--click", "1.5,0,0"], 1, "whole"),
        (["--click", "1,1,1", "--previous", "none.nii"], 1, "none.nii"),
        (["--click", "1,1,1", "--segmenter", "nonsense"], 2, "nonsense"),
        (["--click", "1,1,1", "--preset", "nonsense"], 2, "nonsense"),
    ],
)
def test_wrong_prompts_and_options_are_one_line(
    options: Sequence[str], status: int, message: str, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "out.nii.gz"
    found, log = run("segment", save_scan(tmp_path), "-o", out, *options)
    assert (found, one_line(log)) == (status, True)
    assert message in log
    assert not out.exists()


@pytest.mark.parametrize("name", ["out.npz", "nowhere/out.nii.gz"])
def test_an_output_that_cannot_be_is_found_out_first(name: str, tmp_path: Path, run: Run) -> None:
    status, log = run("segment", tmp_path / "none.nii", "-o", tmp_path / name, "--click", "1,1,1")
    assert status == 2
    assert one_line(log)
    assert name in log


@pytest.mark.parametrize("command", ["segment", "convert"])
def test_a_failed_write_is_one_line_that_names_the_file(
    command: str, tmp_path: Path, run: Run, used: list[Settings]
) -> None:
    out = tmp_path / ("out.nii" if command == "segment" else "out.npz")
    out.mkdir()
    option = ["-o"] if command == "segment" else []
    status, log = run(command, save_scan(tmp_path), *option, out, "--click", "1,1,1")
    assert status == 1
    assert one_line(log)
    assert f"{out.name}: " in log
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, "scan.nii.gz"]


def test_a_failing_segmenter_is_one_line_and_verbose_shows_where(tmp_path: Path, run: Run) -> None:
    scan = save_nifti(tmp_path / "scan.nii", np.arange(343, dtype=np.int16).reshape(7, 7, 7))
    arguments = ("segment", scan, "-o", tmp_path / "out.nii", "--click", "3,3,3", *FAILING)
    status, log = run(*arguments)
    assert status == 1
    assert one_line(log)
    assert "RuntimeError: no luck with this one" in log
    assert "Traceback" in run(*arguments, "--verbose")[1]


# gamt convert


def test_nifti_becomes_a_case_with_prompts(tmp_path: Path, run: Run) -> None:
    npz = tmp_path / "CT_scan.npz"
    prompts = ("--box", CORNERS, "--click", "10,6,5", "--negative", "0,1,2", "--click", "2:3,2,1")
    assert run("convert", save_scan(tmp_path), npz, *prompts)[0] == 0
    case = read_case(npz)
    np.testing.assert_array_equal(case.image, bright_block())
    assert case.image.dtype == np.uint8
    assert case.spacing_mm == (2.0, 1.5, 1.5)
    first = ClassPrompts(1, BOX, (Click(5, 6, 10, True), Click(2, 1, 0, False)))
    assert case.prompts == (first, ClassPrompts(2, None, (Click(1, 2, 3, True),)))


def test_true_labels_are_renumbered(tmp_path: Path, run: Run) -> None:
    scan = save_scan(tmp_path)
    truth = block(40).astype(np.int16)
    truth[0, 0, 0] = 1024
    labels = save_nifti(tmp_path / "labels.nii.gz", truth)
    npz = tmp_path / "CT_scan.npz"
    status, log = run("convert", scan, npz, "--labels", labels, "--box", f"40:{CORNERS}")
    assert status == 0
    assert "label 1024 became 2" in log
    with np.load(npz) as file:
        gts = file["gts"]
    expected = block().T.copy()
    expected[0, 0, 0] = 2
    np.testing.assert_array_equal(gts, expected)
    assert read_case(npz).prompts == (ClassPrompts(1, BOX), ClassPrompts(2))


def save_truth(folder: Path) -> Path:
    """Saves labels: 9 bends through (i, j, k), and 4 is `block`."""
    truth = block(4)
    truth[0:2, 0, 0] = truth[2:5, 1:3, 1] = truth[4, 3, 2] = 9
    return save_nifti(folder / "truth.nii.gz", truth)


def test_true_labels_alone_give_every_class_its_box(tmp_path: Path, run: Run) -> None:
    npz = tmp_path / "CT_scan.npz"
    arguments = ("convert", save_scan(tmp_path), npz, "--labels", save_truth(tmp_path))
    assert run(*arguments)[0] == 0
    block_box = replace(BOX, z_mid=6)  # the fourth one of six slices
    bent_box = Box(z_min=0, z_max=3, z_mid=1, y_min=1, y_max=3, x_min=2, x_max=5)
    assert read_case(npz).prompts == (ClassPrompts(1, block_box), ClassPrompts(2, bent_box))


def test_true_labels_can_do_without_boxes(tmp_path: Path, run: Run) -> None:
    npz = tmp_path / "CT_scan.npz"
    labels = save_truth(tmp_path)
    assert run("convert", save_scan(tmp_path), npz, "--labels", labels, "--no-boxes")[0] == 0
    with np.load(npz) as file:
        assert file.files == ["imgs", "spacing", "spacing_order", "gts"]
        assert file["gts"].max() == 2


def test_a_case_goes_to_nifti_and_back(tmp_path: Path, run: Run) -> None:
    npz = save(tmp_path / "in" / "a.npz")
    nifti, again = tmp_path / "a.nii.gz", tmp_path / "again.npz"
    assert run("convert", npz, nifti)[0] == 0
    np.testing.assert_array_equal(load_nifti(nifti), bright_block().T)
    assert run("convert", nifti, again, "--box", CORNERS)[0] == 0
    before, after = read_case(npz), read_case(again)
    np.testing.assert_array_equal(after.image, before.image)
    assert (after.spacing_mm, after.prompts) == (before.spacing_mm, before.prompts)


def test_a_segmentation_is_put_where_its_image_lies(tmp_path: Path, run: Run) -> None:
    affine = np.array([[0, 2.0, 0, 5], [0, 0, -3.0, 6], [1.0, 0, 0, 7], [0, 0, 0, 1]])
    array = np.full((9, 11, 13), 20, np.uint8)
    array[1:4, 3:8, 6:12] = 200
    scan = save_nifti(tmp_path / "scan.nii.gz", array, affine)
    assert run("convert", scan, tmp_path / "scan.npz", "--box", "1,3,6,3,7,11")[0] == 0
    assert run("predict", tmp_path / "scan.npz", tmp_path / "out", *THRESHOLD)[0] == 0
    back = tmp_path / "labels.nii"
    assert run("convert", tmp_path / "out" / "scan.npz", back, "--like", scan)[0] == 0
    np.testing.assert_array_equal(load_nifti(back), array > 127)
    np.testing.assert_array_equal(nib.load(back).affine, affine)  # type: ignore[attr-defined]


def test_a_file_without_spacing_gets_1_mm_and_a_warning(tmp_path: Path, run: Run) -> None:
    np.savez_compressed(tmp_path / "a.npz", segs=block().T)
    status, log = run("convert", tmp_path / "a.npz", tmp_path / "a.nii")
    assert status == 0
    assert log.startswith("WARNING a.npz: no spacing")
    np.testing.assert_array_equal(load_nifti(tmp_path / "a.nii"), block())


@pytest.mark.parametrize("key", ["gts", "prev_pred"])
def test_the_key_chooses_the_volume(key: str, tmp_path: Path, run: Run) -> None:
    volumes = {"gts": block().T, "prev_pred": np.zeros(SHAPE, np.uint8)}
    prompts = [ClassPrompts(1, BOX)]
    write_case(
        tmp_path / "a.npz", bright_block(), (1, 1, 1), prompts, volumes["gts"], volumes["prev_pred"]
    )
    assert run("convert", tmp_path / "a.npz", tmp_path / "a.nii", "--key", key) == (0, "")
    np.testing.assert_array_equal(load_nifti(tmp_path / "a.nii"), volumes[key].T)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["scan.nii.gz", "a.npz"], 2, "found 0 labels"),
        (["scan.nii.gz", "a.nii"], 2, "ends in .npz"),
        (["scan.nii.gz", "a.npz", "--like", "scan.nii.gz"], 2, "npz to an image"),
        (["scan.nii.gz", "a.npz", "--key", "gts"], 2, "npz to an image"),
        (["scan.nii.gz", "a.npz", "--labels", "scan.nii.gz", "--click", "3:1,1,1"], 2, "label 3"),
        (["none.nii.gz", "a.npz", "--click", "1,1,1"], 1, "none.nii.gz"),
        (["case.npz", "a.npz"], 2, "ends in one of .mha, .mhd, .nii, .nii.gz"),
        (["case.npz", "a.nii", "--click", "1,1,1"], 2, "an image to npz"),
        (["case.npz", "a.nii", "--no-boxes"], 2, "an image to npz"),
        (["scan.nii.gz", "a.npz", "--click", "1,1,1", "--no-boxes"], 2, "--labels"),
        (["case.npz", "a.nii", "--key", "segs"], 1, "no such key"),
        (["case.npz", "a.nii", "--key", "nonsense"], 1, "no such key"),
        (["case.npz", "a.nii", "--like", "small.nii"], 1, "small.nii"),
        (["none.npz", "a.nii"], 1, "no such file"),
        (["broken.npz", "a.nii"], 1, "broken.npz"),
        (["flat.npz", "a.nii"], 1, "float64 of shape (3,)"),
    ],
)
def test_conversions_that_make_no_sense_are_one_line(
    arguments: Sequence[str],
    status: int,
    message: str,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_scan(tmp_path)
    save(tmp_path / "case.npz")
    save_nifti(tmp_path / "small.nii", np.zeros((2, 2, 2), np.uint8))
    (tmp_path / "broken.npz").write_bytes(b"no zip file")
    np.savez(tmp_path / "flat.npz", imgs=np.zeros(3))
    found, log = run("convert", *arguments)
    assert (found, one_line(log)) == (status, True)
    assert message in log
    assert not (tmp_path / "a.nii").exists()
    assert not (tmp_path / "a.npz").exists()


# predict.sh


def shell(
    *command: str | Path, cwd: Path, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )


def with_python() -> dict[str, str]:
    """Returns an environment in which python3 is the one that runs the tests."""
    return {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}


SHELLS = [name for name in ("sh", "dash", "bash") if shutil.which(name)]


@pytest.mark.parametrize("name", SHELLS)
def test_the_script_segments_a_folder_from_any_working_directory(name: str, tmp_path: Path) -> None:
    away = tmp_path / "away from home"
    away.mkdir()
    script = shutil.copy(SCRIPT, away)
    save(tmp_path / "in" / "a.npz")
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the working directory')")
    done = shell(name, script, "in", "out", cwd=tmp_path, variables=with_python())
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "INFO a: statistical on cpu" in done.stderr
    assert segmentation(tmp_path / "out" / "a.npz")[5, 6, 10] == 1


def test_the_script_hands_on_the_environment_and_the_status(tmp_path: Path) -> None:
    script = shutil.copy(SCRIPT, tmp_path)
    save(tmp_path / "in" / "a.npz")
    (tmp_path / "in" / "b.npz").write_bytes(b"no zip file")
    variables = with_python() | {"GAMT_SEGMENTER": THRESHOLD[1], "PYTHONPATH": str(ROOT)}
    done = shell("sh", script, "in", "out", cwd=tmp_path, variables=variables)
    assert done.returncode == 1
    assert "INFO a: threshold on abacus" in done.stderr
    done = shell("sh", script, cwd=tmp_path, variables=variables | {"GAMT_NONSENSE": "1"})
    assert done.returncode == 2


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Makes a folder with the script and a .venv whose python shows how it was called."""
    folder = tmp_path / "check out"
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$$" "$@"\nexit 7\n')
    python.chmod(0o755)
    shutil.copy(SCRIPT, folder)
    return folder


def test_the_script_prefers_the_python_beside_it_and_becomes_its_process(
    checkout: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(
        ["sh", checkout / "predict.sh", "my cases", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out, _ = process.communicate()
    called = [str(process.pid), "-P", "-m", "gamt", "predict", "my cases", "out"]
    assert (out.splitlines(), process.returncode) == (called, 7)


def test_the_scripts_folders_are_the_challenges_by_default(checkout: Path) -> None:
    done = shell("sh", "predict.sh", cwd=checkout, variables={"PATH": "/usr/bin:/bin"})
    assert done.stdout.splitlines()[-2:] == ["/workspace/inputs", "/workspace/outputs"]
    done = shell("sh", "predict.sh", "in", cwd=checkout, variables={"PATH": "/usr/bin:/bin"})
    assert done.stdout.splitlines()[-2:] == ["in", "/workspace/outputs"]
