"""The challenge's public validation set, from the Hugging Face hub.

The data set `evaluation.REPOSITORY` holds far more than the validation set; only the cases that
have ground truth for the interactive track are fetched, and that ground truth. It is the
organisers', under CC BY-NC-SA 4.0: not for commercial use.

Why not `huggingface_hub.snapshot_download`: it lists the whole data set, training set included,
before it picks files (6 lists more beside 5,000 training files on the tests' hub, which answers a
list with 1,000 names); and where the hub refuses or can't be reached, it warns and returns the
folder as it is, incomplete. It would save the ten lines of the thread pool in `fetch`.
"""

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CASES_FOLDER = "3D_val_npz"
"""The folder of the cases, at the top of the data set."""

GTS_FOLDER = "3D_val_gt"
"""What the folders at the top begin with that hold the ground truth, perhaps further down."""

TRACK = "interactive"
"""Part of the name of the ground truth's folder, where there is more than one track's."""

_DOWNLOADS = 8  # at a time


class HubError(ValueError):
    """A data set that can't be fetched, or that isn't laid out as expected."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a data set.

    Attributes:
        path: from the top of the data set.
        size: in bytes.
    """

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to fetch.

    Attributes:
        repository: the data set's name on the hub, ``OWNER/NAME``.
        endpoint: the hub's URL.
        commit: the data set's state.
        licence: as the data set states it, "cc-by-nc-sa-4.0"; None where it states none.
        cases: the cases' folder in the data set.
        gts: the folder of their ground truth in the data set.
        files: cases and ground truth, a file of equal name in each folder.
        without_gts: file names of the cases that have no ground truth; they aren't fetched.
    """

    repository: str
    endpoint: str
    commit: str
    licence: str | None
    cases: str
    gts: str
    files: tuple[RemoteFile, ...]
    without_gts: tuple[str, ...]

    @property
    def url(self) -> str:
        """The data set's page."""
        return f"{self.endpoint}/datasets/{self.repository}"

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files)

    def missing_bytes(self, folder: Path) -> int:
        """Returns the size of the files that a folder doesn't have yet, or not whole."""
        return sum(file.size for file in self.files if _size(folder / file.path) != file.size)


@dataclass(frozen=True, slots=True)
class FetchedSet:
    """Where a validation set lies.

    Attributes:
        cases: folder of npz files without ground truth.
        gts: folder of npz files of the same names, with `gts`.
    """

    cases: Path
    gts: Path


def plan(repository: str, endpoint: str | None = None) -> Plan:
    """Asks the hub what a validation set consists of; fetches nothing.

    Args:
        repository: the data set, ``OWNER/NAME``.
        endpoint: the hub's URL; None for the one in the variable HF_ENDPOINT, or else
            huggingface.co.

    Raises:
        HubError: the hub can't be reached, or the data set isn't there or holds no such set.
    """
    _refuse_telemetry()
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint)
    url = f"{api.endpoint}/datasets/{repository}"
    with _explained(url):
        # All that is asked for: else the hub lists every file of the training set too.
        info = api.dataset_info(repository, expand=["sha", "tags"])
        commit = str(info.sha)
        tops = _list_folders(api, repository, commit)
        gts_tops = [top for top in tops if top.startswith(GTS_FOLDER)]
        if CASES_FOLDER not in tops or not gts_tops:
            found = f"found the folders {', '.join(tops) or 'none'}"
            raise HubError(f"{url}: {found}, expected {CASES_FOLDER} and {GTS_FOLDER}")
        case_files = _list_files(api, repository, commit, [CASES_FOLDER])
        gts_files = _list_files(api, repository, commit, gts_tops)
    cases_folder, cases = _one_folder(case_files, url)
    of_track = [file for file in gts_files if TRACK in file.path.lower()]
    gts_folder, gts = _one_folder(of_track or gts_files, url)
    pairs = [(cases[name], gts[name]) for name in sorted(cases.keys() & gts.keys())]
    if not pairs:
        raise HubError(f"{url}: found no file name that is in {cases_folder} and in {gts_folder}")
    licences = [tag for tag in info.tags or [] if tag.startswith("license:")]
    return Plan(
        repository=repository,
        endpoint=api.endpoint,
        commit=commit,
        licence=licences[0].removeprefix("license:") if licences else None,
        cases=cases_folder,
        gts=gts_folder,
        files=tuple(file for pair in pairs for file in pair),
        without_gts=tuple(sorted(cases.keys() - gts.keys())),
    )


