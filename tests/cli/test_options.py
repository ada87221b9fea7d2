"""The 2-D model that options, environment and preset choose."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gamt import predict, segmenters
from gamt.cli.console import UsageError
from gamt.cli.options import PredictOptions, check_image_output, check_output
from gamt.segmenters import Traits, checkpoints
from gamt.settings import PRESETS, Settings
from gamt.volume.cache import EmbeddingCache
from tests.cli.calls import THRESHOLD, Run, one_line
from tests.cli.scans import CORNERS, save_scan
from tests.test_predict import ThresholdSegmenter, save

STORABLE = ("--segmenter", "tests.doubles:Storable")


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
    monkeypatch.setitem(segmenters.BUILT_IN, "sam_med2d", "tests.cli.test_options:NetworkDouble")
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

    class Noted(EmbeddingCache):
        def __init__(self, segmenter: Any, limit_bytes: int, folder: Path | None) -> None:
            seen.append(folder)
            super().__init__(segmenter, limit_bytes)

    monkeypatch.setattr(predict, "EmbeddingCache", Noted)
    encoded = tmp_path / "encoded"
    if variable:
        monkeypatch.setenv("GAMT_CACHE", str(encoded))
    option = () if variable else ("--cache", encoded)
    path, scan = save(tmp_path / "in" / "a.npz"), save_scan(tmp_path)
    assert run("predict", path, tmp_path / "out", *STORABLE, *option)[0] == 0
    out = tmp_path / "out.nii"
    assert run("segment", scan, "-o", out, "--box", CORNERS, *STORABLE, *option)[0] == 0
    assert seen == [encoded, encoded]


def test_words_are_parsed_as_gamt_predict_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMT_CACHE", "encoded")
    words = ["--preset", "coreset", "--set", "smoothing=opening", "--set", "voxel_mm=2"]
    options = PredictOptions.parse([*words, "--no-budget"])
    assert options == PredictOptions(
        preset="coreset",
        changes=["smoothing=opening", "voxel_mm=2"],
        cache=Path("encoded"),
        no_budget=True,
    )
    settings = options.choose_settings()
    assert (settings.smoothing, settings.voxel_mm, settings.budget) == ("opening", 2.0, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nonsense"], "No such option: --nonsense"),
        (["--preset"], "requires an argument"),
        (["inputs"], "unexpected extra argument"),
        (["--help"], "No such option: --help"),
    ],
)
def test_words_that_are_no_options_are_one_line(words: Sequence[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        PredictOptions.parse(words)
    assert "\n" not in str(raised.value)


def test_the_embedded_segmenter_says_that_it_runs_on_the_cpu(tmp_path: Path, run: Run) -> None:
    arguments = ("predict", save(tmp_path / "in" / "a.npz"), tmp_path / "out")
    status, log = run(*arguments, "--device", "cuda")
    assert status == 0
    assert log.startswith("WARNING segmenter statistical runs on the CPU alone, not on cuda\n")
    assert "WARNING" not in run(*arguments, "--device", "cpu")[1]


@pytest.mark.parametrize(("name", "check"), [("a.nii", "image"), ("a.html", "page")])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    name: str, check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        check_image_output(path) if check == "image" else check_output(path, ".html")

    refuse(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=rf"{name}: found a folder of this name"):
        refuse(tmp_path / name)
    with pytest.raises(UsageError, match=rf"{name}: the folder doesn't exist"):
        refuse(tmp_path / "none" / name)
    # Root may write everywhere, so a folder's mode says nothing to it.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(UsageError, match=rf"{name}: found a folder that may not be written to"):
        refuse(tmp_path / name)


@pytest.mark.parametrize("command", ["predict", "segment", "explain"])
def test_the_window_is_an_option_a_setting_and_a_variable(
    command: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: dict[str, tuple[str | Path, ...]] = {
        "predict": (save(tmp_path / "in" / "a.npz"), tmp_path / "out"),
        "segment": (save_scan(tmp_path), "-o", tmp_path / "out.nii", "--box", CORNERS),
        "explain": (save(tmp_path / "in" / "a.npz"), "--out", tmp_path / "page.html"),
    }
    arguments = (command, *words[command], *THRESHOLD)
    lung, brain = "window level -600, width 1500", "window level 40, width 80"
    assert lung in run(*arguments, "--window", "lung")[1]
    assert lung in run(*arguments, "--set", "window=-600,1500")[1]
    monkeypatch.setenv("GAMT_WINDOW", "brain")
    assert brain in run(*arguments)[1]
    assert lung in run(*arguments, "--window=-600,1500")[1]
    status, log = run(*arguments, "--window", "liver")
    assert (status, one_line(log)) == (2, True)
    assert "setting window: found 'liver', expected auto, full, soft-tissue, lung" in log


@pytest.mark.parametrize("command", ["predict", "segment"])
def test_channels_are_refused_with_a_segmenter_of_grey_slices_before_any_work(
    command: str, tmp_path: Path, run: Run
) -> None:
    words: dict[str, tuple[str | Path, ...]] = {
        "predict": (save(tmp_path / "in" / "a.npz"), tmp_path / "out"),
        "segment": (save_scan(tmp_path), "-o", tmp_path / "out.nii", "--box", CORNERS),
    }
    status, log = run("-q", command, *words[command], "--set", "channels=neighbours")
    assert (status, one_line(log)) == (2, True)
    assert "channels: found 'neighbours', expected 'same' with the segmenter statistical" in log
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.nii").exists()


@pytest.mark.parametrize("command", ["predict", "segment", "explain"])
def test_the_scale_is_an_option_a_setting_and_a_variable(
    command: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: dict[str, tuple[str | Path, ...]] = {
        "predict": (save(tmp_path / "in" / "a.npz"), tmp_path / "out"),
        "segment": (save_scan(tmp_path), "-o", tmp_path / "out.nii", "--box", CORNERS),
        "explain": (save(tmp_path / "in" / "a.npz"), "--out", tmp_path / "page.html"),
    }
    arguments = (command, *words[command], *THRESHOLD)
    # Both cases begin with a box, so that the scale is heard of.
    assert "scale tight has no effect" in run(*arguments, "--scale", "tight")[1]
    assert "scale tight has no effect" in run(*arguments, "--set", "scale=tight")[1]
    monkeypatch.setenv("GAMT_SCALE", "large")
    assert "scale large has no effect" in run(*arguments)[1]
    assert "no effect" not in run(*arguments, "--scale", "medium")[1]


@pytest.mark.parametrize("command", ["predict", "segment", "explain"])
def test_what_walks_go_on_by_is_an_option_a_setting_and_a_variable(
    command: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: dict[str, tuple[str | Path, ...]] = {
        "predict": (save(tmp_path / "in" / "a.npz"), tmp_path / "out"),
        "segment": (save_scan(tmp_path), "-o", tmp_path / "out.nii", "--box", CORNERS),
        "explain": (save(tmp_path / "in" / "a.npz"), "--out", tmp_path / "page.html"),
    }
    arguments = (command, *words[command])

    def is_refused(*options: str) -> bool:
        status, log = run(*arguments, *THRESHOLD, *options)
        assert (status, one_line(log.splitlines(keepends=True)[-1])) == (2, True)
        return "'memory' with the segmenter threshold, expected prompts, or a segmenter" in log

    # None but a tracker can go on by memory.
    assert is_refused("--propagation", "memory")
    assert is_refused("--set", "propagation=memory")
    tracker = ("--segmenter", "tests.doubles:Follower")
    assert run(*arguments, *tracker, "--propagation", "memory")[0] == 0
    monkeypatch.setenv("GAMT_PROPAGATION", "memory")
    assert is_refused()
    assert run(*arguments, *THRESHOLD, "--propagation", "prompts")[0] == 0
    status, log = run(*arguments, *tracker, "--propagation", "dreams")
    assert (status, one_line(log)) == (2, True)
    assert "setting propagation: found 'dreams', expected prompts, memory or both" in log
