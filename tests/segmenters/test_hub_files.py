"""Fetching models from a hub on this machine, and finding what was fetched."""

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gamt.cli.console import UsageError
from gamt.cli.weights import weights_app
from gamt.segmenters import load
from gamt.segmenters.checkpoints import CheckpointError
from gamt.segmenters.download import DownloadError
from gamt.segmenters.hub_files import fetch, find
from gamt.volume.cache import EmbeddingCache, KeyedSlice
from tests.model_hub import COMMIT, NAME, ModelHub, Published
from tests.publisher import closed_port
from tests.small_hub import SMALL


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small model."""
    folder = tmp_path_factory.mktemp("published")
    SMALL["sam"]().save_pretrained(folder)
    own = {path.name: path.read_bytes() for path in folder.iterdir()}
    return own | {"README.md": b"read me", "pytorch_model.bin": b"a pickle"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of the test's own. Fails a test that asks for another host than this machine."""
    from huggingface_hub import close_session, constants

    hosts: set[str] = set()
    look_up = socket.getaddrinfo

    def record(host: Any, *rest: Any, **options: Any) -> Any:
        hosts.add(host)
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, "kept from the tests")
        return look_up(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", record)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # read when it was imported
    monkeypatch.setenv("HF_TOKEN", "none")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield tmp_path / "cache"
    close_session()
    assert hosts <= {"127.0.0.1"}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[ModelHub]:
    with ModelHub(Published(dict(files))) as one:
        yield one


# What is fetched


def test_a_fetched_model_is_loaded_without_a_network(hub: ModelHub) -> None:
    fetch(f"hf:{NAME}", endpoint=hub.url)
    asked = len(hub.asked)
    for name in (f"hf:{NAME}", f"hf:{NAME}@{COMMIT}"):
        segmenter = load(name, device="cpu", dtype="float32")
        assert segmenter.name == name
        assert len(segmenter.encode(np.zeros((1, 20, 30), np.uint8))) == 1
    assert find(f"hf:{NAME}").revision == COMMIT
    assert len(hub.asked) == asked


def test_a_model_has_one_folder_of_encoded_slices_by_all_its_names(
    hub: ModelHub, tmp_path: Path
) -> None:
    fetch(f"hf:{NAME}", endpoint=hub.url)
    copy = fetch(f"hf:{NAME}", tmp_path / "models", endpoint=hub.url)
    one = KeyedSlice.of(np.zeros((20, 30), np.uint8))
    counts = []
    for name in (f"hf:{NAME}", f"hf:{NAME}@{COMMIT}", copy.name):
        segmenter = load(name, device="cpu", dtype="float32")
        cache = EmbeddingCache(segmenter, 10**6, tmp_path / "encoded")
        cache.embed([one])
        counts.append(cache.encoded)
    assert counts == [1, 0, 0]


def test_revision_hash_licence_and_the_name_that_pins_it_are_told(
    hub: ModelHub, cache: Path
) -> None:
    fetched = fetch(f"hf:{NAME}", endpoint=hub.url)
    assert fetched.revision == COMMIT
    assert (fetched.name, fetched.pinned) == (f"hf:{NAME}", f"hf:{NAME}@{COMMIT}")
    assert fetched.licence == "apache-2.0"
    assert fetched.sha256 == {"model.safetensors": hub.sha256("model.safetensors")}
    assert fetched.folder.is_relative_to(cache)
    assert find(fetched.pinned) == find(f"hf:{NAME}")


def test_a_model_without_a_licence_has_none(hub: ModelHub) -> None:
    hub.published.tags = ("mask-generation",)
    assert fetch(f"hf:{NAME}", endpoint=hub.url).licence is None


def test_configuration_and_safetensors_alone_are_fetched(hub: ModelHub) -> None:
    folder = fetch(f"hf:{NAME}", endpoint=hub.url).folder
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_model_goes_into_a_folder_of_its_own_name(hub: ModelHub, tmp_path: Path) -> None:
    fetched = fetch(f"hf:{NAME}@{COMMIT}", tmp_path / "models", endpoint=hub.url)
    assert fetched.folder == tmp_path / "models" / "owner" / "small-model"
    assert (fetched.name, fetched.pinned) == (f"hf:{fetched.folder}", f"hf:{NAME}@{COMMIT}")
    assert find(fetched.name).revision is None


def test_what_is_there_is_not_fetched_again(hub: ModelHub, tmp_path: Path) -> None:
    for folder in (None, tmp_path / "models"):
        fetch(f"hf:{NAME}", folder, endpoint=hub.url)
        hub.asked.clear()
        fetch(f"hf:{NAME}", folder, endpoint=hub.url)
        assert [one for one in hub.asked if one.startswith("GET /owner")] == []


def test_a_later_state_is_fetched_and_the_earlier_one_stays(hub: ModelHub) -> None:
    fetch(f"hf:{NAME}", endpoint=hub.url)
    hub.published.commit = "f" * 40
    assert find(f"hf:{NAME}").revision == COMMIT
    assert fetch(f"hf:{NAME}", endpoint=hub.url).revision == "f" * 40
    assert find(f"hf:{NAME}").revision == "f" * 40
    assert find(f"hf:{NAME}@{COMMIT}").revision == COMMIT


def test_progress_counts_the_bytes_of_the_weights(hub: ModelHub) -> None:
    told: list[tuple[int, int | None]] = []
    fetch(f"hf:{NAME}", progress=lambda *one: told.append(one), endpoint=hub.url)
    size = len(hub.published.files["model.safetensors"])
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_download_that_is_cut_goes_on(hub: ModelHub) -> None:
    hub.published.cut = 10_000
    fetched = fetch(f"hf:{NAME}", endpoint=hub.url)
    content = (fetched.folder / "model.safetensors").read_bytes()
    assert content == hub.published.files["model.safetensors"]


def test_weights_that_are_split_up_are_fetched_all(hub: ModelHub) -> None:
    weights = hub.published.files.pop("model.safetensors")
    parts = {"model-1.safetensors": weights, "model-2.safetensors": b"the rest"}
    index = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    hub.published.files |= parts | {"model.safetensors.index.json": index}
    fetched = fetch(f"hf:{NAME}", endpoint=hub.url)
    assert fetched.sha256 == {name: hub.sha256(name) for name in parts}
    assert [path.name for path in find(f"hf:{NAME}").weights] == list(parts)
    del hub.published.files["model-2.safetensors"]
    hub.published.commit = "f" * 40
    with pytest.raises(DownloadError, match=r"found no model-2\.safetensors, which model"):
        fetch(f"hf:{NAME}", endpoint=hub.url)


# What fails


@pytest.mark.parametrize(("file", "length"), [("model.safetensors", 64), ("config.json", 40)])
def test_a_file_with_another_hash_is_removed(
    file: str, length: int, hub: ModelHub, cache: Path
) -> None:
    wrong = "0" * length  # a SHA-256, or git's SHA-1
    hub.published.hashes[file] = wrong
    with pytest.raises(
        DownloadError, match=f"found the hash [0-9a-f]{{{length}}}, expected {wrong}"
    ):
        fetch(f"hf:{NAME}", endpoint=hub.url)
    with pytest.raises(CheckpointError, match="gamt weights fetch"):
        find(f"hf:{NAME}")


def test_a_folder_holds_the_weights_of_one_state(hub: ModelHub, tmp_path: Path) -> None:
    fetch(f"hf:{NAME}", tmp_path, endpoint=hub.url)
    weights = hub.published.files.pop("model.safetensors")
    index = b'{"weight_map": {"a": "model-1.safetensors"}}'
    hub.published.files |= {"model-1.safetensors": weights, "model.safetensors.index.json": index}
    hub.published.commit = "f" * 40
    fetched = fetch(f"hf:{NAME}", tmp_path, endpoint=hub.url)
    assert [path.name for path in find(fetched.name).weights] == ["model-1.safetensors"]


@pytest.mark.parametrize(
    ("index", "message"),
    [(b"{", "found no JSON"), (b'{"weight_map": {}}', "found no list of files of weights")],
)
def test_an_index_that_is_none_is_told_with_the_models_address(
    index: bytes, message: str, hub: ModelHub
) -> None:
    del hub.published.files["model.safetensors"]
    hub.published.files["model.safetensors.index.json"] = index
    with pytest.raises(DownloadError, match=f"{hub.url}/{NAME}: .*{message}"):
        fetch(f"hf:{NAME}", endpoint=hub.url)


@pytest.mark.parametrize("told", [{"lfs": None, "blobId": None}, {"size": None}, {"size": "x"}])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_file_whose_hash_or_size_is_not_told_is_not_fetched_and_what_is_there_stays(
    file: str, told: dict[str, Any], hub: ModelHub
) -> None:
    there = fetch(f"hf:{NAME}", endpoint=hub.url).folder / file
    hub.published.told[file] = told
    hub.asked.clear()
    with pytest.raises(DownloadError, match=f"{NAME}: the hub tells no size and hash of {file}"):
        fetch(f"hf:{NAME}", endpoint=hub.url)
    assert there.read_bytes() == hub.published.files[file]
    assert not [one for one in hub.asked if one.startswith("GET /owner") and file in one]


def test_no_more_is_written_than_the_size_that_is_told(hub: ModelHub, cache: Path) -> None:
    hub.published.told["model.safetensors"] = {"size": 1000}
    with pytest.raises(DownloadError, match="more bytes come than the 1000 that it lists"):
        fetch(f"hf:{NAME}", endpoint=hub.url)
    assert all(one.stat().st_size <= 1000 for one in cache.rglob("*") if one.is_file())


def test_a_hub_that_answers_nothing_is_given_up(
    hub: ModelHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gamt.segmenters.hub_files.TIMEOUT_S", 0.2)
    hub.awake.clear()
    with pytest.raises(DownloadError, match=f"{hub.url}/{NAME}: .*timed out"):
        fetch(f"hf:{NAME}", endpoint=hub.url)
    hub.awake.set()


def test_an_answer_that_is_no_hubs_is_told_as_that(hub: ModelHub) -> None:
    hub.published.told["config.json"] = {"lfs": {"size": 3}}
    with pytest.raises(DownloadError, match="found an answer that is no hub's"):
        fetch(f"hf:{NAME}", endpoint=hub.url)


def test_the_login_in_the_hubs_address_is_shown_nowhere(
    hub: ModelHub, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("huggingface_hub").addHandler(caplog.handler)
    hub.published.cut = 10_000  # of which the library tells
    fetch(f"hf:{NAME}", endpoint=hub.url.replace("//", "//user:SECRET@"))
    logging.getLogger("huggingface_hub").removeHandler(caplog.handler)
    assert hub.published.cut is None
    for url in (hub.url, closed_port()):
        with pytest.raises(DownloadError, match=f"{url}/owner/another: ") as caught:
            fetch("hf:owner/another", endpoint=url.replace("//", "//user:SEC@RET@"))
        assert "SEC" not in str(caught.value)
    assert "SECRET" not in caplog.text


def test_what_looks_like_a_models_name_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path / NAME, tmp_path / f"{NAME}@{COMMIT}", tmp_path / "word"):
        place.mkdir(parents=True)
        (place / "config.json").touch()
        (place / "model.safetensors").touch()
    for name in (NAME, f"{NAME}@{COMMIT}"):
        with pytest.raises(CheckpointError, match=re.escape(f"this name is hf:./{name}")):
            find(f"hf:{name}")
        assert find(f"hf:./{name}").config == Path(name) / "config.json"
    assert find("hf:word").config == Path("word/config.json")


def test_a_model_without_safetensors_is_refused(hub: ModelHub) -> None:
    del hub.published.files["model.safetensors"]
    expected = r"found .*, expected config\.json and model\.safetensors"
    with pytest.raises(DownloadError, match=expected):
        fetch(f"hf:{NAME}", endpoint=hub.url)


def test_a_gated_model_is_told_where_to_accept_and_how_to_log_in(hub: ModelHub) -> None:
    hub.published.gated = True
    with pytest.raises(DownloadError, match="accept its terms there in a browser") as caught:
        fetch(f"hf:{NAME}", endpoint=hub.url)
    assert str(caught.value).startswith(f"{hub.url}/{NAME}")
    assert "HF_TOKEN" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:owner/another", "no such model, or a private one"),
        (f"hf:{NAME}@{'e' * 40}", "the model has no such revision"),
        (f"hf:{NAME}@v2", "the model has no such revision"),
    ],
)
def test_what_the_hub_does_not_have_is_told_in_one_line(
    name: str, message: str, hub: ModelHub
) -> None:
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(name, endpoint=hub.url)
    assert "\n" not in str(caught.value)


