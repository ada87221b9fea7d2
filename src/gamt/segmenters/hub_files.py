"""Files of models on the Hugging Face hub: found in the cache or a folder, and fetched.

A model is named ``hf:ORG/NAME``, ``hf:ORG/NAME@REVISION`` or ``hf:FOLDER``. What looks like one of
the first two is never a folder; such a folder is ``hf:./ORG/NAME``. Nothing is downloaded
while one is loaded: `fetch` does that, into the cache that all programs share which use the hub
(HF_HOME), and from then on no network is needed.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamt.segmenters import HUB
from gamt.segmenters.checkpoints import CheckpointError
from gamt.segmenters.download import TIMEOUT_S, DownloadError, Progress
from gamt.text import hide_login, printable

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""Lists the files of weights that are split up."""

CACHED_REVISION = "main"
"""The revision of a name without one: what was its latest when it was fetched."""

LONGEST_NAME = 96
"""The most characters of ORG/NAME on the hub."""

CONFIG_BYTES = 2**20
"""The largest configuration that is read; published ones have some kB (docs/constants.md)."""

INDEX_BYTES = 10 * 2**20
"""The largest list of files of weights that is read (docs/constants.md)."""

_LISTED = 4
_SHOWN = 200
_WEIGHTS_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{,180}\.safetensors", re.ASCII)
_REPOSITORY = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w.-][\w./-]*))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Where a model's files lie.

    Attributes:
        config: its configuration.
        weights: the files of its weights, which no two have in common.
        revision: the commit of its repository, 40 hexadecimal digits; None of a folder.
    """

    config: Path
    weights: tuple[Path, ...]
    revision: str | None


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """A model that was fetched.

    Attributes:
        folder: of its files.
        name: by which it is loaded from there.
        pinned: by which the hub knows this very revision.
        revision: the commit of its repository.
        licence: as its page states it, such as "apache-2.0"; None where it states none.
        sha256: of each file of weights, in hexadecimal digits, by the file's name.
    """

    folder: Path
    name: str
    pinned: str
    revision: str
    licence: str | None
    sha256: Mapping[str, str]


def find(name: str, weights: Path | None = None) -> HubFiles:
    """Returns where the files of a model lie; asks no network.

    Args:
        name: ``hf:ORG/NAME``, ``hf:ORG/NAME@REVISION`` or ``hf:FOLDER``.
        weights: the file to take in place of the model's own; None takes these.

    Raises:
        CheckpointError: the name is none of these, the model has not been fetched, or a file is
            missing.
    """
    text = name.removeprefix(HUB)
    folder = _find_folder(text)
    if folder and not _match_repository(text):
        return HubFiles(_existing(folder, CONFIG), _weights(folder, weights), None)
    _refuse_telemetry()
    from huggingface_hub import try_to_load_from_cache

    repository, revision = parse_name(name)
    cached = try_to_load_from_cache(repository, CONFIG, revision=revision or CACHED_REVISION)
    if not isinstance(cached, str):
        own = f"; the folder of this name is hf:./{text}" if folder else ""
        raise CheckpointError(
            f"{name} is not among the models fetched from the hub; "
            f"this gets it: gamt weights fetch {name}{own}"
        )
    config = Path(cached)
    try:
        return HubFiles(config, _weights(config.parent, weights), config.parent.name)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; this gets it: gamt weights fetch {name}") from error


def fetch(
    name: str,
    folder: Path | None = None,
    progress: Progress = lambda done, total: None,
    endpoint: str | None = None,
) -> FetchedModel:
    """Downloads a model's configuration and weights, and verifies them.

    What is there and intact is left as it is. A model is fetched in one state: that of its
    repository at this time, or of the revision in its name.

    Args:
        name: ``hf:ORG/NAME`` or ``hf:ORG/NAME@REVISION``.
        folder: where the model gets the folder ORG/NAME, which then holds this state alone; None
            takes the hub's cache.
        progress: called while files are fetched.
        endpoint: the hub's URL; None for the one in the variable HF_ENDPOINT, or else
            huggingface.co.

    Raises:
        DownloadError: the hub can't be reached, has no such model, asks for a login, or has no
            weights in safetensors; or what came isn't what it has published.
        CheckpointError: the name is no model's.
    """
    _refuse_telemetry()
    from huggingface_hub import HfApi

    repository, revision = parse_name(name)
    api = HfApi(endpoint=endpoint)
    url = hide_login(f"{api.endpoint}/{repository}")
    with _quiet(), _explained(url):
        info = api.model_info(repository, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
        files = {one.rfilename: one for one in info.siblings or ()}
        if CONFIG not in files or not {WEIGHTS, INDEX} & files.keys():
            raise DownloadError(f"{url}: found {_list(files)}, expected {CONFIG} and {WEIGHTS}")
        target = None if folder is None else folder.absolute() / repository
        source = _Source(api.endpoint, repository, revision, str(info.sha), files, target)
        weights: Sequence[str] = [WEIGHTS]
        if WEIGHTS not in files:
            index, _ = source.fetch(INDEX)
            weights = _read_index(index)
            if missing := [file for file in weights if file not in files]:
                raise DownloadError(f"{url}: found no {_list(missing)}, which {INDEX} lists")
        report = _sum_up(progress, sum(source.published(file)[0] for file in weights))
        digests = {file: source.fetch(file, report)[1] for file in weights}
        if target and WEIGHTS not in weights:
            (target / WEIGHTS).unlink(missing_ok=True)  # of an earlier state; it would go first
        # Last, as a model is there once its configuration is.
        config, _ = source.fetch(CONFIG)
        return FetchedModel(
            folder=config.parent,
            name=f"{HUB}{target}" if target else name,
            pinned=f"{HUB}{repository}@{info.sha}",
            revision=str(info.sha),
            licence=_find_licence(info),
            sha256=digests,
        )


@dataclass(frozen=True, slots=True)
class _Source:
    """A model on the hub, in one state, and where its files go.

    Attributes:
        endpoint: the hub's URL.
        repository: the model's name on it.
        revision: as the user named it; None without.
        commit: what that is at this time.
        files: what the hub tells of each, by name.
        target: the folder for its files; None for the hub's cache.
    """

    endpoint: str
    repository: str
    revision: str | None
    commit: str
    files: Mapping[str, "RepoSibling"]
    target: Path | None

    @property
    def url(self) -> str:
        """The model's page, as it may be shown."""
        return hide_login(f"{self.endpoint}/{self.repository}")

    def published(self, file: str) -> tuple[int, str]:
        """Returns a file's size in bytes, and its SHA-256, or git's name of its content.

        Raises:
            DownloadError: the hub doesn't tell them, so that nothing could be verified.
        """
        one = self.files[file]
        digest = one.lfs.sha256 if one.lfs else one.blob_id
        if not (isinstance(one.size, int) and isinstance(digest, str)):
            raise DownloadError(f"{self.url}: the hub tells no size and hash of {file}")
        return one.size, digest

    def fetch(
        self, file: str, report: Callable[[int], None] = lambda count: None
    ) -> tuple[Path, str]:
        """Downloads a file, unless it is there, and verifies it; tells of the bytes that come.

        Returns:
            Where it is, and its SHA-256.

        Raises:
            DownloadError: it doesn't come, is another than the one published, or the model has
                changed meanwhile.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils.tqdm import tqdm

        url = f"{self.url}: {file}"
        size, digest = self.published(file)
        left = size

        class Bar(tqdm):
            """Draws nothing, and tells how many bytes have come, before they are written."""

            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options | {"disable": True})  # type: ignore[no-untyped-call]

            def update(self, n: float | None = 1) -> None:
                nonlocal left
                left -= int(n or 0)
                if left < 0:
                    raise DownloadError(f"{url}: more bytes come than the {size} that it lists")
                report(int(n or 0))

        with _explained(url):
            path = hf_hub_download(
                self.repository,
                file,
                # By its name, so that the cache knows what it was; see `find`.
                revision=self.commit if self.target else self.revision,
                local_dir=self.target,
                endpoint=self.endpoint,
                tqdm_class=Bar,
            )
        if self.target is None and self.commit not in Path(path).parts:
            raise DownloadError(
                f"{self.url}: the model has changed meanwhile; give the command again"
            )
        return Path(path), _verify(Path(path), digest)


def _refuse_telemetry() -> None:
    # The library reads this when it is imported. Else it tells the hub which program started it.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def _find_folder(text: str) -> Path | None:
    try:
        folder = Path(text).expanduser()
        return folder if text and folder.is_dir() else None
    except (OSError, RuntimeError):  # the name is too long, or that of no user
        return None


def parse_name(name: str) -> tuple[str, str | None]:
    """Returns the repository in a model's name, and the revision if it has one.

    Raises:
        CheckpointError: the name is no model's.
    """
    text = name.removeprefix(HUB)
    found = _match_repository(text)
    if found is None:
        if _find_folder(text):
            raise CheckpointError(
                f"found {name!r:.99}, a folder, which isn't fetched; expected hf:ORG/NAME or "
                "hf:ORG/NAME@REVISION"
            )
        raise CheckpointError(
            f"found {name!r:.99}, which is no folder, expected hf:ORG/NAME, hf:ORG/NAME@REVISION "
            "or hf:FOLDER"
        )
    return found[1], found[2]


def _match_repository(text: str) -> re.Match[str] | None:
    """Matches what can be a model's name on the hub, within the hub's own limits."""
    found = _REPOSITORY.fullmatch(text)
    if not found or len(found[1]) > LONGEST_NAME:
        return None
    return None if re.search(r"--|\.\.|[.-]$|\.git$", found[1]) else found


def _existing(folder: Path, file: str) -> Path:
    path = folder / file
    if not path.is_file():
        names = sorted(one.name for one in folder.iterdir())
        found = _list(one for one in names if not one.startswith("."))
        raise CheckpointError(f"{folder}: found {found}, expected {file}")
    return path


def _weights(folder: Path, chosen: Path | None) -> tuple[Path, ...]:
    if chosen is not None:
        if not chosen.is_file():
            raise CheckpointError(f"{chosen}: no such checkpoint file")
        return (chosen,)
    if (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
        return tuple(_existing(folder, file) for file in _read_index(folder / INDEX))
    return (_existing(folder, WEIGHTS),)


def read_json(path: Path, most_bytes: int) -> Any:
    """Reads a JSON file of a model.

    Raises:
        CheckpointError: it is larger, or no JSON.
    """
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise CheckpointError(f"{path}: found more than {most_bytes} bytes, expected some kB")
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: found no JSON: {error}") from error


def _read_index(path: Path) -> Sequence[str]:
    """Returns the names of the files that hold weights which are split up."""
    described = read_json(path, INDEX_BYTES)
    files = described.get("weight_map") if isinstance(described, dict) else None
    if not (files and isinstance(files, dict)):
        raise CheckpointError(f"{path}: found no list of files of weights")
    names = sorted({str(file) for file in files.values()})
    if wrong := [name for name in names if not _WEIGHTS_NAME.fullmatch(name)]:
        raise CheckpointError(f"{path}: found {_list(wrong)}, expected files of safetensors")
    return names


def _sum_up(progress: Progress, total: int) -> Callable[[int], None]:
    """Returns what adds up bytes, and tells how many they are."""
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return report


def _verify(path: Path, expected: str) -> str:
    """Returns the SHA-256 of a file, once it has the hash published.

    Args:
        path: the file.
        expected: its SHA-256, or git's name of its content, which is shorter.

    Raises:
        DownloadError: it has another. The file is removed, so that it is fetched anew.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    found = digest
    if len(expected) != len(digest):
        blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        blob.update(path.read_bytes())
        found = blob.hexdigest()
    if found != expected:
        path.resolve().unlink()
        raise DownloadError(
            f"{path}: found the hash {found}, expected {_show(expected)}; it is removed"
        )
    return digest


