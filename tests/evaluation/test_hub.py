"""Fetching the validation set, from a hub on this machine."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluation.hub import HubError, Plan, RemoteFile, fetch, plan
from tests.evaluation.hub_server import COMMIT, Asked, Dataset, Hub
from tests.publisher import closed_port

NAME = "owner/validation"
CASES, GTS, TEXT = "3D_val_npz", "3D_val_gt/3D_val_gt_interactive", "3D_val_gt/3D_val_gt_text"
SIZES = {"CT_a.npz": 3000, "MR_b.npz": 2000, "US_c.npz": 1000, "US_d.npz": 900}


def content(path: str, size: int) -> bytes:
    """Returns bytes that no other path has."""
    return (path.encode() * size)[:size]


def files(names: dict[str, int], *folders: str) -> dict[str, bytes]:
    paths = {f"{folder}/{name}": size for folder in folders for name, size in names.items()}
    return {path: content(path, size) for path, size in paths.items()}


def validation_set() -> Dataset:
    """Returns a data set laid out as the challenge's; US_d has ground truth of text alone."""
    interactive = {name: 500 for name in SIZES if name != "US_d.npz"}
    return Dataset(
        files(SIZES, CASES)
        | files(interactive, GTS)
        | files(dict.fromkeys(SIZES, 400), TEXT)
        | files({"CT_t.npz": 9000}, "3D_train_npz_all/CT")
        | {"README.md": b"read me"}
    )


