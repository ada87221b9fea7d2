"""Fetching checkpoints, from a publisher on this machine."""

import hashlib
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gamt.segmenters import download
from gamt.segmenters.checkpoints import Checkpoint
from gamt.segmenters.download import DownloadError, fetch
from tests.costs import cost
from tests.publisher import Asked, Offer, Publisher, archive, closed_port

CONTENT, OTHER = archive(), archive(filling=1)
SIZE = len(CONTENT)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out pauses, the tester's own mirror and proxies."""
    monkeypatch.setattr(download, "PAUSES_S", (0.0, 0.0))
    monkeypatch.delenv("GAMT_WEIGHTS_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher() as one:
        one.offers["/model.pth"] = Offer(CONTENT)
        yield one


@pytest.fixture
def model(publisher: Publisher) -> Checkpoint:
    return publisher.checkpoint(size=SIZE, sha256=digest(CONTENT))


def names(folder: Path) -> list[str]:
    """Returns the files in a folder, but for locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def give_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES_S", ())


# Whole, and in parts


def test_a_file_is_fetched_verified_and_nothing_else_left(
    model: Checkpoint, tmp_path: Path
) -> None:
    seen: list[tuple[int, int | None]] = []
    path, verified = fetch(
        model, tmp_path / "new" / "folder", progress=lambda done, total: seen.append((done, total))
    )
    assert path == tmp_path / "new" / "folder" / "model.pth"
    assert path.read_bytes() == CONTENT
    assert verified == "SHA-256 as published"
    assert names(path.parent) == ["model.pth"]
    assert (seen[0], seen[-1]) == ((0, SIZE), (SIZE, SIZE))
    assert seen == sorted(seen)


def test_what_is_there_and_intact_is_not_fetched_again(
    publisher: Publisher, model: Checkpoint, tmp_path: Path
) -> None:
    fetch(model, tmp_path)
    publisher.asked.clear()
    assert fetch(model, tmp_path) == (tmp_path / "model.pth", "SHA-256 as published")
    assert publisher.asked == []


def test_what_is_there_and_damaged_is_replaced(
    model: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model.pth").write_bytes(OTHER)
    assert fetch(model, tmp_path)[0].read_bytes() == CONTENT
    assert "it is replaced" in caplog.text


def test_a_cut_download_goes_on_where_it_was(
    publisher: Publisher, model: Checkpoint, tmp_path: Path
) -> None:
    publisher.offers["/model.pth"].cuts = [1000, 500]
    assert fetch(model, tmp_path)[0].read_bytes() == CONTENT
    assert publisher.asked == [
        Asked("/model.pth", None, None),
        Asked("/model.pth", "bytes=1000-", '"first"'),
        Asked("/model.pth", "bytes=1500-", '"first"'),
    ]
    assert names(tmp_path) == ["model.pth"]


def test_a_later_call_goes_on_where_an_earlier_one_was_interrupted(
    publisher: Publisher, model: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up_at_once(monkeypatch)
    publisher.offers["/model.pth"].cuts = [1000]
    with pytest.raises(DownloadError, match=f"cut after 1000 of {SIZE} bytes"):
        fetch(model, tmp_path)
    assert names(tmp_path) == ["model.pth.part", "model.pth.part.json"]
    seen: list[int] = []
    path, _ = fetch(model, tmp_path, progress=lambda done, total: seen.append(done))
    assert path.read_bytes() == CONTENT
    assert publisher.asked[-1] == Asked("/model.pth", "bytes=1000-", '"first"')
    assert seen[0] == 1000


def test_a_file_that_was_complete_when_interrupted_is_not_asked_for(
    publisher: Publisher, model: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "verify", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(model, tmp_path)
    publisher.asked.clear()
    assert fetch(model, tmp_path)[0].read_bytes() == CONTENT
    assert publisher.asked == []


def test_a_server_that_sends_no_parts_is_asked_for_the_whole(
    publisher: Publisher, model: Checkpoint, tmp_path: Path
) -> None:
    offer = publisher.offers["/model.pth"]
    offer.ranges, offer.cuts = False, [1000]
    assert fetch(model, tmp_path)[0].read_bytes() == CONTENT
    assert len(publisher.asked) == 2


@pytest.mark.parametrize(
    ("etags", "content"),
    [
        (('"first"', '"second"'), OTHER),  # the server sends the whole of it
        ((None, None), OTHER + b"more"),  # the size of the whole tells
        ((None, None), OTHER[:900]),  # the server has nothing from there on
    ],
    ids=["tag", "longer", "shorter"],
)
def test_parts_of_different_files_are_never_joined(
    etags: tuple[str | None, str | None],
    content: bytes,
    publisher: Publisher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher.offers["/model.pth"] = Offer(CONTENT, etag=etags[0], cuts=[1000])
    with monkeypatch.context() as patch:
        give_up_at_once(patch)
        with pytest.raises(DownloadError):
            fetch(publisher.checkpoint(), tmp_path)
    publisher.offers["/model.pth"] = Offer(content, etag=etags[1])
    newer = publisher.checkpoint(size=len(content), sha256=digest(content))
    assert fetch(newer, tmp_path)[0].read_bytes() == content


def test_a_weak_tag_does_not_promise_the_same_bytes(
    publisher: Publisher, model: Checkpoint, tmp_path: Path
) -> None:
    publisher.offers["/model.pth"] = Offer(CONTENT, etag='W/"first"', cuts=[1000])
    assert fetch(model, tmp_path)[0].read_bytes() == CONTENT
    assert publisher.asked[-1] == Asked("/model.pth", "bytes=1000-", None)


def test_processes_that_fetch_the_same_file_wait_for_each_other(
    publisher: Publisher, tmp_path: Path
) -> None:
    offer = publisher.offers["/model.pth"]
    offer.gate.clear()
    code = f"""
import sys
from pathlib import Path
from gamt.segmenters.checkpoints import Checkpoint
from gamt.cli.console import start_log
from gamt.segmenters.download import fetch
start_log(None)
print(fetch({publisher.checkpoint(sha256=digest(CONTENT))!r}, Path({str(tmp_path)!r}))[1])
"""

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"no_proxy": "127.0.0.1"},
        )

    with start() as first:
        try:
            assert publisher.arrived.wait(60)
            with start() as second:
                assert second.stderr is not None
                assert "another process fetches it" in second.stderr.readline()
                offer.gate.set()
                assert second.communicate()[0] == "SHA-256 as published\n"
        finally:
            offer.gate.set()
        assert first.communicate()[0] == "SHA-256 as published\n"
    assert len(publisher.asked) == 1
    assert (tmp_path / "model.pth").read_bytes() == CONTENT


# What can go wrong


def refused(checkpoint: Checkpoint, folder: Path) -> str:
    """Returns the error of a download that leaves nothing behind."""
    with pytest.raises(DownloadError) as caught:
        fetch(checkpoint, folder)
    assert names(folder) == []
    text = str(caught.value)
    assert checkpoint.url in text
    assert text.endswith(": gamt weights fetch model --from FILE")
    assert "\n" not in text
    return text


def test_another_file_is_refused(publisher: Publisher, tmp_path: Path) -> None:
    expected = publisher.checkpoint(size=SIZE, sha256=digest(OTHER))
    text = refused(expected, tmp_path)
    assert (
        f"this isn't model.pth: found SHA-256 {digest(CONTENT)}, expected {digest(OTHER)}" in text
    )


def test_a_file_of_another_size_is_refused_before_it_is_fetched(
    publisher: Publisher, tmp_path: Path
) -> None:
    seen: list[int] = []
    with pytest.raises(DownloadError, match=f"found {SIZE} bytes, expected {SIZE + 1}"):
        fetch(
            publisher.checkpoint(size=SIZE + 1),
            tmp_path,
            progress=lambda done, total: seen.append(done),
        )
    assert seen == []
    assert names(tmp_path) == []


def test_a_missing_file_is_asked_for_once(publisher: Publisher, tmp_path: Path) -> None:
    assert "HTTP 404 Not Found" in refused(publisher.checkpoint("/none.pth"), tmp_path)
    assert len(publisher.asked) == 1


def test_a_busy_server_is_asked_again(
    publisher: Publisher, model: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publisher.offers["/model.pth"].refusals = [503, 429]
    assert fetch(model, tmp_path)[0].read_bytes() == CONTENT
    assert "HTTP 503 Service Unavailable; trying again in 0 s" in caplog.text


def test_a_server_that_stays_busy_is_given_up(publisher: Publisher, tmp_path: Path) -> None:
    publisher.offers["/model.pth"].refusals = [503] * 9
    assert "HTTP 503" in refused(publisher.checkpoint(), tmp_path)
    assert len(publisher.asked) == 3  # once, and after each of the two pauses


def test_progress_earns_new_attempts(
    publisher: Publisher, model: Checkpoint, tmp_path: Path
) -> None:
    publisher.offers["/model.pth"].cuts = [100] * 9
    assert fetch(model, tmp_path)[0].read_bytes() == CONTENT
    assert len(publisher.asked) == 10


def test_no_network_is_one_line(publisher: Publisher, tmp_path: Path) -> None:
    url = f"{closed_port()}/model.pth"
    assert "refused" in refused(publisher.checkpoint(url=url), tmp_path)


def test_a_silent_server_is_given_up(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.1)
    publisher.offers["/model.pth"].gate.clear()
    try:
        assert "timed out" in refused(publisher.checkpoint(), tmp_path)
    finally:
        publisher.offers["/model.pth"].gate.set()


@pytest.mark.parametrize("url", ["nonsense", "http://[1/", "gopher://127.0.0.1/model.pth"])
def test_what_is_no_url_is_one_line(url: str, publisher: Publisher, tmp_path: Path) -> None:
    refused(publisher.checkpoint(url=url), tmp_path)


def test_a_full_disk_is_found_out_first(
    model: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=SIZE - 1))
    text = refused(model, tmp_path)
    assert f"{SIZE} bytes don't fit into {tmp_path}, where {SIZE - 1} are free" in text


def test_a_disk_that_fills_up_meanwhile_is_one_line_and_nothing_is_left(
    publisher: Publisher, model: Checkpoint, tmp_path: Path
) -> None:
    # Stands for a full disk: the process may write no file beyond 2000 bytes.
    code = f"""
import resource
from pathlib import Path
from gamt.segmenters.checkpoints import Checkpoint
from gamt.segmenters.download import fetch
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    fetch({model!r}, Path({str(tmp_path)!r}))
except OSError as error:
    print(f"{{error.filename}}: {{error.strerror}}")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"no_proxy": "127.0.0.1"},
        check=True,
    )
    assert done.stdout == f"{tmp_path}/model.pth.part: File too large\n"
    assert names(tmp_path) == []