def _find_licence(info: "ModelInfo") -> str | None:
    tags = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    return tags[0] if tags else None


def _list(names: Any) -> str:
    listed = list(names)
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return (", ".join(map(_show, listed[:_LISTED])) or "no file") + more


def _show(text: str) -> str:
    return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turns whatever fails in the block into a `DownloadError` about a URL without a login."""
    from huggingface_hub.errors import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except DownloadError:
        raise
    except CheckpointError as error:
        raise DownloadError(f"{url}: {error}") from error
    except GatedRepoError as error:
        raise DownloadError(
            f"{url}: the model is gated; accept its terms there in a browser, then set HF_TOKEN to "
            "your token, or log in with 'hf auth login'"
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(f"{url}: the model has no such revision") from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"{url}: no such model, or a private one, which needs HF_TOKEN or 'hf auth login'"
        ) from error
    except OfflineModeIsEnabled as error:
        raise DownloadError(f"{url}: the variable HF_HUB_OFFLINE forbids the network") from error
    except Exception as error:  # the library passes on what its ways of transport fail at
        cause = error.__cause__ or error  # its own texts speak of its cache
        response = getattr(cause, "response", None)
        if response is not None:
            reason = f"HTTP {response.status_code} {response.reason_phrase}"
        elif isinstance(cause, TypeError | AttributeError | LookupError | json.JSONDecodeError):
            reason = "found an answer that is no hub's"
        else:
            reason = " ".join(hide_login(str(cause)).split()) or type(cause).__name__
        raise DownloadError(f"{url}: {_show(reason)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the library from telling of each attempt, with the whole address."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