def test_without_a_network_the_address_is_told() -> None:
    url = closed_port()
    with pytest.raises(DownloadError, match=f"{url}/{NAME}: .*[Cc]onnect") as caught:
        fetch(f"hf:{NAME}", endpoint=url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [f"hf:{NAME}", f"hf:{NAME}@v2"])
def test_a_model_that_was_not_fetched_is_told_with_the_command(name: str) -> None:
    expected = f"this gets it: gamt weights fetch {name}"
    with pytest.raises(CheckpointError, match=re.escape(expected)):
        find(name)


@pytest.mark.parametrize(
    "name",
    [
        *("hf:", "hf:word", "hf:a/b/c", "hf:owner/../etc", "hf:/nowhere", "hf:a/b@", "hf:é/b"),
        *(
            "hf:a/b..c",
            "hf:a/b--c",
            "hf:a/b-",
            "hf:~nobody0",
            f"hf:a/{95 * 'b'}",
            f"hf:{600 * 'b'}",
        ),
    ],
)
def test_what_is_neither_a_folder_nor_a_models_name_is_refused(name: str) -> None:
    expected = "which is no folder, expected hf:ORG/NAME, hf:ORG/NAME@REVISION or hf:FOLDER"
    for take in (find, fetch):
        with pytest.raises(CheckpointError, match=re.escape(expected)):
            take(name)