def unsized(content: bytes) -> Offer:
    """Offers a file without saying how long it is."""
    return Offer(content, sized=False, ranges=False)


def fetched_bytes(checkpoint: Checkpoint, folder: Path, error: str) -> int:
    """Returns how many bytes were kept, at most, of a download that is refused."""
    seen: list[int] = []
    with pytest.raises(DownloadError, match=error):
        fetch(checkpoint, folder, progress=lambda done, total: seen.append(done))
    assert names(folder) == []
    return max(seen, default=0)


def test_no_more_is_written_than_the_known_size(publisher: Publisher, tmp_path: Path) -> None:
    publisher.offers["/model.pth"] = unsized(CONTENT + bytes(2**21))
    known = publisher.checkpoint(size=SIZE, sha256=digest(CONTENT))
    assert fetched_bytes(known, tmp_path, f"found more than {SIZE} bytes") <= SIZE


@pytest.mark.parametrize("sized", [True, False], ids=["it says its size", "it does not"])
def test_a_file_far_larger_than_about_its_size_is_refused(
    sized: bool, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.offers["/model.pth"] = replace(unsized(archive() + bytes(2**21)), sized=sized)
    about = publisher.checkpoint(approximate_size=SIZE)
    most = 2 * SIZE
    error = f"expected {most} at most" if sized else f"found more than {most} bytes"
    assert fetched_bytes(about, tmp_path, error) <= most


def test_fewer_bytes_than_the_known_size_are_an_error(publisher: Publisher, tmp_path: Path) -> None:
    publisher.offers["/model.pth"] = unsized(CONTENT[:900])
    known = publisher.checkpoint(size=SIZE, sha256=digest(CONTENT))
    with pytest.raises(DownloadError, match=f"cut after 900 of {SIZE} bytes"):
        fetch(known, tmp_path)
    assert not (tmp_path / "model.pth").exists()


def test_a_size_of_thousands_of_digits_is_no_size(publisher: Publisher, tmp_path: Path) -> None:
    offer = publisher.offers["/model.pth"]
    offer.headers["Content-Length"] = "9" * 5000
    offer.sized = False
    assert fetch(publisher.checkpoint(), tmp_path)[0].read_bytes() == CONTENT


def test_a_server_that_stalls_is_given_up_and_its_part_kept(
    publisher: Publisher, model: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up_at_once(monkeypatch)
    monkeypatch.setattr(download, "STALL_S", 0.2)
    publisher.offers["/model.pth"].pause_s = 0.02  # 5 kB would take 100 s
    with pytest.raises(DownloadError, match=r"no more than \d+ bytes came in 0 s"):
        fetch(model, tmp_path)
    assert names(tmp_path) == ["model.pth.part", "model.pth.part.json"]
    publisher.offers["/model.pth"].pause_s = None
    assert fetch(model, tmp_path)[0].read_bytes() == CONTENT


def test_a_server_that_cuts_for_ever_is_given_up(
    publisher: Publisher, model: Checkpoint, tmp_path: Path
) -> None:
    publisher.offers["/model.pth"].cuts = [1] * SIZE
    with pytest.raises(DownloadError, match=f"cut after 50 of {SIZE} bytes"):
        fetch(model, tmp_path)
    assert len(publisher.asked) == 50


# Addresses


def test_a_redirect_is_followed(publisher: Publisher, model: Checkpoint, tmp_path: Path) -> None:
    publisher.offers["/old.pth"] = Offer(b"moved", redirect="/model.pth")
    moved = replace(model, url=publisher.url("/old.pth"))
    assert fetch(moved, tmp_path)[0].read_bytes() == CONTENT


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A file of this machine that would pass for the model."""
    path = tmp_path / "local" / "model.pth"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("scheme", ["file", "ftp", "data", "gopher", ""])
@pytest.mark.parametrize("way", ["manifest", "redirect", "form"])
def test_no_address_is_followed_but_those_of_the_web(
    way: str, scheme: str, publisher: Publisher, local: Path, tmp_path: Path
) -> None:
    address = {
        "file": local.as_uri(),
        "ftp": f"ftp://127.0.0.1/{local.name}",
        "data": f"data:application/octet-stream;base64,{b64encode(CONTENT).decode()}",
        "gopher": f"gopher://127.0.0.1/{local.name}",
        "": "//[bad",
    }[scheme]
    publisher.offers["/redirect"] = Offer(b"", redirect=address)
    publisher.offers["/form"] = page(ASK.format(action=address))
    url = address if way == "manifest" else publisher.url(f"/{way}")
    refused(publisher.checkpoint(url=url), tmp_path / "weights")
    assert len(publisher.asked) == (way != "manifest")


def test_a_redirect_in_a_circle_is_one_line(publisher: Publisher, tmp_path: Path) -> None:
    publisher.offers["/circle"] = Offer(b"", redirect="/circle")
    assert "infinite loop" in refused(publisher.checkpoint("/circle"), tmp_path)


def test_the_page_of_a_redirect_is_not_read(
    publisher: Publisher, model: Checkpoint, tmp_path: Path
) -> None:
    publisher.offers["/old.pth"] = Offer(bytes(9000), redirect="/model.pth", pause_s=0.1)
    moved = replace(model, url=publisher.url("/old.pth"))
    assert fetch(moved, tmp_path)[0].read_bytes() == CONTENT  # at once: the page takes 15 minutes


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """A publisher with TLS, whose certificate is trusted."""
    pem = tmp_path / "certificate" / "both.pem"
    pem.parent.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    made = ("-keyout", str(pem), "-out", f"{pem}.crt")
    subprocess.run(
        ["openssl", "req", "-x509", *key, *names, *made], check=True, capture_output=True
    )
    monkeypatch.setenv("SSL_CERT_FILE", f"{pem}.crt")
    pem.write_text(pem.read_text() + Path(f"{pem}.crt").read_text())
    with Publisher(pem) as one:
        yield one


def test_a_certificate_that_nobody_vouches_for_is_refused(
    secure: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure.offers["/model.pth"] = Offer(CONTENT)
    assert fetch(secure.checkpoint(), tmp_path / "trusted")[0].read_bytes() == CONTENT
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate" in refused(secure.checkpoint(), tmp_path / "weights")


@pytest.mark.parametrize("way", ["redirect", "form"])
def test_an_address_with_tls_leads_to_none_without(
    way: str, secure: Publisher, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.offers["/model.pth"] = Offer(CONTENT)
    secure.offers["/redirect"] = Offer(b"", redirect=publisher.url("/model.pth"))
    secure.offers["/form"] = page(ASK.format(action=publisher.url("/model.pth")))
    text = refused(secure.checkpoint(f"/{way}"), tmp_path / "weights")
    assert "found an address of http scheme, expected https" in text
    assert publisher.asked == []


# Google Drive

ASK = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<form action="/search"><input type="hidden" name="q" value="no"></form>
<form id="download-form" action="{action}" method="get"><input type="submit" value="Download">
<input type="hidden" name="id" value="A_1"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="0&amp;b">
</form><input type="hidden" name="late" value="no"></body></html>"""
QUOTA = "<html><head><title>Google Drive\n - Quota exceeded</title></head><body>Sorry</body></html>"
CONFIRMED = "/download?id=A_1&export=download&confirm=t&uuid=0%26b"


def page(text: str) -> Offer:
    return Offer(text.encode(), etag=None, kind="text/html; charset=utf-8")


@pytest.fixture
def drive(publisher: Publisher) -> Checkpoint:
    publisher.offers["/uc"] = page(ASK.format(action=publisher.url("/download?authuser=0")))
    publisher.offers[CONFIRMED] = Offer(CONTENT)
    return publisher.checkpoint("/uc?export=download&id=A_1")


def test_the_question_before_a_large_file_is_answered(
    publisher: Publisher, drive: Checkpoint, tmp_path: Path
) -> None:
    publisher.offers[CONFIRMED].cuts = [1000]
    path, verified = fetch(drive, tmp_path)
    assert (path.read_bytes(), verified) == (CONTENT, "checksums inside the file")
    assert names(tmp_path) == ["model.pth", "model.pth.sha256"]
    assert publisher.asked[-1] == Asked(CONFIRMED, "bytes=1000-", '"first"')


def test_another_file_than_the_recorded_one_is_refused(
    publisher: Publisher, drive: Checkpoint, tmp_path: Path
) -> None:
    path, _ = fetch(drive, tmp_path)
    path.unlink()
    publisher.offers[CONFIRMED] = Offer(OTHER)
    with pytest.raises(DownloadError, match=r"model\.pth\.sha256"):
        fetch(drive, tmp_path)
    assert names(tmp_path) == ["model.pth.sha256"]


@pytest.mark.parametrize("behind", [False, True], ids=["at once", "behind the question"])
def test_a_web_page_is_never_stored(
    behind: bool, publisher: Publisher, drive: Checkpoint, tmp_path: Path
) -> None:
    publisher.offers[CONFIRMED if behind else "/uc"] = page(QUOTA)
    title = "Google Drive - Virus scan warning" if behind else "Google Drive - Quota exceeded"
    assert f"a web page came instead of the file: {title}" in refused(drive, tmp_path)


def test_a_long_title_is_cut(publisher: Publisher, tmp_path: Path) -> None:
    publisher.offers["/model.pth"] = page(f"<title>{'no ' * 10_000}</title>")
    text = refused(publisher.checkpoint(), tmp_path)
    assert "no no [...]" in text
    assert len(text) < 500


def test_an_endless_page_is_not_read_to_its_end(publisher: Publisher, tmp_path: Path) -> None:
    # Python's parser takes a time with the square of such a page's length.
    def refuse(count: int) -> None:
        publisher.offers["/model.pth"] = page("<!--" * count)
        assert "without a title" in refused(publisher.checkpoint(), tmp_path)

    assert cost(lambda: refuse(10**6)) < 20 * cost(lambda: refuse(10**5))


def test_a_web_page_that_says_it_is_a_file_is_never_stored(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.offers["/model.pth"] = Offer(QUOTA.encode())
    assert "no torch checkpoint" in refused(publisher.checkpoint(), tmp_path)


# Mirrors and files


def test_the_mirror_is_asked_first(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.offers["/mirror/model.pth"] = Offer(CONTENT)
    monkeypatch.setenv("GAMT_WEIGHTS_MIRROR", publisher.url("/mirror/"))
    assert fetch(publisher.checkpoint(), tmp_path)[0].read_bytes() == CONTENT
    assert [asked.path for asked in publisher.asked] == ["/mirror/model.pth"]


@pytest.mark.parametrize("mirrored", [None, OTHER], ids=["without it", "with another"])
def test_the_publisher_is_asked_where_the_mirror_fails(
    mirrored: bytes | None,
    publisher: Publisher,
    model: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if mirrored:
        publisher.offers["/mirror/model.pth"] = Offer(mirrored)
    monkeypatch.setenv("GAMT_WEIGHTS_MIRROR", publisher.url("/mirror"))
    assert fetch(model, tmp_path)[0].read_bytes() == CONTENT
    assert [asked.path for asked in publisher.asked] == ["/mirror/model.pth", "/model.pth"]
    assert "going on with the publisher" in caplog.text


def test_parts_of_different_sources_are_never_joined(
    publisher: Publisher, model: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up_at_once(monkeypatch)
    publisher.offers["/mirror/model.pth"] = Offer(OTHER, cuts=[1000])
    monkeypatch.setenv("GAMT_WEIGHTS_MIRROR", publisher.url("/mirror"))
    assert fetch(model, tmp_path)[0].read_bytes() == CONTENT
    assert publisher.asked[-1] == Asked("/model.pth", None, None)


def test_if_both_fail_both_are_named(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAMT_WEIGHTS_MIRROR", publisher.url("/mirror"))
    text = refused(publisher.checkpoint("/none.pth"), tmp_path)
    assert publisher.url("/mirror/model.pth: HTTP 404") in text
    assert publisher.url("/none.pth: HTTP 404") in text


def test_a_file_from_elsewhere_is_copied(
    publisher: Publisher, model: Checkpoint, tmp_path: Path
) -> None:
    source = tmp_path / "from.bin"
    source.write_bytes(CONTENT)
    path, verified = fetch(model, tmp_path / "weights", source)
    assert (path.read_bytes(), verified) == (CONTENT, "SHA-256 as published")
    assert names(tmp_path / "weights") == ["model.pth"]
    assert source.exists()
    assert publisher.asked == []


def test_a_file_from_elsewhere_is_recorded_where_it_goes(
    publisher: Publisher, tmp_path: Path
) -> None:
    source = tmp_path / "from.bin"
    source.write_bytes(CONTENT)
    fetch(publisher.checkpoint(), tmp_path / "weights", source)
    assert names(tmp_path) == ["from.bin", "weights"]
    assert names(tmp_path / "weights") == ["model.pth", "model.pth.sha256"]


def test_another_file_from_elsewhere_is_refused(
    model: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, weights = tmp_path / "from.bin", tmp_path / "weights"
    source.write_bytes(OTHER)
    with pytest.raises(DownloadError, match=r"from\.bin: this isn't model\.pth: found SHA-256"):
        fetch(model, weights, source)
    source.write_bytes(CONTENT)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=SIZE - 1))
    with pytest.raises(DownloadError, match=r"from\.bin: .* don't fit"):
        fetch(model, weights, source)
    with pytest.raises(FileNotFoundError, match=r"none\.bin"):
        fetch(model, weights, tmp_path / "none.bin")
    assert names(weights) == []