def fetch(
    plan: Plan, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> FetchedSet:
    """Puts a validation set into a folder, in the data set's own folders.

    Files that are there already aren't fetched again, nor is one asked for while the data set
    stays as it is. Where a connection is cut, the library goes on from the last whole 10 MB; after
    an interruption of the whole, the files that were under way are fetched anew.

    Args:
        plan: what to fetch.
        folder: made where there is none. It also gets the library's notes, in ``.cache``.
        progress: called with the bytes of the files that are there and of all, first with 0.

    Raises:
        HubError: a file can't be fetched, or the files don't fit into the folder.
    """
    _refuse_telemetry()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    with _explained(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        missing, free = plan.missing_bytes(folder), shutil.disk_usage(folder).free
    if missing > free:
        raise HubError(f"{missing} bytes don't fit into {folder}, where {free} are free")

    def fetch_file(file: RemoteFile) -> None:
        with _explained(f"{plan.url}/resolve/{plan.commit}/{file.path}"):
            hf_hub_download(
                plan.repository,
                file.path,
                repo_type="dataset",
                revision=plan.commit,
                local_dir=folder,
                endpoint=plan.endpoint,
            )

    done = 0
    progress(done, plan.bytes)
    pool = ThreadPoolExecutor(_DOWNLOADS)
    try:
        files = {pool.submit(fetch_file, file): file for file in plan.files}
        for future in as_completed(files):
            future.result()
            done += files[future].size
            progress(done, plan.bytes)
    finally:
        pool.shutdown(cancel_futures=True)
    return FetchedSet(folder / plan.cases, folder / plan.gts)


def _refuse_telemetry() -> None:
    # The library reads this when it is imported. Else it asks the hub for a list of programs that
    # may have started it, and tells it which one did.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turns whatever fails in the block into a `HubError` about a URL."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        yield
    except HubError:
        raise
    except GatedRepoError as error:
        how = "accept its terms there in a browser, then log in with 'hf auth login'"
        raise HubError(f"{url}: the data set asks for a login; {how}") from error
    except RepositoryNotFoundError as error:
        raise HubError(f"{url}: no such data set, or it is private") from error
    except HfHubHTTPError as error:
        reason = f"HTTP {error.response.status_code} {error.response.reason_phrase}"
        raise HubError(f"{url}: {reason}") from error
    except Exception as error:  # the library passes on what its ways of transport fail at
        cause = error.__cause__ or error  # its own texts speak of its cache
        text = " ".join(str(cause).split()) or type(cause).__name__
        raise HubError(f"{url}: {text}") from error


def _list_folders(api: "HfApi", repository: str, commit: str) -> list[str]:
    """Returns the folders at the top of a data set."""
    from huggingface_hub.hf_api import RepoFolder

    found = api.list_repo_tree(repository, revision=commit, repo_type="dataset")
    return [one.path for one in found if isinstance(one, RepoFolder)]


def _list_files(
    api: "HfApi", repository: str, commit: str, folders: Iterable[str]
) -> list[RemoteFile]:
    """Returns all files in folders of a data set, and further down."""
    from huggingface_hub.hf_api import RepoFile

    return [
        RemoteFile(one.path, one.size)
        for folder in folders
        for one in api.list_repo_tree(
            repository, folder, recursive=True, revision=commit, repo_type="dataset"
        )
        if isinstance(one, RepoFile)
    ]


def _one_folder(files: Iterable[RemoteFile], url: str) -> tuple[str, dict[str, RemoteFile]]:
    """Returns the one folder that holds npz files, and these by file name."""
    folders: defaultdict[str, dict[str, RemoteFile]] = defaultdict(dict)
    kinds: Counter[str] = Counter()
    for file in files:
        path = PurePosixPath(file.path)
        kinds[path.suffix or path.name] += 1
        if path.suffix == ".npz":
            folders[str(path.parent)][path.name] = file
    if not folders:
        found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "no file"
        raise HubError(f"{url}: found {found}, expected npz files")
    if len(folders) > 1:
        raise HubError(f"{url}: found npz files in {', '.join(sorted(folders))}, expected one")
    return folders.popitem()


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
