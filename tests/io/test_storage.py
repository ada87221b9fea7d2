"""Files behind URLs: on moto's server of S3's protocol, and in fsspec's memory."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from s3fs import S3FileSystem

from gamt.io.storage import (
    MissingError,
    RemotePath,
    StorageError,
    check_writable,
    fetched,
    is_within,
    list_files,
    locate,
    put_whole,
)
from tests.object_storage import ObjectStorage, proxy

FOLDER = RemotePath("s3://scans/in")


@pytest.fixture
def memory() -> "Iterator[fsspec.AbstractFileSystem]":
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def read(file: RemotePath) -> bytes:
    with fetched(file) as path:
        assert path.name == file.name
        return path.read_bytes()


def write(file: RemotePath, content: bytes) -> None:
    with put_whole(file) as path:
        path.write_bytes(content)


def message(error: pytest.ExceptionInfo[StorageError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def connect_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # s3fs tries again by itself
    S3FileSystem.clear_instance_cache()


def test_a_url_is_remote_and_anything_else_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("s3://bucket/folder") == RemotePath("s3://bucket/folder")
    assert locate("folder/a.npz") == tmp_path / "folder" / "a.npz"
    assert locate(Path("folder")) == tmp_path / "folder"
    assert locate("file:///data/cases") == Path("/data/cases")
    assert locate(RemotePath("s3://b/c")) == RemotePath("s3://b/c")


def test_a_login_in_a_url_is_shown_nowhere() -> None:
    place = RemotePath("sftp://user:secret@host/folder")
    assert str(place / "a.npz") == "sftp://host/folder/a.npz"
    assert "secret" not in repr(place)
    place = RemotePath("nonsense://user:secret@host/folder")
    with pytest.raises(StorageError) as error:
        list_files(place)
    assert message(error) == "nonsense://host/folder: Protocol not known: nonsense"


def test_a_folder_is_listed_by_name_with_sizes_and_without_what_is_below(
    objects: ObjectStorage,
) -> None:
    for key, size in {"b.npz": 3, "a.npz": 20, "below/c.npz": 1, "": 0}.items():
        objects.put(f"in/{key}", b"x" * size)  # "" is what consoles make for an empty folder
    objects.put("inner.npz", b"x")
    expected = [("a.npz", 20), ("b.npz", 3), ("below", 0)]
    for folder in (FOLDER, RemotePath("s3://scans/in/")):
        assert [(file.name, size) for file, size in list_files(folder)] == expected


def test_a_file_stands_for_itself(objects: ObjectStorage) -> None:
    objects.put("in/a.npz", b"four")
    objects.put("in/a.npz.old", b"x")
    assert list_files(FOLDER / "a.npz") == [(FOLDER / "a.npz", 4)]


def test_a_listing_is_never_an_earlier_one(objects: ObjectStorage) -> None:
    objects.put("in/a.npz", b"x")
    assert len(list_files(FOLDER)) == 1
    objects.put("in/b.npz", b"x")
    assert [file.name for file, _ in list_files(FOLDER)] == ["a.npz", "b.npz"]


def test_more_objects_than_a_page_holds_are_listed(objects: ObjectStorage) -> None:
    names = [f"{number:04}.npz" for number in range(1001)]  # S3's pages are of 1000
    objects.put_many(f"in/{name}" for name in names)
    assert [file.name for file, _ in list_files(FOLDER)] == names


def test_what_is_put_is_fetched_again_in_place_of_what_was_there(objects: ObjectStorage) -> None:
    objects.put("out/a.npz", b"an earlier one, and longer")
    write(RemotePath("s3://scans/out/a.npz"), b"content")
    assert read(RemotePath("s3://scans/out/a.npz")) == b"content"
    assert objects.list_keys() == ["out/a.npz"]


@pytest.mark.slow
def test_what_is_larger_than_a_part_is_put_and_fetched_whole(objects: ObjectStorage) -> None:
    content = bytes(range(256)) * (120 << 12)  # 120 MiB: parts of 50 MiB
    write(RemotePath("s3://scans/out/a.npz"), content)
    assert read(RemotePath("s3://scans/out/a.npz")) == content


def test_what_fails_before_it_is_put_leaves_the_earlier_object(objects: ObjectStorage) -> None:
    def fail_halfway() -> None:
        with put_whole(RemotePath("s3://scans/out/a.npz")) as path:
            path.write_bytes(b"half")
            raise ZeroDivisionError

    objects.put("out/a.npz", b"an earlier one")
    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert objects.get("out/a.npz") == b"an earlier one"


@pytest.mark.slow
def test_a_put_that_breaks_leaves_the_earlier_object_and_no_parts(
    objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.put("out/a.npz", b"an earlier one")

    def lose_parts(request: bytes) -> int | None:
        return 0 if request.startswith(b"PUT") and b"partNumber=" in request else None

    with proxy(objects.address, lose_parts) as address:
        connect_to(address, monkeypatch)
        with pytest.raises(StorageError) as error:
            write(RemotePath("s3://scans/out/a.npz"), b"new")
    assert message(error).startswith("s3://scans/out/a.npz: ")
    assert objects.get("out/a.npz") == b"an earlier one"
    assert objects.count_uploads() == 0


def test_a_connection_that_breaks_amid_a_file_is_taken_up_again(
    objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 4000
    objects.put("in/a.npz", content)
    asked = []

    def break_once(request: bytes) -> int | None:
        if not request.startswith(b"GET /scans/in/a.npz"):
            return None
        asked.append(request)
        return 500_000 if len(asked) == 1 else None

    with proxy(objects.address, break_once) as address:
        connect_to(address, monkeypatch)
        assert read(FOLDER / "a.npz") == content
    assert len(asked) == 2


@pytest.mark.slow
def test_a_connection_that_keeps_breaking_is_one_line(
    objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.put("in/a.npz", bytes(1_000_000))

    def break_amid(request: bytes) -> int | None:
        return 2000 if request.startswith(b"GET /scans/in/a.npz") else None

    with proxy(objects.address, break_amid) as address:
        connect_to(address, monkeypatch)
        with pytest.raises(StorageError) as error:
            read(FOLDER / "a.npz")
    assert message(error).startswith("s3://scans/in/a.npz: ")


def test_what_is_not_there_is_told_apart(objects: ObjectStorage) -> None:
    with pytest.raises(MissingError) as error:
        list_files(FOLDER)
    assert message(error).startswith("s3://scans/in: not found")
    with pytest.raises(MissingError) as error:
        read(FOLDER / "a.npz")
    assert message(error) == ("s3://scans/in/a.npz: not found (The specified key does not exist.)")
    for call in (list_files, check_writable):
        with pytest.raises(MissingError) as error:
            call(RemotePath("s3://elsewhere/in"))
        assert message(error) == (
            "s3://elsewhere/in: not found (The specified bucket does not exist)"
        )


def test_a_key_that_the_server_does_not_know_is_one_line(objects: ObjectStorage) -> None:
    objects.put("in/a.npz", b"x")
    objects.refuse_strangers()
    for call in (list_files, check_writable):
        with pytest.raises(StorageError) as error:
            call(FOLDER)
        assert message(error).startswith("s3://scans/in: access denied (")


def test_no_credentials_are_one_line(
    objects: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(StorageError) as error:
        list_files(FOLDER)
    assert message(error) == ("s3://scans/in: NoCredentialsError: Unable to locate credentials")


@pytest.mark.slow  # it is tried several times
def test_a_server_that_is_not_there_is_one_line(
    objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_to("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(StorageError) as error:
        list_files(FOLDER)
    assert "http://127.0.0.1:9" in message(error)


def test_whether_a_folder_can_be_written_to_is_found_out_without_a_trace(
    objects: ObjectStorage,
) -> None:
    check_writable(RemotePath("s3://scans/out"))
    assert objects.list_keys() == []
    assert objects.count_uploads() == 0


def test_a_protocol_that_cannot_write_is_one_line() -> None:
    with pytest.raises(StorageError) as error:
        check_writable(RemotePath("http://127.0.0.1/out"))
    assert message(error).startswith("http://127.0.0.1/out: ")


def test_files_lie_within_their_folder_alone(memory: "fsspec.AbstractFileSystem") -> None:
    file = RemotePath("memory://in/a.npz")
    assert is_within(file, RemotePath("memory://in"))
    assert is_within(file, RemotePath("memory:///in/"))
    assert not is_within(file, RemotePath("memory://"))
    assert not is_within(file, RemotePath("memory://in/a.npz"))


def test_other_protocols_work_alike(memory: "fsspec.AbstractFileSystem") -> None:
    folder = RemotePath("memory://folder")
    check_writable(folder)
    with pytest.raises(MissingError):
        list_files(folder)
    write(folder / "a.npz", b"first")
    write(folder / "a.npz", b"other")
    assert list_files(folder) == [(folder / "a.npz", 5)]
    assert read(folder / "a.npz") == b"other"


@pytest.mark.parametrize("missing", ["fsspec", "s3fs"])
def test_a_package_that_is_missing_is_one_line_that_says_what_installs_it(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"  # what can't be imported
        "from gamt.io.storage import RemotePath, list_files\n"
        "try: list_files(RemotePath('s3://bucket/folder'))\n"
        "except ValueError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.count("\n") == 1
    assert told.stdout.startswith("s3://bucket/folder: ")
    assert missing in told.stdout
    assert "pip install 'gamt[cluster]'" in told.stdout
