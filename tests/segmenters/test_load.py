"""Segmenters by name: embedded, registered by other packages, or by import path."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt.prompts import SlicePrompt
from gamt.segmenters import (
    BUILT_IN,
    DEFAULT,
    Embedding,
    SegmenterError,
    SliceMask,
    Traits,
    find_files,
    load,
)
from gamt.segmenters.checkpoints import CheckpointError
from gamt.segmenters.statistical import StatisticalSegmenter


class Answerless:
    """All of a segmenter but its answers."""

    name = "answerless"
    traits = Traits()

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        raise NotImplementedError


class Recorder(Answerless):
    """Keeps the arguments that it was made with."""

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        raise NotImplementedError

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments


class TakesNothing(Recorder):
    """A segmenter without any options."""

    def __init__(self) -> None:
        super().__init__()


class Untold(TakesNothing):
    """A segmenter of an earlier version, which tells its traits one by one."""

    traits = None  # type: ignore[assignment]
    batch = 4


class Forgetful(TakesNothing):
    """A segmenter that could keep its embeddings, were it not for a typo."""

    fingerprnt = "a"

    def pack(self, embedding: Embedding) -> npt.NDArray[Any]:
        raise NotImplementedError

    def unpack(self, array: npt.NDArray[Any], shape: tuple[int, int]) -> Embedding:
        raise NotImplementedError


class Nameless(TakesNothing):
    """A segmenter without a name."""

    name = None  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package with segmenters, which knows nothing of this one."""
    module = ModuleType("brought_along")
    vars(module).update(Recorder=Recorder, TakesNothing=TakesNothing, NUMBER=3.5)
    vars(module).update(Answerless=Answerless, Untold=Untold, Nameless=Nameless)
    vars(module).update(Forgetful=Forgetful)
    monkeypatch.setitem(sys.modules, "brought_along", module)


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other package as if it were installed, with names of its own."""
    folder = tmp_path / "brought_along-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: brought-along\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[gamt.segmenters]\n"
        "record = brought_along:Recorder\n"
        "lost = brought_along:Lost\n"
        f"{DEFAULT} = brought_along:Recorder\n"
        "[other.group]\n"
        "elsewhere = brought_along:Recorder\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def recorded(segmenter: object) -> dict[str, Any]:
    assert isinstance(segmenter, Recorder)
    return segmenter.arguments


def test_without_a_name_the_embedded_one_is_loaded() -> None:
    assert isinstance(load(), StatisticalSegmenter)
    assert load().name == load(DEFAULT).name == DEFAULT


def test_an_import_path_is_loaded() -> None:
    assert isinstance(load("brought_along:Recorder"), Recorder)


@pytest.mark.usefixtures("registered")
def test_a_registered_name_is_loaded() -> None:
    assert recorded(load("record", steps=3)) == {"steps": 3}


@pytest.mark.usefixtures("registered")
def test_no_package_takes_a_built_in_name_away() -> None:
    assert isinstance(load(DEFAULT), StatisticalSegmenter)


@pytest.mark.usefixtures("registered")
def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SegmenterError, match="no segmenter is named 'elsewhere'") as caught:
        load("elsewhere")
    known = {*BUILT_IN, "lost", "record"}
    assert f"expected one of {', '.join(sorted(known))}, or" in str(caught.value)
    assert "package.module:Class" in str(caught.value)


def test_a_name_is_unknown_once_its_package_is_gone() -> None:
    with pytest.raises(SegmenterError, match="no segmenter is named 'record'"):
        load("record")


@pytest.mark.parametrize(
    "name",
    [
        "no_such_package:Class",
        "brought_along.no_such_module:Class",
        "brought_along:NoSuchClass",
        "brought_along:",
        ":Recorder",
        ".brought_along:Recorder",
        ":",
    ],
)
def test_what_cannot_be_imported_is_named(name: str) -> None:
    with pytest.raises(SegmenterError) as caught:
        load(name)
    assert f"segmenter {name!r} can't be imported" in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.usefixtures("registered")
def test_a_registered_class_that_is_gone_is_named() -> None:
    with pytest.raises(SegmenterError, match=r"segmenter 'lost' can't be imported: .*'Lost'"):
        load("lost")


@pytest.mark.parametrize(
    ("traits", "fault"),
    [
        ({"batch": 0}, "found 0 as the trait 'batch', expected a whole number, 1 or more"),
        ({"batch": -3}, "found -3 as the trait 'batch', expected a whole number, 1 or more"),
        ({"batch": 2.5}, "found 2.5 as the trait 'batch', expected a whole number, 1 or more"),
        ({"batch": None}, "found None as the trait 'batch', expected a whole number, 1 or more"),
        (
            {"resolution": 0},
            "found 0 as the trait 'resolution', expected a whole number, 1 or more",
        ),
        ({"device": None}, "found None as the trait 'device', expected str"),
        ({"guided": "no"}, "found 'no' as the trait 'guided', expected bool"),
    ],
)
def test_traits_that_make_no_sense_are_refused(
    traits: dict[str, Any], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(TakesNothing):
        def __init__(self) -> None:
            super().__init__()
            self.traits = Traits(**traits)

    monkeypatch.setattr(sys.modules["brought_along"], "Recorder", Odd)
    with pytest.raises(SegmenterError) as caught:
        load("brought_along:Recorder")
    assert str(caught.value) == (
        f"segmenter 'brought_along:Recorder' can't be set up with no arguments: ValueError: {fault}"
    )


def test_options_that_a_segmenter_does_not_take_are_named() -> None:
    with pytest.raises(SegmenterError, match="can't be set up with colour, weights") as caught:
        load("brought_along:TakesNothing", weights="some.pth", colour="red")
    assert "'brought_along:TakesNothing'" in str(caught.value)


def test_the_embedded_one_takes_no_checkpoint() -> None:
    with pytest.raises(SegmenterError, match="segmenter 'statistical' can't be set up with"):
        load(weights="some.pth")


def test_what_is_no_class_cannot_be_set_up() -> None:
    with pytest.raises(SegmenterError, match="can't be set up with no arguments"):
        load("brought_along:NUMBER")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("Answerless", "expected a method 'decode'"),
        ("Untold", "found NoneType as its 'traits', expected Traits"),
        ("Nameless", "found NoneType as its 'name', expected str"),
        (
            "Forgetful",
            "found 'pack' and 'unpack' without 'fingerprint'",
        ),
    ],
)
def test_what_is_no_segmenter_is_refused_with_what_it_lacks(name: str, fault: str) -> None:
    with pytest.raises(SegmenterError) as caught:
        load(f"brought_along:{name}")
    assert str(caught.value) == f"'brought_along:{name}' makes no segmenter: {fault}"


def test_weights_and_device_are_handed_on_only_when_given() -> None:
    path = "brought_along:Recorder"
    assert recorded(load(path)) == {}
    assert recorded(load(path, weights=None, device="auto")) == {}
    assert recorded(load(path, weights="some.pth")) == {"weights": "some.pth"}
    assert recorded(load(path, device="cpu")) == {"device": "cpu"}
    assert recorded(load(path, "some.pth", "cuda", steps=3)) == {
        "weights": "some.pth",
        "device": "cuda",
        "steps": 3,
    }


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("weights are on fire"), "OSError: weights are on fire"),
        (SystemExit(0), "SystemExit: 0"),
        (MemoryError(), "MemoryError"),
        (BaseException("two\nlines \x1b[31m"), "BaseException: two lines \\x1b[31m"),
    ],
)
def test_whatever_a_segmenter_raises_when_it_is_set_up_is_told_in_one_line(
    error: BaseException, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr(sys.modules["brought_along"], "Recorder", fail)
    with pytest.raises(SegmenterError, match="can't be set up with no arguments: ") as caught:
        load("brought_along:Recorder")
    assert str(caught.value).endswith(f": {text}")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CheckpointError("damaged")])
def test_ctrl_c_and_errors_of_a_checkpoint_stay_what_they_are(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr(sys.modules["brought_along"], "Recorder", fail)
    with pytest.raises(type(error)):
        load("brought_along:Recorder")


def test_a_module_that_ends_the_program_when_it_is_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ends_at_once.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SegmenterError) as caught:
        load("ends_at_once:Class")
    assert str(caught.value) == "segmenter 'ends_at_once:Class' can't be imported: SystemExit: 0"


def test_the_files_of_a_model_are_found_without_loading_it(tmp_path: Path) -> None:
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    tuned, missing = tmp_path / "tuned.pth", tmp_path / "missing.pth"
    for path in (config, weights, tuned):
        path.touch()
    assert find_files() == ()
    assert find_files(f"hf:{tmp_path}") == (config, weights)
    assert find_files(f"hf:{tmp_path}", str(tuned)) == (config, tuned)
    assert find_files("sam_vit_b", str(tuned)) == (tuned,)
    # What else it takes, a segmenter of another package alone knows.
    assert find_files("package.module:Class", str(tuned)) == (tuned,)
    assert find_files("package.module:Class", str(missing)) == ()


def test_the_package_that_finding_a_model_of_the_hub_needs_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SegmenterError, match=r"needs the package huggingface_hub: pip install"):
        find_files("hf:owner/model")