@pytest.fixture(autouse=True)
def _this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test that asks for another host, and keeps the tester's token and proxies out."""
    hosts: set[str] = set()
    look_up = socket.getaddrinfo

    def record(host: Any, *rest: Any, **options: Any) -> Any:
        hosts.add(host)
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, "kept from the tests")
        return look_up(host, *rest, **options)

    from huggingface_hub import close_session, constants

    monkeypatch.setattr(socket, "getaddrinfo", record)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # read when it was imported
    monkeypatch.setenv("HF_TOKEN", "none")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield
    close_session()
    assert hosts <= {"127.0.0.1"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(validation_set()) as one:
        yield one


def npz_below(folder: Path) -> dict[str, bytes]:
    """Returns the contents of the npz files in a folder, by their paths from it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.npz")
    }


# What there is


def test_a_plan_lists_cases_and_ground_truth_of_the_interactive_track_with_their_sizes(
    hub: Hub,
) -> None:
    planned = plan(NAME, hub.url)
    assert (planned.cases, planned.gts) == (CASES, GTS)
    assert planned.files == (
        RemoteFile(f"{CASES}/CT_a.npz", 3000),
        RemoteFile(f"{GTS}/CT_a.npz", 500),
        RemoteFile(f"{CASES}/MR_b.npz", 2000),
        RemoteFile(f"{GTS}/MR_b.npz", 500),
        RemoteFile(f"{CASES}/US_c.npz", 1000),
        RemoteFile(f"{GTS}/US_c.npz", 500),
    )
    assert planned.bytes == 3000 + 2000 + 1000 + 3 * 500


def test_cases_without_ground_truth_are_reported(hub: Hub) -> None:
    assert plan(NAME, hub.url).without_gts == ("US_d.npz",)


def test_a_plan_tells_the_licence_and_the_page(hub: Hub) -> None:
    planned = plan(NAME, hub.url)
    assert planned.licence == "cc-by-nc-sa-4.0"
    assert planned.url == f"{hub.url}/datasets/{NAME}"


def test_a_data_set_without_a_licence_has_none(hub: Hub) -> None:
    hub.dataset.tags = ("modality:3d",)
    assert plan(NAME, hub.url).licence is None


def test_a_plan_downloads_no_file(hub: Hub) -> None:
    plan(NAME, hub.url)
    assert [one.path for one in hub.asked if "/resolve/" in one.path] == []


def test_the_training_set_is_not_listed(hub: Hub) -> None:
    plan(NAME, hub.url)
    trees = {one.path for one in hub.asked if "/tree/" in one.path}
    top = f"/api/datasets/{NAME}/tree/{COMMIT}"
    assert trees == {top, f"{top}/{CASES}", f"{top}/3D_val_gt"}


@pytest.mark.parametrize("gts", ["3D_val_gt", "3D_val_gt_interactive_seg", "3D_val_gt/any"])
def test_ground_truth_may_lie_in_any_one_folder(hub: Hub, gts: str) -> None:
    hub.dataset.files = files(SIZES, CASES, gts)
    assert plan(NAME, hub.url).gts == gts


def test_a_folder_at_the_top_named_interactive_goes_before_another(hub: Hub) -> None:
    hub.dataset.files = files(SIZES, CASES, "3D_val_gt", "3D_val_gt_interactive_seg")
    assert plan(NAME, hub.url).gts == "3D_val_gt_interactive_seg"


# What there is not


def test_folders_that_are_not_there_are_an_error_that_says_which_are(hub: Hub) -> None:
    hub.dataset.files = files(SIZES, CASES, "3D_train_npz_all")
    expected = f"{hub.url}/datasets/{NAME}: found the folders 3D_train_npz_all, {CASES}, expected"
    with pytest.raises(HubError, match=expected):
        plan(NAME, hub.url)


def test_archives_in_place_of_npz_are_an_error_that_says_what_was_found(hub: Hub) -> None:
    hub.dataset.files = files(SIZES, CASES) | files({"a.zip": 9, "b.zip": 9, "c.md": 9}, GTS)
    with pytest.raises(HubError, match=r"found 2 \.zip, 1 \.md, expected npz files"):
        plan(NAME, hub.url)


def test_ground_truth_of_two_unknown_tracks_is_an_error(hub: Hub) -> None:
    hub.dataset.files = files(SIZES, CASES, "3D_val_gt/one", "3D_val_gt/two")
    with pytest.raises(HubError, match="in 3D_val_gt/one, 3D_val_gt/two, expected one"):
        plan(NAME, hub.url)


def test_ground_truth_of_other_cases_is_an_error(hub: Hub) -> None:
    hub.dataset.files = files({"CT_a.npz": 9}, CASES) | files({"CT_b.npz": 9}, GTS)
    with pytest.raises(HubError, match=f"no file name that is in {CASES} and in {GTS}"):
        plan(NAME, hub.url)


def test_another_data_set_is_an_error_that_names_it(hub: Hub) -> None:
    with pytest.raises(HubError, match=f"^{hub.url}/datasets/owner/other: no such data set"):
        plan("owner/other", hub.url)


def test_a_name_that_is_none_is_an_error_that_names_it(hub: Hub) -> None:
    with pytest.raises(HubError, match=r"datasets/not a name: Repo id must use"):
        plan("not a name", hub.url)


def test_terms_to_accept_are_an_error_that_says_how(hub: Hub) -> None:
    hub.dataset.gated = True
    with pytest.raises(HubError, match=f"^{hub.url}/datasets/{NAME}: .*hf auth login"):
        plan(NAME, hub.url)


def test_no_network_is_an_error_in_one_line_that_names_the_hub() -> None:
    endpoint = closed_port()
    with pytest.raises(HubError) as caught:
        plan(NAME, endpoint)
    assert str(caught.value).startswith(f"{endpoint}/datasets/{NAME}: ")
    assert "\n" not in str(caught.value)


# Fetching


def test_the_whole_set_is_fetched_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    planned = plan(NAME, hub.url)
    fetched = fetch(planned, tmp_path / "new" / "folder")
    assert fetched.cases == tmp_path / "new" / "folder" / CASES
    assert fetched.gts == tmp_path / "new" / "folder" / GTS
    assert npz_below(tmp_path / "new" / "folder") == {
        file.path: hub.dataset.files[file.path] for file in planned.files
    }


def test_progress_is_told_in_bytes(hub: Hub, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    fetch(plan(NAME, hub.url), tmp_path, lambda done, total: told.append((done, total)))
    assert (told[0], told[-1]) == ((0, 7500), (7500, 7500))
    assert told == sorted(told)
    assert len(told) == 1 + 6  # files


def test_what_is_there_is_not_asked_for_again(hub: Hub, tmp_path: Path) -> None:
    planned = plan(NAME, hub.url)
    first = fetch(planned, tmp_path)
    hub.asked.clear()
    assert fetch(planned, tmp_path) == first
    assert hub.asked == []


def test_only_what_changed_in_the_data_set_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    fetch(plan(NAME, hub.url), tmp_path)
    changed = f"{CASES}/MR_b.npz"
    hub.dataset.files[changed] = b"another"
    hub.dataset.commit = "f" * 40
    hub.asked.clear()
    fetch(plan(NAME, hub.url), tmp_path)
    assert [one.path for one in hub.downloads()] == [
        f"/datasets/{NAME}/resolve/{'f' * 40}/{changed}"
    ]
    assert (tmp_path / changed).read_bytes() == b"another"


def test_the_size_of_what_is_missing_is_known_before(hub: Hub, tmp_path: Path) -> None:
    planned = plan(NAME, hub.url)
    assert planned.missing_bytes(tmp_path) == 7500
    fetch(planned, tmp_path)
    assert planned.missing_bytes(tmp_path) == 0
    (tmp_path / CASES / "US_c.npz").unlink()
    (tmp_path / GTS / "CT_a.npz").write_bytes(b"short")
    assert planned.missing_bytes(tmp_path) == 1000 + 500


def test_a_connection_that_is_cut_goes_on_after_the_last_whole_block(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, cut = plan(NAME, hub.url), f"{CASES}/CT_a.npz"
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's attempts
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)
    hub.dataset.cuts[cut] = [1200]  # 2 blocks of 500, and 200 that are lost
    fetch(planned, tmp_path)
    assert (tmp_path / cut).read_bytes() == hub.dataset.files[cut]
    url = f"/datasets/{NAME}/resolve/{COMMIT}/{cut}"
    assert [one for one in hub.downloads() if one.path == url] == [
        Asked("GET", url, None),
        Asked("GET", url, "bytes=1000-"),
    ]


def test_after_an_interruption_only_what_was_not_done_is_fetched(hub: Hub, tmp_path: Path) -> None:
    planned, refused = plan(NAME, hub.url), f"{GTS}/MR_b.npz"
    hub.dataset.refusals[refused] = [403]
    with pytest.raises(HubError, match=f"{refused}: HTTP 403 Forbidden"):
        fetch(planned, tmp_path)
    there = npz_below(tmp_path)
    assert refused not in there
    hub.asked.clear()
    fetch(planned, tmp_path)
    prefix = f"/datasets/{NAME}/resolve/{COMMIT}/"
    asked = {one.path.removeprefix(prefix) for one in hub.downloads()}
    assert asked == {file.path for file in planned.files} - there.keys()
    assert npz_below(tmp_path).keys() == {file.path for file in planned.files}


def test_a_file_that_was_under_way_at_an_interruption_begins_anew(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's attempts
    planned, cut = plan(NAME, hub.url), f"{CASES}/CT_a.npz"
    hub.dataset.cuts[cut] = [1200, 0, 0, 0, 0, 0, 0]
    with pytest.raises(HubError, match=f"^{planned.url}/resolve/{COMMIT}/{cut}: "):
        fetch(planned, tmp_path)
    assert cut not in npz_below(tmp_path)
    hub.dataset.cuts.clear()
    hub.asked.clear()
    fetch(planned, tmp_path)
    url = f"/datasets/{NAME}/resolve/{COMMIT}/{cut}"
    assert [one for one in hub.downloads() if one.path == url] == [Asked("GET", url, None)]
    assert (tmp_path / cut).read_bytes() == hub.dataset.files[cut]


def test_a_set_that_does_not_fit_is_refused_before_anything_is_fetched(
    hub: Hub, tmp_path: Path
) -> None:
    file = RemoteFile(f"{CASES}/CT_a.npz", 2**60)
    planned = Plan(NAME, hub.url, COMMIT, None, CASES, GTS, (file,), ())
    with pytest.raises(HubError, match=f"{2**60} bytes don't fit into {tmp_path}"):
        fetch(planned, tmp_path)
    assert hub.asked == []


def test_a_folder_that_can_not_be_made_is_an_error_that_names_it(hub: Hub, tmp_path: Path) -> None:
    planned = plan(NAME, hub.url)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HubError, match=f"^{tmp_path}/file: "):
        fetch(planned, tmp_path / "file")