def test_a_folder_is_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a folder, which isn't fetched; expected hf:ORG/NA"):
        fetch(f"hf:{tmp_path}")


# The command


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gamt", "weights", "fetch", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
        timeout=120,
    )


def test_the_command_tells_revision_hash_and_licence(hub: ModelHub, cache: Path) -> None:
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache)}
    done = run(f"hf:{NAME}", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third, fourth = done.stdout.splitlines()
    assert re.fullmatch(rf"hf:{NAME}: {cache}/\S+: verified: hashes as published", first)
    assert second == f"  model.safetensors: SHA-256 {hub.sha256('model.safetensors')}"
    assert third == "  licence: apache-2.0"
    assert fourth == f"  this very revision: hf:{NAME}@{COMMIT}"


def test_the_command_goes_on_after_a_model_that_fails(hub: ModelHub, cache: Path) -> None:
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache)}
    done = run("hf:owner/another", f"hf:{NAME}", **environment)
    assert done.returncode == 1
    assert f"{hub.url}/owner/another: no such model" in done.stderr
    assert "1 of 2 checkpoints failed" in done.stderr
    assert f"hf:{NAME}: " in done.stdout


def test_the_command_tells_how_a_folder_is_loaded(hub: ModelHub, tmp_path: Path) -> None:
    done = run(f"hf:{NAME}", "--dir", str(tmp_path), HF_ENDPOINT=hub.url)
    *_, segmenter, revision = done.stdout.splitlines()
    assert segmenter == f"  segmenter: hf:{tmp_path}/{NAME}"
    assert revision == f"  this very revision: hf:{NAME}@{COMMIT}"


def test_the_command_checks_all_names_first(hub: ModelHub, cache: Path) -> None:
    done = run(f"hf:{NAME}", "hf:word", HF_ENDPOINT=hub.url, HF_HUB_CACHE=str(cache))
    assert done.returncode == 2
    assert "found 'hf:word', which is no folder, expected hf:ORG/NAME" in done.stderr
    assert hub.asked == []


def test_a_model_of_the_hub_is_verified_by_fetching_it() -> None:
    done = CliRunner().invoke(weights_app, ["verify", f"hf:{NAME}"])
    assert isinstance(done.exception, UsageError)
    expected = f"hf:{NAME} is verified by 'gamt weights fetch hf:ORG/NAME', with --dir DIR if"
    assert str(done.exception).startswith(expected)


def test_the_command_takes_no_file_for_a_model_of_the_hub(tmp_path: Path) -> None:
    done = run(f"hf:{NAME}", "--from", str(tmp_path / "file"))
    assert done.returncode == 2
    assert "--from is for one NAME of the list, not for hf: names" in done.stderr
